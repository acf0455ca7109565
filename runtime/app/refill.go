package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

// Where an event store is asked to refill a stream, or to forget a durable.
const (
	refillSubject = "eventstore.refill"
	forgetSubject = "eventstore.forget"
)

type refillRequest struct {
	Stream string `json:"stream"`
	From   uint64 `json:"from"`
}

// refilled is the answer: where the stream begins, and where it will end.
type refilled struct {
	First uint64 `json:"first"`
	Head  uint64 `json:"head"`
}

// refillDoor takes requests to refill a stream.
func refillDoor(r *relay.Relay) function.Door {
	return function.Endpoint(refillSubject, func(ctx context.Context, q refillRequest) (refilled, error) {
		first, head, err := r.Refill(ctx, q.Stream, q.From)
		return refilled{First: first, Head: head}, tryAnother(err)
	})
}

type forgetRequest struct {
	Stream  string `json:"stream"`
	Durable string `json:"durable"`
}

// forgetDoor takes requests to forget a durable.
func forgetDoor(r *relay.Relay) function.Door {
	return function.Endpoint(forgetSubject, func(ctx context.Context, q forgetRequest) (struct{}, error) {
		return struct{}{}, tryAnother(r.Forget(ctx, q.Stream, q.Durable))
	})
}

// tryAnother has who asked an event store that does not lead ask again.
func tryAnother(err error) error {
	if errors.Is(err, relay.ErrNotLeading) {
		return &function.Refusal{Code: function.CodeUnavailable, Reason: err.Error()}
	}
	return err
}

type forgetCommand struct {
	Stream   string `arg:"" help:"The stream, like ORDERS."`
	Function string `arg:"" help:"The function; its durable has the same name."`
}

// Help is shown by forget --help.
func (forgetCommand) Help() string {
	return "Deletes the durable of a function that no longer runs, and where it stood. When one of that name runs again " +
		"it begins as a new one does, which may be with the stream's whole history.\n\nExample:\n\n  $ " + commandName() + " forget ORDERS payment"
}

// Run asks the event store that leads.
func (c forgetCommand) Run(ctx context.Context, s *session, client *Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	running, err := discovery.Find(ctx, nc, "")
	if err != nil {
		return err
	}
	for _, i := range running {
		if i.Name == c.Function {
			return fmt.Errorf("forget %s of %s: it is running on %s: stop it first", c.Function, c.Stream, i.Metadata[discovery.MetadataHost])
		}
	}
	var done struct{}
	if err := askLeader(ctx, nc, forgetSubject, forgetRequest{Stream: c.Stream, Durable: c.Function}, &done); err != nil {
		return fmt.Errorf("forget %s of %s: %w", c.Function, c.Stream, err)
	}
	fmt.Fprintf(s.stdout, "%s of %s is forgotten; where functions may make no durable: %s provision\n", c.Function, c.Stream, commandName())
	return nil
}

type refillCommand struct {
	Stream string `arg:"" help:"The stream, like ORDERS."`
	From   uint64 `help:"The first position; the one after what every function has handled if left out."`
}

// Help is shown by refill --help.
func (refillCommand) Help() string {
	return "Deletes a JetStream stream and has it made anew from SQL, where all events are. Functions may run meanwhile, " +
		"and go on where they were.\n\nExample:\n\n  $ " + commandName() + " refill ORDERS"
}

// Run asks the event store that leads, and waits until the stream is whole.
func (c refillCommand) Run(ctx context.Context, s *session, client *Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	var done refilled
	if err := askLeader(ctx, nc, refillSubject, refillRequest(c), &done); err != nil {
		return fmt.Errorf("refill %s: %w", c.Stream, err)
	}
	bar := Progress(int64(max(done.Head, done.First)-done.First+1), "refilling "+c.Stream) //nolint:gosec // positions
	for {
		stream, err := js.Stream(ctx, c.Stream)
		if err == nil && envelope.Ready(stream.CachedInfo().Config.Metadata) {
			state := stream.CachedInfo().State
			if state.LastSeq >= done.Head {
				_ = bar.Finish() // it is for the eye only
				if state.Msgs == 0 {
					fmt.Fprintf(s.stdout, "%s is empty: what it had is handled, up to position %d\n", c.Stream, state.LastSeq)
					return nil
				}
				fmt.Fprintf(s.stdout, "%s holds the positions %d to %d\n", c.Stream, state.FirstSeq, state.LastSeq)
				return nil
			}
			_ = bar.Set64(int64(state.LastSeq - min(state.LastSeq, done.First-1))) //nolint:gosec // positions
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
