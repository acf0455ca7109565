package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	jsonv2 "github.com/go-json-experiment/json" // it keeps a body as long as it is
	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

const (
	askTimeout = 10 * time.Second
	askTries   = 40 // of several event stores one leads, and only that one can
	askAgain   = 20 * time.Millisecond
)

// ask makes a request of the event store's process, in JSON, and reads its
// answer. What it refuses is a function.Refusal.
func ask(ctx context.Context, nc *nats.Conn, subject string, request, answer any, wait time.Duration) error {
	body, err := jsonv2.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return errors.New("no event store runs; start one with: " + commandName() + " run " + EventStore)
	case err != nil:
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	if no := host.Refused(m); no != nil {
		return no
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", subject, err)
	}
	return nil
}

// askLeader asks the event stores until the one that leads answers.
func askLeader(ctx context.Context, nc *nats.Conn, subject string, request, answer any) (err error) {
	for range askTries {
		err = ask(ctx, nc, subject, request, answer, askTimeout)
		if no, ok := errors.AsType[*function.Refusal](err); !ok || no.Code != function.CodeUnavailable {
			return err
		}
		time.Sleep(askAgain)
	}
	return err
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
