package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
)

// ErrNotLeading says that another relay is the one to ask.
var ErrNotLeading = errors.New("another event store relays")

// Refill has a JetStream stream deleted and made anew from SQL, from a position
// on; zero is the one after what every durable has handled. It answers where
// the stream begins and where it will end. Functions go on where they were.
//
// Errors: an eventstore.InvalidError for a position that would leave out what a
// durable has not handled, or for a stream that is not there; ErrNotLeading.
func (r *Relay) Refill(ctx context.Context, stream string, from uint64) (first, head uint64, err error) {
	w, err := r.leads(stream)
	if err != nil {
		return 0, 0, err
	}
	if w.status().Problem == "" {
		// A durable that was made a moment ago is not saved yet, and its function
		// may have no right to make it again.
		var mismatch *MismatchError // it is what a refill mends
		if err := w.saveFloors(ctx); err != nil && !errors.As(err, &mismatch) {
			return 0, 0, err
		}
	}
	first, head, err = w.begin(ctx)
	if err != nil {
		return 0, 0, err
	}
	if from > first {
		return 0, 0, &eventstore.InvalidError{Field: "from", Reason: fmt.Sprintf("is %d; the most is %d, or a function would miss events", from, first)}
	}
	if from > 0 {
		first = from
	}
	w.mu.Lock()
	w.from = from
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := r.js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, 0, fmt.Errorf("delete stream %s: %w", stream, err)
	}
	return first, head, nil
}

// leads finds who carries a stream, if it is this relay.
func (r *Relay) leads(stream string) (*worker, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.workers[stream]
	switch {
	case !r.leading:
		return nil, ErrNotLeading
	case !ok:
		return nil, &eventstore.InvalidError{Field: "stream", Reason: fmt.Sprintf("is %.40q, and there is no such stream", stream)}
	}
	return w, nil
}

// begin is where a stream that is made anew begins: right after what every
// durable has handled. The history before is in SQL, and handled again by
// nobody. It answers the head too.
func (w *worker) begin(ctx context.Context) (first, head uint64, err error) {
	durables, err := w.r.backend.Durables(ctx, w.stream)
	if err != nil {
		return 0, 0, err
	}
	if head, err = w.r.backend.Head(ctx, w.stream); err != nil {
		return 0, 0, err
	}
	if len(durables) == 0 {
		return 1, head, nil
	}
	lowest := slices.MinFunc(durables, func(a, b eventstore.Durable) int { return int(int64(a.Floor) - int64(b.Floor)) }) //nolint:gosec // positions
	return min(lowest.Floor, head) + 1, head, nil
}
