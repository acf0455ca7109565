package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// isEventually waits until so many were counted, and none was buried.
func (w *world) isEventually(n int) {
	w.t.Helper()
	w.eventually("count", func() error {
		if counted, buried := w.count("COUNTERS", "counted"), w.count(deadletter.Stream, deadletter.TypeBuried); counted != n || buried > 0 {
			return fmt.Errorf("%d of %d, %d buried", counted, n, buried)
		}
		return nil
	})
}

// floor waits until it is saved that a durable has handled so much.
func (w *world) floor(name string, least uint64) {
	w.t.Helper()
	w.eventually("save floor", func() error {
		all, err := w.store.Durables(w.t.Context(), "COUNTERS")
		for _, d := range all {
			if d.Name == name && d.Floor >= least {
				return nil
			}
		}
		return fmt.Errorf("saved %+v, %w", all, err)
	})
}

// TestLostDurableOfAFunctionFromNow is made anew by the function first, from
// the stream's end, and must not skip what waited.
func TestLostDurableOfAFunctionFromNow(t *testing.T) {
	w := newWorld(t)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	f := step("now", countOnce)
	f.Start = function.FromNow
	h := w.start(f)
	w.eventually("be ready", h.Ready)
	w.appendFrom(0, 10)
	w.isEventually(10)
	w.floor("now", 20)
	w.stop(h)
	w.appendFrom(10, 20)
	if err := js.DeleteConsumer(t.Context(), "COUNTERS", "now"); err != nil {
		t.Fatal(err)
	}
	w.start(f)
	w.isEventually(20)
}

// hanging is a store that does not answer in time.
type hanging struct {
	eventstore.Store
	down  atomic.Bool
	calls atomic.Int32
}

func (h *hanging) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if h.down.Load() && a.Stream == "COUNTERS" {
		h.calls.Add(1)
		<-ctx.Done()
		return eventstore.Appended{}, fmt.Errorf("append: %w", ctx.Err())
	}
	return h.Store.Append(ctx, a)
}

// TestASlowStoreIsNoFailure: no event is buried because its store was slow.
func TestASlowStoreIsNoFailure(t *testing.T) {
	w := newWorld(t)
	store := &hanging{Store: w.store}
	store.down.Store(true)
	f := step("slow", countOnce)
	f.Deadline, f.Backoff, f.Attempts = 50*time.Millisecond, 5*time.Millisecond, 2
	h, err := host.Start(f, host.Options{Conn: w.nc, Store: store, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop(h) })
	w.append(5)
	w.eventually("try more often than there are attempts", func() error {
		if n := store.calls.Load(); int(n) <= 5*f.Attempts*2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	store.down.Store(false)
	w.isEventually(5)
}

// durable makes a function's durable before the function does, with a short
// lease, so that what a process that died had in hand comes again soon.
func (w *world) durable(name string) jetstream.Consumer { return w.durableOf(name, 1000) }

func (w *world) durableOf(name string, maxAckPending int) jetstream.Consumer {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	var c jetstream.Consumer
	w.eventually("make durable", func() error {
		stream, err := host.FindStream(w.t.Context(), js, "COUNTERS")
		if err != nil {
			return err
		}
		c, err = stream.CreateConsumer(w.t.Context(), jetstream.ConsumerConfig{
			Durable: name, FilterSubject: "COUNTERS.opened", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, AckWait: 500 * time.Millisecond,
			MaxAckPending: maxAckPending,
		})
		return err
	})
	return c
}

// TestManyDeliveriesBuryNothing: a deploy that crashed on its own account.
func TestManyDeliveriesBuryNothing(t *testing.T) {
	w := newWorld(t)
	w.append(20)
	w.suspect(w.durable("near"), 20)
	w.start(step("near", countOnce))
	w.isEventually(20)
}

// suspect raises the delivery counts of so many events, of no fault of theirs.
func (w *world) suspect(c jetstream.Consumer, n int) {
	w.t.Helper()
	for range 50 {
		batch, err := c.Fetch(n, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			w.t.Fatal(err)
		}
		for m := range batch.Messages() {
			if err := m.Nak(); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// TestWithoutTheBucketAllGoesOn: what fails is buried, what is suspect handled,
// and nothing stands still while nobody can count in FAILURES.
func TestWithoutTheBucketAllGoesOn(t *testing.T) {
	w := newWorld(t)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	// Something else has the bucket's name.
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KV_FAILURES", Subjects: []string{"nobody"}}); err != nil {
		t.Fatal(err)
	}
	c := w.durable("picky")
	w.append(4)
	w.suspect(c, 4)
	f := step("picky", func(ctx context.Context, c counter, o opened) ([]event, error) {
		if c.ID == "c0" || c.ID == "c1" {
			return nil, errors.New("a bug")
		}
		return countOnce(ctx, c, o)
	})
	f.Concurrency, f.Attempts = 2, 2
	w.start(f)
	w.appendFrom(4, 12)
	w.eventually("handle ten, bury two", func() error {
		if counted, buried := w.count("COUNTERS", "counted"), w.count(deadletter.Stream, deadletter.TypeBuried); counted != 10 || buried != 2 {
			return fmt.Errorf("%d counted, %d buried", counted, buried)
		}
		return nil
	})
}

// TestADurableIsTakenAsItIs: its settings may be those of a newer release, which
// an older replica must not undo.
func TestADurableIsTakenAsItIs(t *testing.T) {
	w := newWorld(t)
	w.durableOf("old", 77)
	h := w.start(step("old", countOnce))
	w.append(3)
	w.isEventually(3)
	w.stop(h)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), "COUNTERS", "old")
	if err != nil {
		t.Fatal(err)
	}
	if has := c.CachedInfo().Config; has.MaxAckPending != 77 || has.AckWait != 500*time.Millisecond {
		t.Errorf("its settings are now %+v", has)
	}
}

// TestStopUnderABacklog: whatever was on its way to a replica that stops goes to
// the next one at once. With a lease of an hour nothing that was missed would come.
func TestStopUnderABacklog(t *testing.T) {
	const n = 1000
	w := newWorld(t)
	w.fill("c", n)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := jetstream.ConsumerConfig{
		Durable: "one", FilterSubject: "COUNTERS.opened", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, AckWait: time.Hour,
	}
	w.stream(n)
	if _, err := js.CreateConsumer(t.Context(), "COUNTERS", cfg); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int32
	f := step("one", func(ctx context.Context, c counter, e opened) ([]event, error) {
		handled.Add(1)
		return countOnce(ctx, c, e)
	})
	for stop := int32(1); stop <= 4; stop++ {
		h := w.start(f)
		w.eventually("be at it", func() error {
			if got := handled.Load(); got < stop*n/5 {
				return fmt.Errorf("%d handled", got)
			}
			return nil
		})
		w.stop(h)
	}
	w.start(f)
	w.isEventually(n)
}
