package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
)

// The streams of a run: orders, accounts, and one of raw appends.
const (
	ordersStream   = order.Stream
	accountsStream = ledger.Stream
	rawStream      = "VERIFY"
)

var streams = []string{ordersStream, accountsStream, rawStream}

const (
	hotAggregates = 60
	// The hot aggregates are others after a while, so that no history becomes
	// too long to be judged. So are the customers: what one may owe is enough for
	// all that they order, but what is to be declined.
	hotFor       = 10 * time.Second
	hotCustomers = 50
	askTimeout   = 5 * time.Second
)

// load is what is asked of the system, and what it answered.
type load struct {
	nc    *nats.Conn
	store eventstore.Store
	began time.Time

	placed, accepted, deposits, appended, conflicts, repeats, reads, unknown atomic.Int64

	mu     sync.Mutex
	orders map[string]ack    // accepted orders, by id
	paidIn map[string]paidIn // deposits, by id
	ops    []op
	wrong  []violation // answers that can't be right
}

// op is one append or read of an aggregate, as its caller saw it.
type op struct {
	Aggregate    string
	Caller       int
	IDs          []string // of an append
	Expected     int64    // of an append
	Call, Return int64    // nanoseconds since the run began
	Outcome      outcome
	// Version is the aggregate's after an append or at a read, or the one that
	// a conflict told.
	Version uint64
	// First is the position of the first event of an append.
	First uint64
}

type outcome string

const (
	stored     outcome = "stored"
	conflicted outcome = "conflict"
	seen       outcome = "read"
	nobodyKnow outcome = "unknown" // the run ended before an answer came
)

func (l *load) now() int64 { return int64(time.Since(l.began)) }

func (l *load) note(o op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, o)
}

func (l *load) complain(check, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, violation{Check: check, What: fmt.Sprintf(format, args...)})
}

// writeRaw appends to hot aggregates, and reads them. An append without an
// answer is repeated until there is one, also when the load is over.
func (l *load) writeRaw(loading, ctx context.Context, caller int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(caller)+1<<32)) //nolint:gosec // no secret, and no negative
	known := map[string]uint64{}
	var last *eventstore.Append
	var was eventstore.Appended
	for n := 0; loading.Err() == nil; n++ {
		aggregate := fmt.Sprintf("h%d-%d", int64(time.Since(l.began)/hotFor), r.IntN(hotAggregates))
		switch kind := r.IntN(20); {
		case kind < 2:
			l.read(ctx, caller, aggregate, known)
		case kind < 3 && last != nil:
			l.repeat(ctx, *last, was)
		default:
			a := eventstore.Append{Stream: rawStream, Aggregate: aggregate, Expected: eventstore.Any}
			if r.IntN(2) == 0 {
				a.Expected = eventstore.Exactly(known[aggregate])
			}
			for i := range 1 + r.IntN(3) {
				a.Events = append(a.Events, eventstore.Event{
					ID: fmt.Sprintf("e%d-%d-%d", caller, n, i), Type: "happened", Data: fmt.Appendf(nil, `{"caller":%d,"n":%d}`, caller, n),
				})
			}
			if done, ok := l.append(ctx, caller, a, known); ok {
				last, was = &a, done
			}
		}
		sleep(loading, time.Duration(r.IntN(60))*time.Millisecond)
	}
}

func (l *load) append(ctx context.Context, caller int, a eventstore.Append, known map[string]uint64) (done eventstore.Appended, ok bool) {
	o := op{Aggregate: a.Aggregate, Caller: caller, Expected: int64(a.Expected), Call: l.now(), Outcome: nobodyKnow}
	for _, e := range a.Events {
		o.IDs = append(o.IDs, e.ID)
	}
	defer func() { l.note(o) }()
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		done, err := l.store.Append(asking, a)
		cancel()
		o.Return = l.now()
		var conflict *eventstore.ConflictError
		switch {
		case err == nil:
			l.appended.Add(1)
			o.Outcome, o.Version, o.First = stored, done.Version(), done.Events[0].Position
			known[a.Aggregate] = o.Version
			return done, true
		case errors.As(err, &conflict):
			l.conflicts.Add(1)
			o.Outcome, o.Version = conflicted, conflict.Actual
			known[a.Aggregate] = o.Version
			return done, false
		case errors.Is(err, eventstore.ErrUnavailable), errors.Is(err, eventstore.ErrOverloaded), errors.Is(err, context.DeadlineExceeded):
			sleep(ctx, 50*time.Millisecond)
		default:
			l.complain(checkAcks, "an append to %s with the ids %v ended with: %v", a.Aggregate, o.IDs, err)
			return done, false
		}
	}
	l.unknown.Add(1)
	l.complain(checkEnds, "the append of %v to %s was asked for until the end, and never answered", o.IDs, a.Aggregate)
	return done, false
}

// repeat makes an append again that was answered: the answer must be the same.
func (l *load) repeat(ctx context.Context, a eventstore.Append, was eventstore.Appended) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done, err := l.store.Append(asking, a)
	if err != nil {
		return // an outage; it is made again some other time
	}
	l.repeats.Add(1)
	if !done.Duplicate || len(done.Events) != len(was.Events) || done.Events[0].Position != was.Events[0].Position {
		l.complain(checkAcks, "the append %v was stored at position %d, and, made again, answered position %d",
			was.Events[0].ID, was.Events[0].Position, done.Events[0].Position)
	}
}

func (l *load) read(ctx context.Context, caller int, aggregate string, known map[string]uint64) {
	o := op{Aggregate: aggregate, Caller: caller, Call: l.now(), Outcome: seen}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for e, err := range l.store.ReadAggregate(asking, eventstore.AggregateRead{Stream: rawStream, Aggregate: aggregate}) {
		if err != nil {
			return // what was not read says nothing
		}
		if o.Version++; e.Version != o.Version {
			l.complain(checkGapless, "a read of %s has version %d where %d belongs", aggregate, e.Version, o.Version)
			return
		}
	}
	o.Return = l.now()
	l.reads.Add(1)
	known[aggregate] = o.Version
	l.note(o)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
