package function

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/internal/crash"
)

// Runner runs a function's handlers against an event store: load, decide,
// append at the version seen. It is safe for concurrent use.
type Runner struct {
	function string
	store    eventstore.Store
	cache    *Cache
}

type aggregateKey struct{ stream, aggregate string }

// loaded is an aggregate's state as of a version.
type loaded[S any] struct {
	state   S
	version uint64
	size    int // bytes of the events it was folded from
}

// grown is the size with one more event.
func (l loaded[S]) grown(e Message) int {
	if isWhole[S]() {
		return e.Size()
	}
	return l.size + e.Size()
}

func isWhole[S any]() bool {
	var zero S
	_, whole := any(zero).(Whole)
	return whole
}

const (
	// maxDecisions is how often one message is decided on before it gives way
	// to whoever keeps changing the aggregate.
	maxDecisions = 3
	// What the cache of folded aggregates may hold: 64 MiB at the very most,
	// usually 1 KiB for each of maxKnown aggregates.
	maxKnown     = 4096
	maxKnownSize = 16 << 10
)

// Cache holds the latest folded aggregates of a process: what one function
// appended the next one need not read. It is safe for concurrent use.
type Cache struct {
	known *lru.Cache[aggregateKey, any] // of loaded[S]
	turns turns
}

// NewCache makes an empty cache of a bounded size.
func NewCache() *Cache {
	known, err := lru.New[aggregateKey, any](maxKnown)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Cache{known: known, turns: turns{of: map[aggregateKey]*turn{}}}
}

// NewRunner makes the runner of one function. Functions of one process share
// a cache; nil gives it one of its own.
func NewRunner(function string, store eventstore.Store, cache *Cache) *Runner {
	if cache == nil {
		cache = NewCache()
	}
	return &Runner{function: function, store: inTime{store, cache}, cache: cache}
}

// Log reads a stream.
func (r *Runner) Log(stream string) Log { return log{r.store, stream} }

type log struct {
	store  eventstore.Store
	stream string
}

func (l log) ReadAggregate(ctx context.Context, aggregate string, from uint64) iter.Seq2[Message, error] {
	return l.store.ReadAggregate(ctx, eventstore.AggregateRead{Stream: l.stream, Aggregate: aggregate, From: from})
}

// arrived is an event that is in hand: when it follows what is known of its
// aggregate nothing need be read.
type arrived[D DomainEvent] struct {
	event   D
	version uint64
	size    int
}

// repeat says whether an append is stored already.
type repeat int

const (
	newly     repeat = iota
	alike            // by an append of events of the same types
	otherwise        // by one of others
)

// decide loads, decides and appends until no one else was faster. The state
// includes the event that arrived; without one it is the latest. The state it
// answers is the one after the append, unless that is a repeat.
func decide[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate string,
	next *arrived[D], seed string, decision func(context.Context, S) ([]D, error),
) (S, repeat, error) {
	ctx = withRunner(ctx, r)
	var seen loaded[S]
	if isToVerify(ctx) {
		r.cache.known.Remove(aggregateKey{seen.state.Stream(), aggregate})
	} else {
		seen = arrive[S](r, aggregate, next)
	}
	fresh, atLeast, arrivedAt := false, uint64(0), uint64(0)
	if next != nil {
		atLeast, arrivedAt = next.version, next.version
	}
	for range maxDecisions {
		if seen.version < atLeast || atLeast == 0 {
			var err error
			if seen, err = load(ctx, r, aggregate, seen); err != nil {
				return seen.state, newly, err
			}
			fresh = true
		}
		switch {
		case seen.version < arrivedAt:
			return seen.state, newly, fmt.Errorf("decide on %s %q: %w", seen.state.Stream(), aggregate, errLost)
		case next == nil && seen.version == 0:
			return seen.state, newly, errNotThere
		}
		decided, err := decision(ctx, seen.state)
		if err != nil && isRefusal(err) && !fresh {
			atLeast = 0 // perhaps the state is old: look before refusing
			continue
		}
		if err != nil || len(decided) == 0 {
			return seen.state, newly, err
		}
		after, repeated, err := appendDecided(ctx, r, aggregate, seen, seed, decided)
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) {
			return after.state, repeated, err
		}
		if conflict.Actual < seen.version {
			// The store has less than it had: it was restored.
			r.cache.known.Remove(aggregateKey{seen.state.Stream(), aggregate})
			seen = loaded[S]{}
		}
		atLeast, fresh = 0, false
	}
	return seen.state, newly, fmt.Errorf("decide on %s %q: %w", seen.state.Stream(), aggregate, ErrConflicts)
}

// errLost says that the event in hand is not in the event store.
var errLost error = &Refusal{Code: CodeConflict, Reason: "the event store does not have this event: it came back without it, from a backup or a standby"}

// arrive is what is known of an aggregate, with the event that arrived if that
// is the next one.
func arrive[S State[S, D], D DomainEvent](r *Runner, aggregate string, next *arrived[D]) loaded[S] {
	seen, _ := remembered[S](r, aggregate)
	if next != nil && seen.version+1 == next.version {
		seen = loaded[S]{state: seen.state.Evolve(next.event), version: next.version, size: seen.size + next.size}
		remember(r, aggregate, seen)
	}
	return seen
}

// errNotThere says that a command is to an aggregate without events.
var errNotThere = errors.New("there is no such aggregate")

// command decides on the aggregate as it is now; one that is not there is
// refused. A request that comes again under its id is answered the state now,
// and another one under that id is refused.
func command[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate string,
	decision func(context.Context, S) ([]D, error),
) (S, error) {
	state, repeated, err := decide(ctx, r, aggregate, nil, "request:"+CauseOf(ctx).ID, decision)
	switch {
	case err != nil:
		return state, err
	case repeated == otherwise:
		return state, errIDUsed
	case repeated == alike:
		now, err := load(ctx, r, aggregate, loaded[S]{})
		return now.state, err
	}
	return state, nil
}

// create decides on an aggregate that is not there yet, without looking: the
// ids of its first events derive from its own id, so the store tells when it
// is there, and what it was made as.
func create[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate string,
	decision func(context.Context, S) ([]D, error),
) (S, error) {
	ctx = withRunner(ctx, r)
	var none loaded[S]
	decided, err := decision(ctx, none.state)
	if err != nil {
		return none.state, err
	}
	if len(decided) == 0 {
		return none.state, fmt.Errorf("create %s %q: nothing was decided", none.state.Stream(), aggregate)
	}
	made, repeated, err := appendDecided(ctx, r, aggregate, none, "create:"+aggregate, decided)
	var (
		conflict *eventstore.ConflictError
		taken    *eventstore.IDError
	)
	switch {
	case errors.As(err, &conflict), errors.As(err, &taken):
		// Made by another function, or as another number of events.
		if made, err = load(ctx, r, aggregate, none); err != nil {
			return none.state, err
		}
	case err != nil || repeated == newly:
		return made.state, err
	}
	again, err := decision(ctx, made.state)
	if err == nil && len(again) > 0 {
		err = Conflict("", "%s %q is there already", made.state.Stream(), aggregate)
	}
	return made.state, err
}

// appendDecided appends at the version seen, and answers the state after it; of
// a new aggregate that was made before by the same append, as it was made then.
func appendDecided[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate string,
	seen loaded[S], seed string, decided []D,
) (after loaded[S], repeated repeat, err error) {
	stream := seen.state.Stream()
	events := make([]eventstore.Event, len(decided))
	for i, d := range decided {
		if events[i], err = newEvent(ctx, r, aggregate, eventID(r.function, stream, seed, i), d); err != nil {
			return seen, newly, err
		}
	}
	crash.At(crash.BeforeAppend)
	done, err := r.store.Append(ctx, eventstore.Append{
		Stream: stream, Aggregate: aggregate, Expected: eventstore.Exactly(seen.version), Events: events,
	})
	if err != nil {
		return seen, newly, err
	}
	crash.At(crash.AfterAppend)
	if done.Duplicate {
		repeated = alike
		for i, e := range done.Events {
			if e.Type != events[i].Type {
				repeated = otherwise
			}
		}
		if seen.version > 0 {
			return seen, repeated, nil // the state after it is anyone's guess
		}
		stored, err := fold(loaded[S]{}, done.Events)
		return stored, repeated, err
	}
	after = seen
	for i, d := range decided {
		after.state, after.version, after.size = after.state.Evolve(d), done.Events[i].Version, after.grown(done.Events[i])
	}
	remember(r, aggregate, after)
	return after, newly, nil
}

// newEvent is what was decided, in its envelope.
func newEvent(ctx context.Context, r *Runner, aggregate, id string, decided DomainEvent) (eventstore.Event, error) {
	data, schema, err := Encode(decided)
	if err != nil {
		return eventstore.Event{}, err
	}
	cause := CauseOf(ctx)
	correlation := cause.CorrelationID
	if correlation == "" {
		correlation = aggregate
	}
	return eventstore.Event{
		ID: id, Type: decided.EventType(), Schema: schema, Time: Now(ctx),
		Source: r.function, CausationID: cause.ID, CorrelationID: correlation,
		Traceparent: cause.Traceparent, Data: data,
	}, nil
}

// load reads what lies behind the version that is known, and remembers it.
func load[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate string, known loaded[S]) (loaded[S], error) {
	known, err := read(ctx, r, aggregate, known)
	if err == nil {
		remember(r, aggregate, known)
	}
	return known, err
}

// read reads what lies behind the version that is known; of a Whole the last.
func read[S State[S, D], D DomainEvent](ctx context.Context, r *Runner, aggregate string, known loaded[S]) (loaded[S], error) {
	ask := eventstore.AggregateRead{Stream: known.state.Stream(), Aggregate: aggregate, From: known.version + 1}
	if isWhole[S]() {
		known, ask.From, ask.Last = loaded[S]{}, 0, 1
	}
	events, err := eventstore.Collect(r.store.ReadAggregate(ctx, ask))
	if err == nil {
		known, err = fold(known, events)
	}
	if err != nil {
		return known, fmt.Errorf("load %s %q: %w", known.state.Stream(), aggregate, err)
	}
	return known, nil
}

func fold[S State[S, D], D DomainEvent](l loaded[S], events []Message) (loaded[S], error) {
	for _, e := range events {
		if e.Version != l.version+1 && !isWhole[S]() {
			return l, fmt.Errorf("fold %s %q: version %d follows %d", e.Stream, e.Aggregate, e.Version, l.version)
		}
		d, err := l.state.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return l, fmt.Errorf("decode %s at position %d: %w: %w", e.Type, e.Position, ErrDecode, err)
		}
		l.state, l.version, l.size = l.state.Evolve(d), e.Version, l.grown(e)
	}
	return l, nil
}

func remembered[S interface{ Stream() string }](r *Runner, aggregate string) (loaded[S], bool) {
	var zero S
	v, ok := r.cache.known.Get(aggregateKey{zero.Stream(), aggregate})
	if !ok {
		return loaded[S]{}, false
	}
	l, ok := v.(loaded[S])
	return l, ok
}

func remember[S interface{ Stream() string }](r *Runner, aggregate string, l loaded[S]) {
	key := aggregateKey{l.state.Stream(), aggregate}
	if known, ok := remembered[S](r, aggregate); ok && known.version >= l.version {
		return // another was faster, and knows more
	}
	if l.size > maxKnownSize || l.version == 0 {
		r.cache.known.Remove(key)
		return
	}
	r.cache.known.Add(key, l)
}

// eventID derives the id of the i-th event that a function decides on for a
// cause, so that deciding again appends nothing twice. The seed is the cause's id:
// an event's, which has no colon, or after "request:" or "create:" what a caller
// chose, so that no caller can take the id of what an event is to cause.
func eventID(function, stream, seed string, i int) string {
	return DeriveID(function, stream, seed, strconv.Itoa(i))
}

// DeriveID makes an id of its parts: the same parts, the same id (UUIDv5).
func DeriveID(parts ...string) string {
	var name []byte
	for _, p := range parts {
		name = append(append(name, p...), 0) // no part contains a NUL
	}
	return uuid.NewSHA1(namespace, name).String()
}

// namespace is Waybill's own among the UUIDs made from names.
var namespace = uuid.MustParse("6d0f2a0e-5a3b-4b52-9c0e-7d5b1f6c9a41")

func isRefusal(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}
