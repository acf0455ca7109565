package function

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/internal/crash"
)

// Whole is a [State] of which every event carries all of it. Only its last event
// is ever read, however many came before. Its Evolve depends on the event alone.
type Whole interface{ Whole() }

// Once has one event happen to an aggregate, under an id that is the effect's
// key: [DeriveID] makes ids. It is for what a handler does to another aggregate
// than its own, like a debit on an account. decide gets that aggregate as it is;
// the zero state when it has no events.
//
// The first event of an id stands. Whoever comes second, after a crash or from
// another process, is answered what is stored, whatever decide would say now. So a
// refusal is an event too: it is remembered, and answers the same key for ever. What
// is stored was never decided on an old state: decide is asked again then.
//
// Callers that meet on one aggregate come one after the other in a process, and
// try again when another process was faster. When ctx, which is a handler's, ends
// first, that is too much at once: an event waits in hand then, and a request is
// answered with 429.
func Once[S State[S, D], D DomainEvent](ctx context.Context, aggregate, id string, decide func(state S) D) (D, error) {
	var none D
	var zero S
	r, ok := ctx.Value(runnerKey{}).(*Runner)
	if !ok {
		return none, errors.New("function.Once: the context is not a handler's")
	}
	key := aggregateKey{zero.Stream(), aggregate}
	leave, err := r.cache.turns.take(ctx, key)
	if err != nil {
		return none, fmt.Errorf("wait for a turn at %s %q: %w: %w", key.stream, aggregate, eventstore.ErrOverloaded, err)
	}
	defer leave()
	seen, known := remembered[S](r, aggregate)
	for wait := firstPause; ; wait = min(2*wait, longestPause) {
		if !known {
			if seen, err = load(ctx, r, aggregate, loaded[S]{}); err != nil {
				return none, err
			}
		}
		stored, err := appendOnce(ctx, r, aggregate, id, seen, decide(seen.state))
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) {
			return stored, err
		}
		r.cache.known.Remove(key)
		known = false
		select {
		case <-ctx.Done():
			return none, fmt.Errorf("%w: %w", eventstore.ErrOverloaded, err)
		case <-time.After(Jitter(wait)):
		}
	}
}

// The pauses between two tries of Once: about as long as an append takes, and
// what makes many processes on one aggregate few.
const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
)

// appendOnce appends what was decided, and answers what is stored under the id.
func appendOnce[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate, id string, seen loaded[S], decided D) (D, error) {
	e, err := newEvent(ctx, r, aggregate, id, decided)
	if err != nil {
		return decided, err
	}
	done, err := r.store.Append(ctx, eventstore.Append{
		Stream: seen.state.Stream(), Aggregate: aggregate, Expected: eventstore.Exactly(seen.version), Events: []eventstore.Event{e},
	})
	if err != nil {
		return decided, err
	}
	crash.At(crash.AfterEffect)
	stored := done.Events[0]
	if done.Duplicate {
		return decodeStored[S](stored)
	}
	seen.state, seen.version, seen.size = seen.state.Evolve(decided), stored.Version, seen.grown(stored)
	remember(r, aggregate, seen)
	return decided, nil
}

func decodeStored[S State[S, D], D DomainEvent](e Message) (D, error) {
	var zero S
	d, err := zero.Decode(e.Type, e.Schema, e.Data)
	if err != nil {
		return d, fmt.Errorf("decode %s at position %d: %w: %w", e.Type, e.Position, ErrDecode, err)
	}
	return d, nil
}

type runnerKey struct{}

// withRunner lets a handler use [Once].
func withRunner(ctx context.Context, r *Runner) context.Context {
	return context.WithValue(ctx, runnerKey{}, r)
}

// turns lets one at a time to each aggregate, in the order in which they came.
type turns struct {
	mu sync.Mutex
	of map[aggregateKey]*turn
}

// turn is whose turn it is: whoever took what free holds.
type turn struct {
	free  chan struct{}
	users int
}

// take waits for its turn, or the context's end.
func (t *turns) take(ctx context.Context, key aggregateKey) (leave func(), err error) {
	t.mu.Lock()
	one, ok := t.of[key]
	if !ok {
		one = &turn{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		t.of[key] = one
	}
	one.users++
	t.mu.Unlock()
	forget := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(t.of, key)
		}
	}
	select {
	case <-one.free:
		return func() { one.free <- struct{}{}; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}
