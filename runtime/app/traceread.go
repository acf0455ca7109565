package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

const (
	// maxRelated is how many other aggregates are looked at.
	maxRelated = 20
	// maxScanned is how many events of each are looked at for those of the flow:
	// an account has those of all its customer's orders.
	maxScanned = 50_000
	// clockSkew is how far the clocks of those that append may be apart.
	clockSkew = time.Minute
)

// tracer reads what belongs to an aggregate, from the event store alone.
type tracer struct {
	store     eventstore.Store
	functions []function.Function
	limit     int // events

	nodes []*node
	flows map[string]bool // the correlation ids of its events
	began time.Time
	notes []string

	waiting []function.Waiting
	timers  map[string]*timer // by their ids
}

// read gathers the aggregate's events in the streams, those of the same flow in
// the aggregates that its State refers to, and the dead letters of all of them.
func (t *tracer) read(ctx context.Context, id string, streams []string) (*traced, error) {
	t.flows = map[string]bool{}
	var others []function.Reference
	for _, stream := range streams {
		events, err := t.aggregate(ctx, stream, id)
		if err != nil {
			return nil, err
		}
		related, err := function.Related(t.functions, events)
		if err != nil {
			t.note("what it refers to is not shown: %v", err)
		}
		others = append(others, related...)
		if err := t.waits(events); err != nil {
			t.note("timers are not told from other causes: %v", err)
		}
	}
	if len(t.nodes) == 0 {
		return nil, fmt.Errorf("trace %q: there is no such aggregate in %s", id, strings.Join(streams, ", "))
	}
	others = slices.DeleteFunc(others, func(r function.Reference) bool { return r.Aggregate == id && slices.Contains(streams, r.Stream) })
	if len(others) > maxRelated {
		t.note("it refers to %d other aggregates; the first %d were looked at", len(others), maxRelated)
		others = others[:maxRelated]
	}
	for _, r := range others {
		if err := t.related(ctx, r); err != nil {
			return nil, err
		}
	}
	for _, n := range t.nodes {
		n.Timer = t.timers[n.CausationID]
		if err := t.letters(ctx, n); err != nil {
			return nil, err
		}
	}
	tree := causes(id, t.nodes)
	tree.Notes = t.notes
	return tree, nil
}

func (t *tracer) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// add adds an event, or answers false when there are enough.
func (t *tracer) add(e eventstore.Event) bool {
	if len(t.nodes) == t.limit {
		t.note("%s %q has more than is shown; see --limit", e.Stream, e.Aggregate)
		return false
	}
	t.nodes = append(t.nodes, newNode(e))
	return true
}

// aggregate adds the events of the aggregate itself.
func (t *tracer) aggregate(ctx context.Context, stream, id string) (events []eventstore.Event, err error) {
	err = t.each(ctx, eventstore.AggregateRead{Stream: stream, Aggregate: id}, func(e eventstore.Event) bool {
		if !t.add(e) {
			return false
		}
		events = append(events, e)
		if e.CorrelationID != "" {
			t.flows[e.CorrelationID] = true
		}
		if t.began.IsZero() || e.Time.Before(t.began) {
			t.began = e.Time
		}
		return true
	})
	return events, err
}

// related adds what happened to another aggregate in the same flow. It may be
// long: what is older than the flow is passed over unread.
func (t *tracer) related(ctx context.Context, r function.Reference) error {
	from, err := t.firstSince(ctx, r, t.began.Add(-clockSkew))
	if err != nil {
		return err
	}
	scanned := 0
	return t.each(ctx, eventstore.AggregateRead{Stream: r.Stream, Aggregate: r.Aggregate, From: from}, func(e eventstore.Event) bool {
		if scanned++; scanned > maxScanned {
			t.note("of %s %q the %d events from version %d on were looked at; later ones may be missing", r.Stream, r.Aggregate, maxScanned, from)
			return false
		}
		return !t.flows[e.CorrelationID] || t.add(e)
	})
}

// firstSince is the version of an aggregate's first event that is as late as a
// time, or one more than it has. Versions rise with the time, as far as clocks
// agree.
func (t *tracer) firstSince(ctx context.Context, r function.Reference, since time.Time) (uint64, error) {
	last, err := t.one(ctx, eventstore.AggregateRead{Stream: r.Stream, Aggregate: r.Aggregate, Last: 1})
	if err != nil {
		return 0, err
	}
	low, high := uint64(1), last.Version+1
	for low < high {
		middle := low + (high-low)/2
		e, err := t.one(ctx, eventstore.AggregateRead{Stream: r.Stream, Aggregate: r.Aggregate, From: middle})
		if err != nil {
			return 0, err
		}
		if e.Time.Before(since) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// letters adds the dead letters of an event. Their ids derive from the functions
// that may have given up on it, so there is nothing to search.
func (t *tracer) letters(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, f := range t.functions {
		if d, ok := host.DurableOf(f); !ok || d.Stream != n.Stream {
			continue
		}
		its := deadletter.Letter{Function: f.Name, Stream: n.Stream, Position: n.Position, EventID: n.ID}
		if err := t.letter(ctx, n, its.ID()); err != nil {
			return err
		}
	}
	for _, w := range t.waiting {
		if w.Since != n.ID {
			continue
		}
		its := deadletter.Letter{Function: w.Function, Stream: function.TimersStream, EventID: w.ID}
		if err := t.letter(ctx, n, its.ID()); err != nil {
			return err
		}
	}
	return nil
}

// letter adds the dead letter of an id, if there is one.
func (t *tracer) letter(ctx context.Context, n *node, id string) error {
	l, found, err := deadletter.Find(ctx, t.store, id)
	if err == nil && found {
		n.DeadLetters = append(n.DeadLetters, l.Summary)
	}
	return err
}

// waits notes the timers of the aggregate that has the events. Due is the program's
// own, so what it does to events of another program is caught.
func (t *tracer) waits(events []eventstore.Event) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("Due panicked: %v", r)
		}
	}()
	all, err := function.Waits(t.functions, events)
	for _, w := range all {
		if t.timers == nil {
			t.timers = map[string]*timer{}
		}
		t.timers[w.ID] = &timer{Function: w.Function, Due: w.Due}
	}
	t.waiting = append(t.waiting, all...)
	return err
}

// one reads the first event of a read; the zero one when there is none.
func (t *tracer) one(ctx context.Context, r eventstore.AggregateRead) (first eventstore.Event, err error) {
	err = t.each(ctx, r, func(e eventstore.Event) bool { first = e; return false })
	return first, err
}

// each hands events on until there are no more, or take answers false.
func (t *tracer) each(ctx context.Context, r eventstore.AggregateRead, take func(eventstore.Event) bool) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for e, err := range t.store.ReadAggregate(ctx, r) {
		if err != nil {
			return fmt.Errorf("read %s %q: %w", r.Stream, r.Aggregate, err)
		}
		if !take(e) {
			break
		}
	}
	return nil
}
