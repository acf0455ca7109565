package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

func comesBack(t *testing.T, s eventstore.Store) {
	e := eventstore.Event{
		ID: "id-1", Type: "happened", Schema: 3, Source: "test", CausationID: "c a", CorrelationID: "k", Traceparent: "00-1-2-3",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("x", 3600)),
		Data: json.RawMessage(` {"é":"\u0000 \ud83d\ude00 <&>","n":1234567890123456789012345.67e-8, "a":[ ] } `),
	}
	plain := eventstore.Event{ID: "id-2", Type: "b2", Data: json.RawMessage(`null`)}
	before := time.Now().Add(-time.Second)
	done := must(t, s, To("a", eventstore.New, e, plain))
	want := e
	want.Stream, want.Aggregate, want.Version, want.Position = Stream, "a", 1, 1
	want.Time = e.Time.UTC().Truncate(time.Microsecond)
	equal(t, done.Events[:1], []eventstore.Event{want})
	second := done.Events[1]
	if second.Schema != 1 || second.Time.Before(before) || second.Time.After(time.Now().Add(time.Second)) || second.Version != 2 || second.Position != 2 {
		t.Fatalf("defaults: %+v", second)
	}
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a"}), done.Events)
	equal(t, stream(t, s, eventstore.StreamRead{}), done.Events)
	if done.Version() != 2 || done.Duplicate {
		t.Fatalf("appended: %+v", done)
	}
}

// buffersAreFree has callers write to their buffers as soon as Append returns,
// also when it returned because the caller's context ended.
func buffersAreFree(t *testing.T, s eventstore.Store) {
	want := `{"pad":"` + strings.Repeat("x", 2000) + `"}`
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*100*time.Microsecond)
			defer cancel()
			e := Event("happened", want)
			_, err := s.Append(ctx, To(fmt.Sprintf("a%d", i), eventstore.New, e))
			copy(e.Data, strings.Repeat("!", len(e.Data)))
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	e := Event("happened", want)
	done := must(t, s, To("last", eventstore.New, e))
	copy(e.Data, strings.Repeat("!", len(e.Data)))
	for _, stored := range append(Consistent(t, t.Context(), s, Stream), done.Events...) {
		if string(stored.Data) != want {
			t.Fatalf("at position %d is what the caller wrote later: %.40s", stored.Position, stored.Data)
		}
	}
}

func noGaps(t *testing.T, s eventstore.Store) {
	const writers, appends = 16, 12
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range appends {
				events := make([]eventstore.Event, 1+i%3)
				for j := range events {
					events[j] = one()
				}
				if _, err := s.Append(t.Context(), To(fmt.Sprintf("a%d", (w+i)%5), eventstore.Any, events...)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := len(Consistent(t, t.Context(), s, Stream)), writers*appends*2; got != want {
		t.Fatalf("%d events, want %d", got, want)
	}
}

func expectedVersions(t *testing.T, s eventstore.Store) {
	must(t, s, To("a", eventstore.New, one(), one()))
	for _, c := range []struct {
		aggregate string
		expected  eventstore.Expected
		actual    uint64
	}{
		{"a", eventstore.New, 2}, {"a", eventstore.Exactly(1), 2}, {"a", eventstore.Exactly(3), 2}, {"b", eventstore.Exactly(1), 0},
	} {
		_, err := s.Append(t.Context(), To(c.aggregate, c.expected, one()))
		var conflict *eventstore.ConflictError
		want := eventstore.ConflictError{Stream: Stream, Aggregate: c.aggregate, Expected: c.expected, Actual: c.actual}
		if !errors.As(err, &conflict) || *conflict != want {
			t.Fatalf("%q expecting %v: %v, want %v", c.aggregate, c.expected, err, &want)
		}
	}
	must(t, s, To("a", eventstore.Exactly(2), one()))
	must(t, s, To("a", eventstore.Any, one()))
	must(t, s, To("b", eventstore.Any, one()))
	count(t, s, 5)
}

func oneWinner(t *testing.T, s eventstore.Store) {
	for round := range 5 {
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				_, err := s.Append(t.Context(), To("hot", eventstore.Exactly(uint64(round)), one()))
				var conflict *eventstore.ConflictError
				switch {
				case err == nil:
					won.Add(1)
				case errors.As(err, &conflict) && conflict.Actual == uint64(round+1):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 31 {
			t.Fatalf("round %d: %d won and %d lost", round, won.Load(), lost.Load())
		}
	}
	count(t, s, 5)
}

// neighbours commits together appends that conflict, whose ids are taken, and
// that are right.
func neighbours(t *testing.T, s eventstore.Store) {
	first := one()
	must(t, s, To("loser", eventstore.New, first))
	var wg sync.WaitGroup
	for i := range 80 {
		wg.Go(func() {
			name := fmt.Sprintf("n%d", i)
			switch i % 4 {
			case 0:
				if _, err := s.Append(t.Context(), To("loser", eventstore.New, one())); !isConflict(err) {
					t.Errorf("loser: %v", err)
				}
			case 1:
				var taken *eventstore.IDError
				if _, err := s.Append(t.Context(), To(name, eventstore.New, one(), first)); !errors.As(err, &taken) {
					t.Errorf("taken: %v", err)
				}
			default:
				if done, err := s.Append(t.Context(), To(name, eventstore.New, one(), one())); err != nil || done.Version() != 2 {
					t.Errorf("neighbour: %+v, %v", done, err)
				}
			}
		})
	}
	wg.Wait()
	count(t, s, 1+40*2)
}

func oneAggregate(t *testing.T, s eventstore.Store) {
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.Append(t.Context(), To("a", eventstore.Any, one())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	count(t, s, 50)
}

func streamsApart(t *testing.T, s eventstore.Store) {
	e := one()
	must(t, s, To("a", eventstore.New, e))
	done := must(t, s, eventstore.Append{Stream: Other, Aggregate: "a", Expected: eventstore.New, Events: []eventstore.Event{e}})
	if done.Duplicate || done.Events[0].Position != 1 || done.Events[0].Version != 1 {
		t.Fatalf("in another stream: %+v", done)
	}
	Consistent(t, t.Context(), s, Stream)
	Consistent(t, t.Context(), s, Other)
}

// seenWhole reads while appends of three events are made. A read to the end
// ends with a whole append, however many pages it took.
func seenWhole(t *testing.T, s eventstore.Store) {
	var wg sync.WaitGroup
	writing, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		defer stop()
		for range 100 {
			if _, err := s.Append(t.Context(), To("a", eventstore.Any, one(), one(), one())); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for writing.Err() == nil {
		last := aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", Last: 3})
		if len(last) != 0 && (len(last) != 3 || last[2].Version%3 != 0 || last[0].Version != last[2].Version-2) {
			t.Fatalf("saw a part of an append: %+v", last)
		}
		for name, events := range map[string][]eventstore.Event{
			"aggregate": aggregate(t, s, eventstore.AggregateRead{Aggregate: "a"}),
			"stream":    stream(t, s, eventstore.StreamRead{}),
		} {
			if len(events)%3 != 0 {
				t.Fatalf("%s: saw %d events of appends of three", name, len(events))
			}
			for i, e := range events {
				if n := uint64(i + 1); e.Version != n || e.Position != n {
					t.Fatalf("%s: event %d has version %d, position %d", name, n, e.Version, e.Position)
				}
			}
		}
	}
	wg.Wait()
	count(t, s, 300)
}
