package eventstore

import (
	"context"
	"encoding/json"
	"iter"
)

// Expected is the version an aggregate must have for an append to succeed:
// a version, or one of [New] and [Any].
type Expected int64

const (
	// Any accepts whatever version the aggregate has.
	Any Expected = -1
	// New accepts only an aggregate without events.
	New Expected = 0
)

// Exactly expects the aggregate at version v; Exactly(0) is [New]. A v beyond
// MaxPosition makes an expectation that every store refuses as invalid, and
// never one of another meaning.
func Exactly(v uint64) Expected { return Expected(min(v, MaxPosition+1)) }

// Append asks a store to add events to one aggregate.
type Append struct {
	Stream    string
	Aggregate string
	Expected  Expected
	Events    []Event // 1 to MaxAppendEvents
}

// Appended answers an [Append].
type Appended struct {
	// Events are the events as they are stored, with versions and positions.
	Events []Event
	// Duplicate tells that they were there before: nothing was stored now.
	Duplicate bool
}

// Version is the aggregate's version after the appended events.
func (a Appended) Version() uint64 {
	if len(a.Events) == 0 {
		return 0
	}
	return a.Events[len(a.Events)-1].Version
}

// Store is what a program that uses an event store sees of it. It is safe for
// concurrent use. See the package's documentation for its promises.
//
// Errors: [InvalidError], [ConflictError], [IDError], [ErrOverloaded],
// [ErrUnavailable], or the context's.
type Store interface {
	// Append adds events to one aggregate, atomically and idempotently.
	Append(ctx context.Context, a Append) (Appended, error)

	// ReadAggregate yields an aggregate's events in the order of their
	// versions, from r.From on; nothing when there is no such aggregate. An
	// error ends the sequence.
	ReadAggregate(ctx context.Context, r AggregateRead) iter.Seq2[Event, error]

	// ReadStream yields a stream's events in the order of their positions,
	// from r.From on, to the last one that was committed when it got there; or,
	// with r.Follow, without an end: it waits for those to come. An error ends
	// the sequence. A reader that takes its time holds nothing back but itself.
	ReadStream(ctx context.Context, r StreamRead) iter.Seq2[Event, error]
}

// AggregateRead says which events of an aggregate to read.
type AggregateRead struct {
	Stream    string
	Aggregate string
	// From is the first version to read; zero means 1.
	From uint64
	// Last, if not zero, asks for the last so many events instead of From, at
	// most MaxLast. They too come in the order of their versions.
	Last int
}

// StreamRead says which events of a stream to read.
type StreamRead struct {
	Stream string
	// From is the first position to read; zero means 1.
	From uint64
	// Limit is how many events to read at the most; zero means all.
	Limit int
	// Types, if not empty, are the only types of events to read.
	Types []string
	// Follow waits for more at the end, until the context ends.
	Follow bool
}

// Collect gathers what a read yields. It is for reads known to be short: the
// whole answer is in memory.
func Collect(events iter.Seq2[Event, error]) ([]Event, error) {
	var all []Event
	for e, err := range events {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// Backend is a store with its database: what the façade and the relay need
// beyond [Store].
type Backend interface {
	Store

	// Head is the position of a stream's last event; 0 when it has none.
	Head(ctx context.Context, stream string) (uint64, error)
	// Streams are the names of the streams that have events, in order.
	Streams(ctx context.Context) ([]string, error)

	// OnCommit has f called with the events of every commit made through this
	// backend: per stream in the order of their positions, and before Append
	// returns; of two streams perhaps at once. f must not block, and must not
	// keep the slice. Register before the first append.
	OnCommit(f func(stream string, events []Event))

	// Restore stores events exactly as another store answered them, of any
	// aggregates of one stream, in one transaction: all of them or none. It is
	// how a stream is copied, from position 1 on, call after call.
	//
	// There are 1 to MaxRestoreEvents of them, MaxRestoreBytes at the most. The
	// first follows the stream's head, each other the one before it, and each
	// event its aggregate's version; no id is in the stream already. Whatever is
	// against that, or would not be an event of a store, is refused with an
	// [InvalidError] that names the field, and nothing is stored.
	//
	// Restored events are like appended ones from then on: OnCommit is told of
	// them, and an append of their ids is a repeat. Unlike an append a Restore is
	// not idempotent: after [ErrUnavailable], or when the context ended, Head tells
	// what became of it. Nobody may write to the events' data later.
	Restore(ctx context.Context, stream string, events []Event) error

	// SaveDurables replaces what is known of a stream's durables.
	SaveDurables(ctx context.Context, stream string, durables []Durable) error
	// Durables are a stream's durables as they were last saved, by name.
	Durables(ctx context.Context, stream string) ([]Durable, error)

	// Close finishes what is queued, then closes the database. Appends that
	// come later fail with ErrUnavailable.
	Close() error
}

// Durable is what must survive the loss of JetStream: a durable consumer's
// configuration, and how far it had come.
type Durable struct {
	Name string `json:"name"`
	// Config is the consumer's configuration as JetStream's JSON.
	Config json.RawMessage `json:"config"`
	// Floor is the position up to which everything is handled.
	Floor uint64 `json:"floor"`
}
