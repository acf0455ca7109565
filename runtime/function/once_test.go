package function_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/function"
)

// meter is an aggregate of which every event carries all.
type (
	meter struct{ Count int }
	count struct {
		Count int `json:"count"`
	}
)

func (count) EventType() string    { return "counted" }
func (meter) Stream() string       { return "METERS" }
func (meter) Whole()               {}
func (meter) Evolve(e count) meter { return meter(e) }

func (meter) Decode(_ string, _ int, data []byte) (e count, err error) {
	return e, json.Unmarshal(data, &e)
}

func more(m meter) count { return count{m.Count + 1} }

// once is a process's own handler of requests that use Once.
func once(t *testing.T, store eventstore.Store, decide func(meter) count) func(ctx context.Context, id string) (int, error) {
	t.Helper()
	type request struct {
		ID string `json:"id"`
	}
	door := function.Endpoint("meters.count", func(ctx context.Context, r request) (int, error) {
		c, err := function.Once(ctx, "m", function.DeriveID(r.ID), decide)
		return c.Count, err
	}).(*function.Request)
	run := function.NewRunner("f", store, nil)
	return func(ctx context.Context, id string) (int, error) {
		p, err := door.Prepare(fmt.Appendf(nil, `{"id":%q}`, id))
		if err != nil {
			t.Fatal(err)
		}
		n, err := p.Answer(ctx, run)
		return n.(int), err
	}
}

func TestTheFirstOutcomeStands(t *testing.T) {
	s := open(t)
	for range 3 { // each by a process that remembers nothing
		if n, err := once(t, s, more)(t.Context(), "a"); err != nil || n != 1 {
			t.Errorf("a: %d, %v", n, err)
		}
	}
	same := once(t, s, more)
	for i, id := range []string{"b", "c", "c", "b", "d"} {
		if n, err := same(t.Context(), id); err != nil || n != []int{2, 3, 3, 2, 4}[i] {
			t.Errorf("%s: %d, %v", id, n, err)
		}
	}
	if all := storetest.Consistent(t, t.Context(), s, "METERS"); len(all) != 4 {
		t.Errorf("%d events, want 4", len(all))
	}
	if _, err := function.Once(t.Context(), "m", "x", more); err == nil {
		t.Error("Once works without a handler")
	}
}

// TestNoDecisionIsOnAnOldState has a process decide by what it remembers, while
// another one has changed it.
func TestNoDecisionIsOnAnOldState(t *testing.T) {
	s := &counting{Store: open(t)}
	full := count{-1}
	upTo := func(m meter) count {
		if m.Count >= 1 {
			return full
		}
		return more(m)
	}
	one := once(t, s, upTo)
	if n, err := one(t.Context(), "a"); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if _, err := once(t, s, func(meter) count { return count{0} })(t.Context(), "empty"); err != nil {
		t.Fatal(err)
	}
	s.reads = nil
	if n, err := one(t.Context(), "b"); err != nil || n != 1 || len(s.reads) != 1 {
		t.Errorf("there is room: %d, %v, after %d reads", n, err, len(s.reads))
	}
	for range 2 { // the second time there would be room, and what stands is answered
		if n, err := one(t.Context(), "c"); err != nil || n != full.Count {
			t.Errorf("it is full: %d, %v", n, err)
		}
	}
	if all := storetest.Consistent(t, t.Context(), s, "METERS"); len(all) != 4 {
		t.Errorf("%d events, want 4: a refusal is remembered", len(all))
	}
}

// TestWhileTheStoreIsAway: what stands is not known, and nothing is answered.
func TestWhileTheStoreIsAway(t *testing.T) {
	s := open(t)
	if _, err := once(t, s, more)(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := once(t, away{s}, more)(t.Context(), "a"); function.FateOf(err, false) != function.Held {
		t.Errorf("while the store can't be written: %v", err)
	}
}

// TestManyAtOnce has processes, each with many callers, meet on one aggregate.
func TestManyAtOnce(t *testing.T) {
	const processes, callers = 4, 64
	s := open(t)
	var wg sync.WaitGroup
	for p := range processes {
		ask := once(t, s, more)
		for c := range callers {
			wg.Go(func() {
				if _, err := ask(t.Context(), fmt.Sprintf("%d-%d", p, c)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	all := storetest.Consistent(t, t.Context(), s, "METERS")
	if len(all) != processes*callers {
		t.Errorf("%d events, want %d", len(all), processes*callers)
	}
	for i, e := range all {
		if c, err := (meter{}).Decode(e.Type, 1, e.Data); err != nil || c.Count != i+1 {
			t.Fatalf("event %d counts %d, %v", i, c.Count, err)
		}
	}
}

// contested is a store in which another process is always faster; stuck one that
// never answers, and away one that can be read alone.
type (
	contested struct{ eventstore.Store }
	stuck     struct{ eventstore.Store }
	away      struct{ eventstore.Store }
)

func (away) Append(context.Context, eventstore.Append) (eventstore.Appended, error) {
	return eventstore.Appended{}, eventstore.ErrUnavailable
}

func (contested) Append(context.Context, eventstore.Append) (eventstore.Appended, error) {
	return eventstore.Appended{}, &eventstore.ConflictError{}
}

func (stuck) Append(ctx context.Context, _ eventstore.Append) (eventstore.Appended, error) {
	<-ctx.Done()
	return eventstore.Appended{}, ctx.Err()
}

// TestTooManyWaitInHand: who gets no turn in time is not to blame.
func TestTooManyWaitInHand(t *testing.T) {
	empty := memory.New()
	defer func() { _ = empty.Close() }()
	for name, store := range map[string]eventstore.Store{"conflicts": contested{empty}, "a turn that does not come": stuck{empty}} {
		synctest.Test(t, func(t *testing.T) {
			ask := once(t, store, more)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() {
					if _, err := ask(ctx, fmt.Sprint(i)); function.FateOf(err, false) != function.Held || function.RefusalOf(err, false) == nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// counting counts what is read.
type counting struct {
	eventstore.Store
	reads []eventstore.AggregateRead
}

func (c *counting) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	c.reads = append(c.reads, r)
	return c.Store.ReadAggregate(ctx, r)
}

// TestOnlyTheLastEventIsRead, and nothing of what this process appended itself.
func TestOnlyTheLastEventIsRead(t *testing.T) {
	s := &counting{Store: open(t)}
	for i := range 50 {
		if _, err := once(t, s, more)(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	same := once(t, s, more)
	for i := range 50 {
		if n, err := same(t.Context(), fmt.Sprint("x", i)); err != nil || n != 51+i {
			t.Fatal(n, err)
		}
	}
	if len(s.reads) != 51 {
		t.Errorf("read %d times", len(s.reads))
	}
	for _, r := range s.reads {
		if r.Last != 1 {
			t.Fatalf("read %+v", r)
		}
	}
}
