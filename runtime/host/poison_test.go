package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
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
			Sequence: e.Position, Event: e.ID, Data: e.Data,
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
