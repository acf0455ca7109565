package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// Status is what became of a dead letter.
type Status string

// A letter is unresolved, and counts, until it was replayed or dropped.
const (
	StatusBuried   Status = "buried"
	StatusEdited   Status = "edited"
	StatusFailed   Status = "failed"   // it was replayed, and failed again
	StatusReplayed Status = "replayed" // resolved: the function handled it
	StatusDropped  Status = "dropped"  // resolved
	// StatusUnresolved is no letter's own: it asks for all that are unresolved.
	StatusUnresolved Status = "unresolved"
)

// Resolved tells that nothing is left to do.
func (s Status) Resolved() bool { return s == StatusReplayed || s == StatusDropped }

// Change is what was done to a dead letter.
type Change struct {
	// Function is the letter's, so that no other event is needed to count.
	Function string `json:"function"`
	// By says who did it, and Reason why; both may be empty.
	By     string `json:"by,omitzero"`
	Reason string `json:"reason,omitzero"`
	// Error is why a replay failed; empty if the message was handled.
	Error string `json:"error,omitzero"`
	// Data is the body that a replay hands over from now on.
	Data json.RawMessage `json:"data,omitzero"`
}

// Summary is a dead letter in short.
type Summary struct {
	ID       string `json:"id"`
	Function string `json:"function"`
	Status   Status `json:"status"`
	// Reason is why it was buried; Error the last error, at most 256 bytes.
	Reason string `json:"reason"`
	Error  string `json:"error"`
	// Attempts are those before the burial; Replays those after it.
	Attempts int `json:"attempts"`
	Replays  int `json:"replays"`
	// Stream and Position are where the message is, Subject what it is.
	Stream   string `json:"stream"`
	Position uint64 `json:"position"`
	Subject  string `json:"subject"`
	// EventID is the event's, CorrelationID its flow's; empty if unreadable.
	EventID       string    `json:"event_id,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	Buried        time.Time `json:"buried"`
}

// State is a dead letter whole.
type State struct {
	Summary
	Letter Letter `json:"letter"`
	// Edited is the body that a replay hands over; empty when it is the letter's.
	Edited json.RawMessage `json:"edited,omitzero"`
	// History is what was done, the oldest first; of more than 100 the last.
	History []Entry `json:"history"`
	// Version is the aggregate's.
	Version uint64 `json:"version"`
}

// Entry is one thing that was done to a dead letter.
type Entry struct {
	Time time.Time `json:"time"`
	// What is the event's type; Error, of a replay, why it failed.
	What   string `json:"what"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

const (
	maxSummaryError = 256
	maxHistory      = 100
)

func summarise(e eventstore.Event, l Letter) Summary {
	return Summary{
		ID: e.Aggregate, Function: l.Function, Status: StatusBuried, Reason: l.Reason, Error: clip(l.Error, maxSummaryError),
		Attempts: l.Attempts, Stream: l.Stream, Position: l.Position, Subject: l.Subject,
		EventID: l.EventID, CorrelationID: l.CorrelationID, Buried: e.Time,
	}
}

// evolve is the one place that says what an event does to a letter.
func (s *Summary) evolve(typ string, c Change) {
	switch typ {
	case TypeEdited:
		s.Status = StatusEdited
	case TypeReplayed:
		s.Replays++
		if s.Status = StatusReplayed; c.Error != "" {
			s.Status, s.Error = StatusFailed, clip(c.Error, maxSummaryError)
		}
	case TypeDropped:
		s.Status = StatusDropped
	}
}

var errNotThere = errors.New("there is no such dead letter")

// Find reads the dead letter of an id that [ID] made, from the event store
// itself: false when there is none.
//
// Errors: the store's; that of a letter that can't be read.
func Find(ctx context.Context, store eventstore.Store, id string) (s State, found bool, err error) {
	s, err = fold(store.ReadAggregate(ctx, eventstore.AggregateRead{Stream: Stream, Aggregate: id}))
	if errors.Is(err, errNotThere) {
		return s, false, nil
	}
	return s, err == nil, err
}

// fold makes the state of a dead letter's events.
//
// Errors: errNotThere when there are none; those of the events.
func fold(events iter.Seq2[eventstore.Event, error]) (State, error) {
	s := State{History: []Entry{}}
	for e, err := range events {
		if err == nil {
			err = s.evolve(e)
		}
		if err != nil {
			return s, err
		}
	}
	if s.Version == 0 {
		return s, errNotThere
	}
	return s, nil
}

func (s *State) evolve(e eventstore.Event) error {
	entry := Entry{Time: e.Time, What: e.Type}
	if e.Version == 1 {
		if e.Type != TypeBuried {
			return fmt.Errorf("read dead letter %s: it begins with %q", e.Aggregate, e.Type)
		}
		if err := json.Unmarshal(e.Data, &s.Letter); err != nil {
			return fmt.Errorf("read dead letter %s: %w", e.Aggregate, err)
		}
		s.Summary = summarise(e, s.Letter)
		entry.Reason, entry.Error = s.Letter.Reason, s.Letter.Error
	} else {
		var c Change
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return fmt.Errorf("read dead letter %s, version %d: %w", e.Aggregate, e.Version, err)
		}
		s.Summary.evolve(e.Type, c)
		if e.Type == TypeEdited {
			s.Edited = c.Data
		}
		entry.By, entry.Reason, entry.Error = c.By, c.Reason, c.Error
	}
	s.Version = e.Version
	s.History = append(s.History, entry)
	if len(s.History) > maxHistory {
		s.History = s.History[1:]
	}
	return nil
}

// clip cuts a text to a number of bytes, between characters.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
