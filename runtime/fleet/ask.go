package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/deadletter"
)

// askTimeout is how long List waits for one number.
const askTimeout = 2 * time.Second

// lag asks JetStream how much waits for a durable, and how much it delivered.
func lag(ctx context.Context, js jetstream.JetStream, stream, durable string) (waits uint64, inHand int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	consumer, err := js.Consumer(ctx, stream, durable)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for consumer %s of %s: %w", durable, stream, err)
	}
	info := consumer.CachedInfo()
	return info.NumPending, info.NumAckPending, nil
}

// openLetters asks how many dead letters of each function are open.
func openLetters(ctx context.Context, nc *nats.Conn) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, deadletter.SubjectList, []byte(`{"limit":1}`))
	if err != nil {
		return nil, fmt.Errorf("ask for dead letters: %w", err)
	}
	if text := m.Header.Get(micro.ErrorHeader); text != "" {
		return nil, errors.New("ask for dead letters: " + text)
	}
	var listed deadletter.Listed
	if err := json.Unmarshal(m.Data, &listed); err != nil {
		return nil, fmt.Errorf("ask for dead letters: %w", err)
	}
	return listed.Open, nil
}
