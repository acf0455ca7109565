package host_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// TestPoisonHoldsUpNobody: more events fail than the server lets be
// unacknowledged, each to come again in a minute. The good ones behind them are
// handled meanwhile. What was crowded out is replayed when the cause has passed.
func TestPoisonHoldsUpNobody(t *testing.T) {
	const most, poison, good = 100, 150, 300
	w := newWorld(t)
	var passed atomic.Bool
	f := step("picky", func(ctx context.Context, c counter, e opened) ([]event, error) {
		if strings.HasPrefix(c.ID, "poison") && !passed.Load() {
			return nil, errors.New("a bug")
		}
		return countOnce(ctx, c, e)
	})
	f.Concurrency, f.Backoff = 16, time.Minute
	w.durableOf("picky", most)
	w.fill("poison", poison)
	w.fill("good", good)
	w.start(f)
	w.eventually("handle the good ones", func() error {
		if n := w.count("COUNTERS", "counted"); n != good {
			return fmt.Errorf("%d of %d", n, good)
		}
		return nil
	})
	crowded := w.count(deadletter.Stream, deadletter.TypeBuried)
	if crowded < poison-most || crowded >= poison {
		t.Errorf("%d of %d were crowded out", crowded, poison)
	}
	passed.Store(true)
	w.office(20 * time.Millisecond)
	w.eventually("replay what was crowded out", func() error {
		if n := w.count("COUNTERS", "counted"); n != good+crowded {
			return fmt.Errorf("%d of %d", n, good+crowded)
		}
		return nil
	})
	w.eventually("close the letters", func() error {
		if n := w.count(deadletter.Stream, deadletter.TypeReplayed); n != crowded {
			return fmt.Errorf("%d of %d", n, crowded)
		}
		return nil
	})
	w.letters(`{"function":"picky"}`, 0)
}

// TestCrowdedOutForGood: one that fails whenever it is replayed is left to
// people after a few times.
func TestCrowdedOutForGood(t *testing.T) {
	w := newWorld(t)
	w.append(2)
	var tries [2]atomic.Int32
	f := step("picky", func(_ context.Context, c counter, _ opened) ([]event, error) {
		tries[c.ID[1]-'0'].Add(1)
		return nil, errors.New("a bug")
	})
	f.Start = function.FromNow // it gets what is replayed, and nothing else
	w.stream(2)
	w.eventually("be ready", w.start(f).Ready)
	w.office(20 * time.Millisecond)
	for i, e := range storetest.Consistent(t, t.Context(), w.store, "COUNTERS") {
		letter := deadletter.Letter{
			Function: "picky", Reason: deadletter.ReasonCrowded, Stream: e.Stream, Subject: "COUNTERS.opened",
			Position: e.Position, EventID: e.ID, Data: e.Data,
		}
		if err := deadletter.Bury(t.Context(), w.store, letter); err != nil {
			t.Fatal(err)
		}
		w.eventually("be tried", func() error {
			if n := w.count(deadletter.Stream, deadletter.TypeReplayed); n != 3*(i+1) {
				return fmt.Errorf("%d replays", n)
			}
			return nil
		})
	}
	if first, second := tries[0].Load(), tries[1].Load(); first != 3 || second != 3 {
		t.Errorf("they were tried %d and %d times", first, second)
	}
	w.letters(`{"reason":"crowded","status":"failed"}`, 2)
}

// tooLong has poison aggregates that can't be read within any time, and answers
// all else.
type tooLong struct{ eventstore.Store }

func (s tooLong) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	if !strings.HasPrefix(r.Aggregate, "poison") {
		return s.Store.ReadAggregate(ctx, r)
	}
	return func(yield func(eventstore.Event, error) bool) {
		<-ctx.Done()
		yield(eventstore.Event{}, ctx.Err())
	}
}

// TestPoisonInTheStoreIsNotHeldForEver: more events than there are places take
// the store longer than any handler has.
func TestPoisonInTheStoreIsNotHeldForEver(t *testing.T) {
	read := function.Project("COUNTERS", func(ctx context.Context, log function.Log, batch []function.Message) error {
		for _, e := range batch {
			for _, err := range log.ReadAggregate(ctx, e.Aggregate, 1) {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	for name, f := range map[string]function.Function{
		"event": step("picky", countOnce),
		"batch": {Name: "picky", Doors: []function.Door{read}},
	} {
		t.Run(name, func(t *testing.T) {
			const poison, good = 5, 10
			w := newWorld(t)
			for i := range poison { // of version 2, so that its aggregate must be read
				w.other(fmt.Sprintf("poison%d", i))
				_, err := w.store.Append(t.Context(), eventstore.Append{
					Stream: "COUNTERS", Aggregate: fmt.Sprintf("poison%d", i), Expected: eventstore.Exactly(1),
					Events: []eventstore.Event{storetest.Event("opened", `{"ID":"poison"}`)},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			w.append(good)
			f.Concurrency, f.Deadline, f.Attempts, f.Backoff = 2, 20*time.Millisecond, 2, 10*time.Millisecond
			letters := poison
			if name == "batch" {
				letters = 2 * poison // it gets both events of each
			}
			h, err := host.Start(f, host.Options{
				Conn: w.nc, Store: tooLong{w.store}, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond, StoreCheckInterval: 50 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { w.stop(h) })
			w.eventually("bury the poison, and handle all others", func() error {
				if n := w.count(deadletter.Stream, deadletter.TypeBuried); n != letters {
					return fmt.Errorf("%d of %d buried", n, letters)
				}
				if n := w.count("COUNTERS", "counted"); name == "event" && n != good {
					return fmt.Errorf("%d of %d counted", n, good)
				}
				if c := w.consumer("picky"); c.NumPending > 0 || c.NumAckPending > 0 {
					return fmt.Errorf("%+v", c)
				}
				return nil
			})
		})
	}
}

// TestPoisonOfAProjectionComesAlone, after its first attempt: what comes beside it is
// applied at once, and does not wait for it to fail.
func TestPoisonOfAProjectionComesAlone(t *testing.T) {
	const first, second, third = 10, 5, 20
	w := newWorld(t)
	failed := make(chan int, 100) // how many it was among
	var applied atomic.Int32
	w.start(function.Function{
		Name: "view", Deadline: 5 * time.Second, Attempts: 2, Backoff: 50 * time.Millisecond,
		Doors: []function.Door{function.Project("COUNTERS", func(_ context.Context, _ function.Log, batch []function.Message) error {
			if slices.ContainsFunc(batch, func(e function.Message) bool { return e.Aggregate == "c0" }) {
				failed <- len(batch)
				return errors.New("it can't be applied")
			}
			if slices.ContainsFunc(batch, func(e function.Message) bool { return e.Aggregate == fmt.Sprint("c", first) }) {
				// Until it is there again, and others with it.
				w.appendFrom(first+second, first+second+third)
				w.eventually("come again", func() error {
					if c := w.consumer("view"); c.Delivered.Consumer < first+second+third+1 {
						return fmt.Errorf("%+v", c.Delivered)
					}
					return nil
				})
			}
			applied.Add(int32(len(batch)))
			return nil
		})},
	})
	w.append(first)
	for <-failed > 1 { // nothing: then it failed alone
	}
	w.appendFrom(first, first+second)
	if n := <-failed; n > 1 {
		t.Errorf("it comes again among %d", n)
	}
	w.buried(1)
	w.eventually("apply all others, once", func() error {
		if got, want := applied.Load(), int32(first+second+third-1); got != want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

// TestWhatIsAwayIsWaitedFor for longer than the store's answers are, however
// often it is tried.
func TestWhatIsAwayIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	var calls atomic.Int32
	var back atomic.Bool
	f := step("picky", func(ctx context.Context, c counter, e opened) ([]event, error) {
		calls.Add(1)
		if !back.Load() {
			return nil, fmt.Errorf("the bank: %w", function.ErrUnavailable)
		}
		return countOnce(ctx, c, e)
	})
	f.Attempts = 2
	h, err := host.Start(f, host.Options{
		Conn: w.nc, Store: w.store, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond, StoreCheckInterval: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop(h) })
	w.append(1)
	w.eventually("try more often than there are attempts", func() error {
		if n := calls.Load(); n < 5 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if told := h.Problems(); len(told) != 1 || !strings.HasPrefix(told["COUNTERS"], "1 in hand wait: the bank: ") {
		t.Errorf("its problems are %v", told)
	}
	back.Store(true)
	w.isEventually(1)
	w.eventually("have no problem", func() error {
		if told := h.Problems(); told["COUNTERS"] != "" {
			return fmt.Errorf("its problems are %v", told)
		}
		return nil
	})
	if d := w.consumer("picky"); d.NumRedelivered > 0 {
		t.Errorf("it was put off: %+v", d)
	}
}
