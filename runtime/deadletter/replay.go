package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/function"
)

func (o *Office) replay(ctx context.Context, r ReplayRequest) (Summary, error) {
	s, err := o.find(ctx, r.ID)
	if err != nil {
		return Summary{}, err
	}
	return o.replayOne(ctx, s.ID, r.By)
}

// replayOne has the function handle the message again, and records the outcome.
// Whoever crashes in between leaves the letter unresolved: the next replay finds what
// the function has done already.
func (o *Office) replayOne(ctx context.Context, id, by string) (Summary, error) {
	s, err := o.load(ctx, id)
	switch {
	case err != nil:
		return Summary{}, err
	case s.Status == StatusReplayed: // the same again
		return s.Summary, nil
	case s.Status == StatusDropped:
		return Summary{}, function.Conflict("id", "dead letter %s was dropped", id)
	}
	message, err := o.message(ctx, s)
	if err != nil {
		return Summary{}, err
	}
	outcome, err := o.hand(ctx, s.Function, message)
	if err != nil {
		return Summary{}, err
	}
	return o.record(ctx, id, by, outcome.Error)
}

// record says how a replay went; failure is empty if the message was handled.
func (o *Office) record(ctx context.Context, id, by, failure string) (Summary, error) {
	s, err := o.change(ctx, id, func(s State) (string, Change, error) {
		if s.Status.Resolved() {
			return "", Change{}, nil // somebody was faster
		}
		return TypeReplayed, Change{By: by, Error: clip(failure, maxReplayError)}, nil
	})
	if err != nil {
		return Summary{}, fmt.Errorf("record the replay of dead letter %s: %w", id, err)
	}
	return s.Summary, nil
}

// hand gives the message to the function. An error says that it was not handled,
// and that nothing is to be recorded.
func (o *Office) hand(ctx context.Context, name string, r Replay) (Outcome, error) {
	wait := ReplayTimeout(o.opts.Deadlines[name])
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	outcome, err := o.opts.Replay(within, name, r)
	switch {
	case errors.Is(err, ErrNotRunning):
		return outcome, fmt.Errorf("%w: %w", ErrNotRunning, &function.Refusal{
			Code: function.CodeUnavailable, Reason: "no replica of " + name + " runs; start one, and replay again",
		})
	case err != nil && within.Err() != nil && ctx.Err() == nil:
		// It may have ended the process that handled it, so it is recorded.
		return Outcome{Error: fmt.Sprintf("no answer from %s within %v; it may have been handled", name, wait)}, nil
	}
	return outcome, err
}

// message is what a replay hands over: the event as it is stored, or else as
// the letter has it; with the edited data.
func (o *Office) message(ctx context.Context, s State) (Replay, error) {
	e, found, err := o.stored(ctx, s.Letter)
	if err != nil {
		return Replay{}, err
	}
	if !found {
		l := s.Letter
		data := l.Data
		if len(l.Raw) > 0 {
			data = l.Raw
		}
		if e, err = envelope.Parse(l.Subject, l.Header, data, l.Position); err != nil {
			return Replay{}, function.Conflict("id", "dead letter %s is no event, and can't be replayed: %v", s.ID, err)
		}
		if len(data) == 0 || !json.Valid(data) {
			e.Data = nil
		}
	}
	if len(s.Edited) > 0 {
		e.Data = s.Edited
	}
	if len(e.Data) == 0 {
		return Replay{}, function.Conflict("id", "the body of dead letter %s is not JSON, or was too large to be kept; edit it first", s.ID)
	}
	return Replay{Event: e, Edited: len(s.Edited) > 0}, nil
}

// stored reads the message where it was stored. A stream that the store does
// not have, and another event at its place, are found false.
func (o *Office) stored(ctx context.Context, l Letter) (eventstore.Event, bool, error) {
	if readable := l.EventID != "" && l.Position > 0 && eventstore.CheckStream(l.Stream) == nil; !readable {
		return eventstore.Event{}, false, nil
	}
	events, err := eventstore.Collect(o.opts.Store.ReadStream(ctx, eventstore.StreamRead{Stream: l.Stream, From: l.Position, Limit: 1}))
	if err != nil {
		return eventstore.Event{}, false, fmt.Errorf("read %s at position %d: %w", l.Stream, l.Position, err)
	}
	if len(events) == 0 || events[0].Position != l.Position || events[0].ID != l.EventID {
		return eventstore.Event{}, false, nil
	}
	return events[0], true, nil
}
