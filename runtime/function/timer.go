package function

import (
	"context"
	"errors"
	"iter"
	"time"
)

// TimersStream is the JetStream stream of timers. It is no copy of anything in
// the event store: what is lost of it is made anew from [Deadlines].
const TimersStream = "TIMERS"

// Deadlines say until when the aggregates of a stream wait, and what is decided
// when that has passed. S is the state of one, D its events.
type Deadlines[S State[S, D], D DomainEvent] interface {
	// Due is until when the aggregate waits for what it now waits for; zero when
	// it waits for nothing. It says the same of the same state, always.
	Due(state S) time.Time
	// Waiting yields the ids of all aggregates that may be waiting. Timers are armed
	// from it when the function starts, once an hour, and after JetStream lost
	// them: an id that is left out may then be late by an hour, and one too many
	// costs a read. An error ends it, and it is tried again. Most ask their
	// view; where it yields nothing, timers that JetStream lost stay lost.
	Waiting(ctx context.Context) iter.Seq2[string, error]
	// Fire decides on an aggregate whose Due has passed, like a handler of [On].
	// What it returns is appended at the version seen, once, however often the
	// timer fires; Due of the state after that is zero, or later. When it is
	// neither, the timer fires again within an hour.
	Fire(ctx context.Context, state S) ([]D, error)
}

// Timed is a door for time that passes; made by [Timer].
type Timed struct {
	// Stream holds the aggregates that wait.
	Stream string
	// Waiting is that of [Deadlines].
	Waiting func(ctx context.Context) iter.Seq2[string, error]
	// Due answers until when an event's aggregate waits, the event included.
	Due func(ctx context.Context, run *Runner, m Message) (time.Time, error)
	// DueOf answers until when an aggregate waits now.
	DueOf func(ctx context.Context, run *Runner, aggregate string) (time.Time, error)
	// Fire handles a timer: m tells the aggregate, and its ID seeds those of what
	// is appended. When the aggregate waits for something later it does nothing,
	// and answers until when.
	Fire func(ctx context.Context, run *Runner, m Message) (later time.Time, err error)

	related func([]Message) (map[string][]string, error) // see Related
	dues    func([]Message) ([]time.Time, error)         // see Waits
}

// Subject is that of all timers; a function has one such door.
func (d *Timed) Subject() string { return TimersStream }
func (d *Timed) whole() bool {
	return d.Waiting != nil && d.Due != nil && d.DueOf != nil && d.Fire != nil
}

// Timer makes a door for aggregates that wait too long. The timer itself is
// JetStream's, so it fires whatever process runs then; whether it still means
// anything is decided by the aggregate's state at that time. So a timer that
// fires late, twice, or for an aggregate that moved on does nothing, and one that
// fires early is armed again.
//
// In a variable of a package the compiler may not find S and D by itself: there
// write them, function.Timer[Loan, Event](deadlines{}).
func Timer[S State[S, D], D DomainEvent](t Deadlines[S, D]) Door {
	var zero S
	if t == nil {
		return &Timed{Stream: zero.Stream()} // which Check refuses
	}
	return &Timed{
		Stream: zero.Stream(), Waiting: t.Waiting, related: relatedOf[S],
		dues: func(events []Message) ([]time.Time, error) { return duesOf(t, events) },
		Due: func(ctx context.Context, run *Runner, m Message) (time.Time, error) {
			state, err := including[S](ctx, run, m)
			if err != nil {
				return time.Time{}, err
			}
			return t.Due(state), nil
		},
		DueOf: func(ctx context.Context, run *Runner, aggregate string) (time.Time, error) {
			known, _ := remembered[S](run, aggregate)
			// Not remembered: all that wait would drive out those at work.
			known, err := read(ctx, run, aggregate, known)
			if err != nil || known.version == 0 {
				return time.Time{}, err
			}
			return t.Due(known.state), nil
		},
		Fire: func(ctx context.Context, run *Runner, m Message) (later time.Time, err error) {
			_, _, err = decide(WithCause(ctx, causeBy(ctx, m)), run, m.Aggregate, nil, m.ID, func(ctx context.Context, state S) ([]D, error) {
				due := t.Due(state)
				later = time.Time{}
				switch {
				case due.IsZero():
					return nil, nil
				case due.After(Now(ctx)):
					later = due
					return nil, nil
				}
				return t.Fire(ctx, state)
			})
			if errors.Is(err, errNotThere) {
				return time.Time{}, nil // the event store was restored to before it
			}
			return later, err
		},
	}
}

// TimerID is the id of a timer: the same whenever and by whomever it is armed.
func TimerID(function, stream, aggregate string, due time.Time) string {
	return DeriveID("timer", function, stream, aggregate, due.UTC().Format(time.RFC3339Nano))
}

// including is the state of an event's aggregate, with the event.
func including[S State[S, D], D DomainEvent](ctx context.Context, run *Runner, m Message) (S, error) {
	seen, _ := remembered[S](run, m.Aggregate)
	if seen.version < m.Version {
		next, err := decodeMessage[S](ctx, m)
		if err != nil {
			return seen.state, err
		}
		seen = arrive[S](run, m.Aggregate, next)
	}
	if seen.version < m.Version {
		var err error
		if seen, err = load(ctx, run, m.Aggregate, seen); err != nil {
			return seen.state, err
		}
	}
	return seen.state, nil
}
