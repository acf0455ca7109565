// Package memory is an event store that holds its events in memory, and loses
// them with the process. It is for tests that a database would make slow; every
// other promise of eventstore.Backend it keeps.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/eventstore/paged"
)

// Store is an event store in memory. Its zero value is not usable; see [New].
type Store struct {
	committer *groupcommit.Committer
	listeners groupcommit.Listeners
	writing   sync.Mutex // held from the facts until all are told

	mu       sync.RWMutex
	closed   bool
	streams  map[string]*stream
	durables map[string][]eventstore.Durable
}

// stream is one log, and two ways into it.
type stream struct {
	events     []eventstore.Event // by position
	aggregates map[string][]eventstore.Event
	ids        map[string]eventstore.Event
}

// New makes an empty store. Close it to end its goroutine.
func New() *Store {
	s := &Store{streams: map[string]*stream{}, durables: map[string][]eventstore.Durable{}}
	s.committer = groupcommit.New(s.commit, groupcommit.Limits{})
	return s
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return s.committer.Append(ctx, a)
}

// commit stores a batch.
func (s *Store) commit(batch []groupcommit.Request) []groupcommit.Outcome {
	s.writing.Lock()
	defer s.writing.Unlock()
	planned := groupcommit.Plan(batch, s.facts(batch), groupcommit.Planned{})
	s.insert(planned.Insert)
	s.listeners.Tell(planned.Insert)
	return planned.Outcomes
}

// Restore implements eventstore.Backend.
func (s *Store) Restore(ctx context.Context, name string, events []eventstore.Event) error {
	if err := eventstore.CheckRestore(name, events); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	switch err := ctx.Err(); {
	case err != nil:
		return fmt.Errorf("restore %s: %w", name, err)
	case closed:
		return away("restore " + name)
	}
	planned, err := groupcommit.PlanRestore(events, s.facts(groupcommit.Restoring(events)))
	if err != nil {
		return err
	}
	s.insert(planned.Insert)
	s.listeners.Tell(planned.Insert)
	return nil
}

// facts are what the plan needs.
func (s *Store) facts(batch []groupcommit.Request) groupcommit.Facts {
	f := groupcommit.Facts{
		Heads: map[string]uint64{}, Versions: map[groupcommit.Key]uint64{}, Stored: map[groupcommit.Key]eventstore.Event{},
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range batch {
		of, ok := s.streams[r.Stream]
		if !ok {
			continue
		}
		f.Heads[r.Stream] = uint64(len(of.events))
		f.Versions[groupcommit.Key{Stream: r.Stream, ID: r.Aggregate}] = uint64(len(of.aggregates[r.Aggregate]))
		for _, e := range r.Events {
			if stored, ok := of.ids[e.ID]; ok {
				f.Stored[groupcommit.Key{Stream: r.Stream, ID: e.ID}] = copied(stored)
			}
		}
	}
	return f
}

func (s *Store) insert(events []eventstore.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		e = copied(e) // the other one is the caller's
		of, ok := s.streams[e.Stream]
		if !ok {
			of = &stream{aggregates: map[string][]eventstore.Event{}, ids: map[string]eventstore.Event{}}
			s.streams[e.Stream] = of
		}
		of.events = append(of.events, e)
		of.aggregates[e.Aggregate] = append(of.aggregates[e.Aggregate], e)
		of.ids[e.ID] = e
	}
}

// copied is the event with data that nobody else writes to.
func copied(e eventstore.Event) eventstore.Event {
	e.Data = bytes.Clone(e.Data)
	return e
}

// ReadAggregate implements eventstore.Store.
func (s *Store) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	if err := r.Check(); err != nil {
		return paged.Fails(err)
	}
	what := fmt.Sprintf("read %s %q", r.Stream, r.Aggregate)
	return paged.Events(ctx, what, r.Last, func(_ context.Context, after *eventstore.Event, n int) ([]eventstore.Event, bool, error) {
		return s.page(what, r.Stream, n, func(of *stream) []eventstore.Event {
			all := of.aggregates[r.Aggregate]
			switch {
			case after != nil:
				return behind(all, after.Version)
			case r.Last > 0:
				return all[max(len(all)-r.Last, 0):]
			default:
				return behind(all, max(r.From, 1)-1)
			}
		})
	})
}

// lookEvery is how often a reader that follows looks by itself; commits wake it.
const lookEvery = time.Second

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	if err := r.Check(); err != nil {
		return paged.Fails(err)
	}
	what := "read " + r.Stream
	return paged.Stream(ctx, what, r, paged.Source{
		From: func(position uint64) paged.Query {
			return func(_ context.Context, after *eventstore.Event, n int) ([]eventstore.Event, bool, error) {
				return s.page(what, r.Stream, n, func(of *stream) []eventstore.Event {
					if after != nil {
						return behind(of.events, after.Position)
					}
					return behind(of.events, position-1)
				})
			}
		},
		Await: func(ctx context.Context, position uint64) error {
			return s.listeners.Await(ctx, r.Stream, lookEvery, func() (bool, error) {
				head, err := s.Head(ctx, r.Stream)
				return head > position, err
			})
		},
	})
}

// behind are the events that follow the n-th.
func behind(events []eventstore.Event, n uint64) []eventstore.Event {
	return events[min(n, uint64(len(events))):]
}

// page copies the first n of a stream's events that pick answers, or fewer with
// paged.MaxBytes of data; then there may be more.
func (s *Store) page(what, name string, n int, pick func(*stream) []eventstore.Event) (events []eventstore.Event, more bool, _ error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, false, away(what)
	}
	of, ok := s.streams[name]
	if !ok {
		return nil, false, nil
	}
	size := 0
	for _, e := range pick(of) {
		if len(events) == n || size >= paged.MaxBytes {
			return events, true, nil
		}
		events = append(events, copied(e))
		size += len(e.Data)
	}
	return events, false, nil
}

func away(what string) error { return fmt.Errorf("%s: closed: %w", what, eventstore.ErrUnavailable) }

// Head implements eventstore.Backend.
func (s *Store) Head(_ context.Context, name string) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, away("read head of " + name)
	}
	if of, ok := s.streams[name]; ok {
		return uint64(len(of.events)), nil
	}
	return 0, nil
}

// Streams implements eventstore.Backend.
func (s *Store) Streams(context.Context) ([]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, away("list streams")
	}
	return slices.Sorted(maps.Keys(s.streams)), nil
}

// OnCommit implements eventstore.Backend.
func (s *Store) OnCommit(f func(stream string, events []eventstore.Event)) { s.listeners.Add(f) }

// SaveDurables implements eventstore.Backend.
func (s *Store) SaveDurables(_ context.Context, name string, durables []eventstore.Durable) error {
	what := "save durables of " + name
	saved := cloned(durables)
	slices.SortFunc(saved, func(a, b eventstore.Durable) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(saved); i++ {
		if saved[i].Name == saved[i-1].Name {
			return fmt.Errorf("%s: %q is there twice", what, saved[i].Name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return away(what)
	}
	s.durables[name] = saved
	return nil
}

// Durables implements eventstore.Backend.
func (s *Store) Durables(_ context.Context, name string) ([]eventstore.Durable, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, away("read durables of " + name)
	}
	return cloned(s.durables[name]), nil
}

func cloned(durables []eventstore.Durable) (all []eventstore.Durable) {
	for _, d := range durables {
		d.Config = bytes.Clone(d.Config)
		all = append(all, d)
	}
	return all
}

// Close implements eventstore.Backend.
func (s *Store) Close() error {
	s.committer.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
