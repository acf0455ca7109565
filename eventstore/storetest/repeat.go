package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

func sameIDTwice(t *testing.T, s eventstore.Store) {
	for round := range 5 {
		e := one()
		var first atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				done, err := s.Append(t.Context(), To(fmt.Sprintf("a%d", round), eventstore.New, e))
				if err != nil {
					t.Error(err)
				} else if !done.Duplicate {
					first.Add(1)
				}
			})
		}
		wg.Wait()
		if n := first.Load(); n != 1 {
			t.Fatalf("%d of 20 were told that they are the first", n)
		}
	}
	count(t, s, 5)
	// On other aggregates the id is refused, whoever comes first.
	e := one()
	var won, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Append(t.Context(), To(fmt.Sprintf("b%d", i), eventstore.New, e))
			var taken *eventstore.IDError
			switch {
			case err == nil:
				won.Add(1)
			case errors.As(err, &taken):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || refused.Load() != 19 {
		t.Fatalf("%d won and %d were refused", won.Load(), refused.Load())
	}
	count(t, s, 6)
}

func repeats(t *testing.T, s eventstore.Store) {
	single, triple := To("a", eventstore.New, one()), To("a", eventstore.Exactly(1), one(), one(), one())
	firstSingle, firstTriple := must(t, s, single), must(t, s, triple)
	for range 40 {
		must(t, s, To("a", eventstore.Any, one()))
		must(t, s, To("b", eventstore.Any, one()))
	}
	for _, c := range []struct {
		again eventstore.Append
		first eventstore.Appended
	}{{single, firstSingle}, {triple, firstTriple}} {
		again := c.again
		again.Events = slices.Clone(again.Events)
		for i := range again.Events {
			again.Events[i].Time = time.Now().Add(time.Hour)
			again.Events[i].Data = json.RawMessage(`{"other":true}`)
		}
		for _, expected := range []eventstore.Expected{again.Expected, eventstore.Any, eventstore.Exactly(77)} {
			again.Expected = expected
			done := must(t, s, again)
			if !done.Duplicate {
				t.Fatal("the repeat is not marked")
			}
			equal(t, done.Events, c.first.Events)
		}
	}
	count(t, s, 84)
}

// repeatsAcross repeats a part of an append, and two appends that stand next to
// each other: what counts is how the events are stored.
func repeatsAcross(t *testing.T, s eventstore.Store) {
	a, b, c, d := one(), one(), one(), one()
	stored := must(t, s, To("a", eventstore.New, a, b)).Events
	stored = append(stored, must(t, s, To("a", eventstore.Exactly(2), c)).Events...)
	must(t, s, To("other", eventstore.New, one()))
	stored = append(stored, must(t, s, To("a", eventstore.Exactly(3), d)).Events...)
	for _, r := range []struct {
		events []eventstore.Event
		want   []eventstore.Event
	}{
		{[]eventstore.Event{b}, stored[1:2]},
		{[]eventstore.Event{b, c}, stored[1:3]},
		{[]eventstore.Event{a, b, c, d}, stored},
	} {
		done := must(t, s, To("a", eventstore.New, r.events...))
		if !done.Duplicate {
			t.Fatal("the repeat is not marked")
		}
		equal(t, done.Events, r.want)
	}
	count(t, s, 5)
}

func takenIDs(t *testing.T, s eventstore.Store) {
	a, b, c, d := one(), one(), one(), one()
	must(t, s, To("a", eventstore.New, a, b, d))
	must(t, s, To("z", eventstore.New, c))
	for name, bad := range map[string]struct {
		try   eventstore.Append
		id    string // the first that is taken
		taken string // by this aggregate
	}{
		"another aggregate":  {To("x", eventstore.Any, a), a.ID, "a"},
		"some":               {To("a", eventstore.Any, a, one()), a.ID, "a"},
		"some, later":        {To("a", eventstore.Any, one(), b), b.ID, "a"},
		"some, elsewhere":    {To("x", eventstore.New, one(), b), b.ID, "a"},
		"another order":      {To("a", eventstore.Any, b, a), b.ID, "a"},
		"not side by side":   {To("a", eventstore.Any, a, d), a.ID, "a"},
		"two aggregates":     {To("a", eventstore.Any, a, b, d, c), a.ID, "a"},
		"before its version": {To("x", eventstore.Exactly(9), a), a.ID, "a"},
	} {
		_, err := s.Append(t.Context(), bad.try)
		var taken *eventstore.IDError
		if !errors.As(err, &taken) || taken.Stream != Stream || taken.ID != bad.id || taken.Aggregate != bad.taken || taken.Reason == "" {
			t.Errorf("%s: %v, want id %q taken by %q", name, err, bad.id, bad.taken)
		}
	}
	count(t, s, 4)
}
