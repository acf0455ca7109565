package host_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/host"
)

// cutOff is a store that can't be reached while it is down.
type cutOff struct {
	eventstore.Store
	down atomic.Bool
}

func (c *cutOff) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if c.down.Load() {
		return eventstore.Appended{}, eventstore.ErrUnavailable
	}
	return c.Store.Append(ctx, a)
}

func (c *cutOff) ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	if c.down.Load() {
		return func(yield func(eventstore.Event, error) bool) { yield(eventstore.Event{}, eventstore.ErrUnavailable) }
	}
	return c.Store.ReadStream(ctx, r)
}

// TestWhoIsCutOffTakesNothing has two replicas of which one can't reach the
// event store, at first never, then no more: the other handles everything.
func TestWhoIsCutOffTakesNothing(t *testing.T) {
	w := newWorld(t)
	store := &cutOff{Store: w.store}
	store.down.Store(true)
	f := step("counts", countOnce)
	handled := func(n int) func() error {
		return func() error {
			if got := w.count("COUNTERS", "counted"); got != n {
				return fmt.Errorf("%d of %d", got, n)
			}
			return nil
		}
	}
	away, err := host.Start(f, host.Options{
		Conn: w.nc, Store: store, Logger: slog.New(slog.DiscardHandler), PullExpiry: 50 * time.Millisecond, StoreCheckInterval: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop(away)
	near := w.start(f)
	w.append(50)
	w.eventually("handle all", handled(50))
	w.eventually("say why it is not ready", func() error {
		if err := away.Ready(); err == nil || !strings.Contains(err.Error(), "event store") {
			return fmt.Errorf("it says %q", fmt.Sprint(err))
		}
		return nil
	})
	store.down.Store(false)
	w.eventually("reach the store", away.Ready)
	w.stop(near) // now the other gets it all, and is cut off
	store.down.Store(true)
	w.appendFrom(50, 80)
	w.eventually("take notice", func() error {
		if away.Ready() == nil {
			return errors.New("it says it is ready")
		}
		return nil
	})
	w.start(f)
	w.eventually("handle what was given back", handled(80))
}
