// Package deadletter keeps what could not be handled, and what became of it. A
// dead letter is an aggregate of the stream DEADLETTERS, so it is in the event
// store and survives what JetStream does not.
//
//	buried → (edited | replayed, and failed again)* → replayed | dropped
//
// [Bury] begins one. An [Office] lists, shows, edits, replays and drops them.
package deadletter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/function"
)

// Stream holds the dead letters; the aggregate of one is what became of one
// message at one function.
const Stream = "DEADLETTERS"

// The events of a dead letter. The data of the first one is a [Letter], that of
// the others a [Change].
const (
	TypeBuried   = "buried"
	TypeEdited   = "edited"
	TypeReplayed = "replayed" // handled, or failed again
	TypeDropped  = "dropped"
)

// Letter is a message that a function gave up on, whole, and why.
type Letter struct {
	Function string `json:"function"`
	// Reason is the kind of the end: rejected, decode, attempts, crashloop,
	// crowded.
	Reason string `json:"reason"`
	// Error is the last error's text.
	Error string `json:"error"`
	// Attempts are the counted ones; Deliveries all of them.
	Attempts   int    `json:"attempts"`
	Deliveries uint64 `json:"deliveries"`
	// Subject, Header and Data are the message as it came; Position is its place
	// in the stream.
	Stream   string              `json:"stream"`
	Subject  string              `json:"subject"`
	Position uint64              `json:"position"`
	Header   map[string][]string `json:"header,omitempty"`
	// Data is the message's body where it is JSON, else Raw is.
	Data json.RawMessage `json:"data,omitzero"`
	Raw  []byte          `json:"raw,omitempty"`
	// EventID is the event's, CorrelationID its flow's; empty if unreadable.
	EventID       string `json:"event_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
}

// The kinds of the end of a message.
const (
	ReasonRejected  = "rejected"
	ReasonDecode    = "decode"
	ReasonAttempts  = "attempts"
	ReasonCrashLoop = "crashloop"
	// ReasonCrowded: it had attempts left, but so many events were in backoff
	// that the others would have stood still. The office replays it.
	ReasonCrowded = "crowded"
)

const (
	maxErrorText = 4 << 10
	// maxLetter leaves room for the event's metadata.
	maxLetter = eventstore.MaxEventBytes - 4<<10
)

// Bury appends the letter. Burying the same message again, because its
// acknowledgement was lost, appends nothing.
func Bury(ctx context.Context, store eventstore.Store, l Letter) error {
	data, err := l.encode()
	if err != nil {
		return fmt.Errorf("bury message %d of %s: %w", l.Position, l.Stream, err)
	}
	id := l.ID()
	_, err = store.Append(ctx, eventstore.Append{
		Stream: Stream, Aggregate: id, Expected: eventstore.Any,
		Events: []eventstore.Event{{
			ID: id, Type: TypeBuried, Time: time.Now(), Source: l.Function,
			CausationID: l.EventID, CorrelationID: l.CorrelationID, Data: data,
		}},
	})
	if err != nil {
		return fmt.Errorf("bury message %d of %s: %w", l.Position, l.Stream, err)
	}
	return nil
}

// ID names the letter: by its function, and by what the message was, since another
// one can be at that position of the stream before it is made anew from the events.
func (l Letter) ID() string {
	position, message := fmt.Sprint(l.Position), l.EventID
	switch {
	case message == "": // it is no event
		message = function.DeriveID(l.Subject, string(l.Data))
	case l.Stream == function.TimersStream:
		position = "" // the same timer comes again, armed anew, at another one
	}
	return function.DeriveID("deadletter", l.Function, l.Stream, position, message)
}

// encode writes the letter small enough to be an event: whoever sent a message
// of the greatest size must not escape burial by it. What is left out is still
// in its stream, at Position.
func (l Letter) encode() ([]byte, error) {
	l.Error = clip(l.Error, maxErrorText)
	if !json.Valid(l.Data) || !utf8.Valid(l.Data) {
		l.Raw, l.Data = l.Data, nil
	}
	data, err := marshal(l)
	if err == nil && len(data) > maxLetter {
		l.Data, l.Raw = nil, nil
		data, err = marshal(l)
	}
	if err == nil && len(data) > maxLetter {
		l.Header = nil
		data, err = marshal(l)
	}
	return data, err
}

// marshal writes a body as it came but for the space between its parts, whatever
// JSON it is, and so no longer. What else is no text, like a header, is mended
// rather than refused: burying must not fail.
func marshal(v any) ([]byte, error) {
	return jsonv2.Marshal(v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), jsontext.PreserveRawStrings(true))
}
