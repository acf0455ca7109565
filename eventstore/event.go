package eventstore

import (
	"encoding/json"
	"time"
)

// Event is one thing that happened to one aggregate. The writer fills ID,
// Type, Data and what it knows of the rest; the store fills Stream, Aggregate,
// Version and Position, and Time when the writer left it zero.
type Event struct {
	// Stream is the log the event is in, [A-Z][A-Z0-9_]{0,31}.
	Stream string `json:"stream"`
	// Position is the event's place in the stream, from 1.
	Position uint64 `json:"position"`
	// Aggregate is the id of what it happened to, [A-Za-z0-9_-]{1,64}.
	Aggregate string `json:"aggregate"`
	// Version is the event's place in the aggregate, from 1.
	Version uint64 `json:"version"`

	// ID is unique in the stream, and makes appending idempotent:
	// [A-Za-z0-9_-]{1,64}.
	ID string `json:"id"`
	// Type says what happened, in the past tense: [a-z][a-z0-9]{0,31}.
	Type string `json:"type"`
	// Time is when it happened, UTC, in whole microseconds.
	Time time.Time `json:"time"`
	// Schema is the number of the shape of Data, from 1. Zero means 1.
	Schema int `json:"schema"`
	// Source is the function that appended it; may be empty.
	Source string `json:"source,omitempty"`
	// CausationID is the id of the message that caused this event: an event's
	// id or a request's; may be empty.
	CausationID string `json:"causation_id,omitempty"`
	// CorrelationID is the same for every event of one flow; may be empty.
	CorrelationID string `json:"correlation_id,omitempty"`
	// Traceparent is the W3C trace context it was appended under; may be empty.
	Traceparent string `json:"traceparent,omitempty"`

	// Data is the event's content: a JSON value in UTF-8.
	Data json.RawMessage `json:"data"`
}

// Size is what the event counts against [MaxEventBytes] and [MaxAppendBytes]:
// its data and its metadata, in bytes.
func (e Event) Size() int {
	return len(e.Stream) + len(e.Aggregate) + len(e.ID) + len(e.Type) +
		len(e.Source) + len(e.CausationID) + len(e.CorrelationID) +
		len(e.Traceparent) + len(e.Data) + fixedBytes
}

// fixedBytes is what version, position, time and schema take when written out.
const fixedBytes = 64
