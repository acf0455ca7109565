package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
)

// replayDoor takes the function's own dead letters, to be handled again.
func (h *Host) replayDoor() *function.Request {
	subject := deadletter.ReplaySubject(h.f.Name)
	return function.Endpoint(subject, func(_ context.Context, r deadletter.Replay) (deadletter.Outcome, error) {
		for _, c := range h.consumers {
			if c.stream == r.Event.Stream {
				return c.replay(r)
			}
		}
		return deadletter.Outcome{}, function.Conflict("event.stream", "is %.40q; %s takes the events of %s", r.Event.Stream, h.f.Name, h.consumers[0].stream)
	}).(*function.Request) // it makes no other
}

// replay handles an event as if it had been delivered: keyed, within the
// deadline, under its own cause, so what it had appended before is not appended
// again. What is not the event's fault is an error: then it was not tried.
func (c *consumer) replay(r deadletter.Replay) (deadletter.Outcome, error) {
	door := c.door.doorOf(envelope.Subject(r.Event.Stream, r.Event.Type))
	if door == "" {
		return deadletter.Outcome{}, function.Conflict("event.type", "is %.40q; %s has no door for it", r.Event.Type, c.h.f.Name)
	}
	err := c.door.replay(&delivery{event: r.Event, door: door, position: r.Event.Position, began: time.Now(), edited: r.Edited, observed: nobody{}})
	switch function.FateOf(err, c.h.work.Err() != nil) {
	case function.Handled:
		c.log.Info("event replayed", "position", r.Event.Position, "event_id", r.Event.ID)
		return deadletter.Outcome{}, nil
	case function.Buried, function.Failed:
		c.log.Warn("replayed event failed", "position", r.Event.Position, "event_id", r.Event.ID, "error", err)
		return deadletter.Outcome{Error: headerText(err.Error())}, nil
	default:
		return deadletter.Outcome{}, err
	}
}

// WakeSubject is where a supervisor takes requests to have a replica of a function
// run, though no event waits; WakeSubject("*") of any.
func WakeSubject(name string) string { return "supervisor.wake." + name }

const (
	// wakeTimeout is how long a supervisor may take to answer; coming, how long a
	// replica to open its doors.
	wakeTimeout = 2 * time.Second
	coming      = 10 * time.Second
)

// wake asks a supervisor, where one runs, to have the function run.
func wake(ctx context.Context, nc *nats.Conn, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, WakeSubject(name), nil)
	return err == nil && Refused(m) == nil
}

// ask asks who is only coming.
func ask(ctx context.Context, nc *nats.Conn, subject string, body []byte) (*nats.Msg, error) {
	wait, end := newBackoff(), time.Now().Add(coming)
	for {
		m, err := nc.RequestWithContext(ctx, subject, body)
		if !errors.Is(err, nats.ErrNoResponders) || time.Now().After(end) {
			return m, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// Replayer hands messages to functions over NATS. Where a supervisor has no replica
// run of one, because no event waits, it is asked for one.
func Replayer(nc *nats.Conn) deadletter.Replayer {
	return func(ctx context.Context, name string, r deadletter.Replay) (deadletter.Outcome, error) {
		var outcome deadletter.Outcome
		body, err := json.Marshal(r)
		if err != nil {
			return outcome, fmt.Errorf("replay at %s: %w", name, err)
		}
		m, err := nc.RequestWithContext(ctx, deadletter.ReplaySubject(name), body)
		if errors.Is(err, nats.ErrNoResponders) && wake(ctx, nc, name) {
			m, err = ask(ctx, nc, deadletter.ReplaySubject(name), body)
		}
		if errors.Is(err, nats.ErrNoResponders) {
			return outcome, fmt.Errorf("replay at %s: %w", name, deadletter.ErrNotRunning)
		}
		if err != nil {
			return outcome, fmt.Errorf("replay at %s: %w", name, err)
		}
		if no := Refused(m); no != nil {
			return outcome, &function.Refusal{Code: no.Code, Reason: name + ": " + no.Error()}
		}
		if err := json.Unmarshal(m.Data, &outcome); err != nil {
			return outcome, fmt.Errorf("replay at %s: read answer: %w", name, err)
		}
		return outcome, nil
	}
}
