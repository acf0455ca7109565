package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/schollz/progressbar/v3"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/function"
)

// refillSubject is where an event store is asked to refill a stream.
const refillSubject = "eventstore.refill"

const (
	refillTimeout = 10 * time.Second
	refillTries   = 40 // of several event stores one leads, and only that one can
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
		if errors.Is(err, relay.ErrNotLeading) {
			err = &function.Refusal{Code: function.CodeUnavailable, Reason: err.Error()}
		}
		return refilled{First: first, Head: head}, err
	})
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
	done, err := c.ask(ctx, nc)
	if err != nil {
		return fmt.Errorf("refill %s: %w", c.Stream, err)
	}
	bar := progressbar.NewOptions64(int64(max(done.Head, done.First)-done.First+1), //nolint:gosec // positions
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("refilling "+c.Stream), progressbar.OptionClearOnFinish())
	for {
		stream, err := js.Stream(ctx, c.Stream)
		if err == nil && envelope.Ready(stream.CachedInfo().Config.Metadata) {
			state := stream.CachedInfo().State
			if state.LastSeq >= done.Head {
				_ = bar.Finish() // it is for the eye only
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

func (c refillCommand) ask(ctx context.Context, nc *nats.Conn) (done refilled, err error) {
	body, err := json.Marshal(refillRequest(c))
	if err != nil {
		return done, err
	}
	for range refillTries {
		var m *nats.Msg
		ctx, cancel := context.WithTimeout(ctx, refillTimeout)
		m, err = nc.RequestWithContext(ctx, refillSubject, body)
		cancel()
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return done, errors.New("no event store runs; start one with: " + commandName() + " run eventstore")
		case err != nil:
			return done, err
		case m.Header.Get(micro.ErrorCodeHeader) == "":
			return done, json.Unmarshal(m.Data, &done)
		}
		err = errors.New(m.Header.Get(micro.ErrorHeader))
		if m.Header.Get(micro.ErrorCodeHeader) != "503" {
			break
		}
	}
	return done, err
}
