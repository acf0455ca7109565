package host_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// TestTimersOutliveJetStream deletes all of it while a thousand are pending. The
// deadlines are far off until then, so that none passes before.
func TestTimersOutliveJetStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 1000
	w.append(n)
	var due atomic.Int64
	due.Store(time.Now().Add(time.Hour).UnixMicro())
	d := waitUntil(w.store, time.Time{})
	d.until = func(c counter) time.Time {
		if c.Value > 0 {
			return time.Time{}
		}
		return time.UnixMicro(due.Load())
	}
	w.start(timed("late", d))
	before := w.timers(n)
	w.server.Stop()
	w.server.Wipe()
	due.Store(time.Now().Add(3 * time.Second).UnixMicro())
	w.server.Restart()
	w.once(n, time.UnixMicro(due.Load()))
	if after := w.timers(0); after.FirstSeq <= before.LastSeq {
		t.Errorf("sequences come twice: %d after %d", after.FirstSeq, before.LastSeq)
	}
}

// TestManyTimersLeaveNothing in the stream once they have fired.
func TestManyTimersLeaveNothing(t *testing.T) {
	w := newWorld(t)
	const n = 2000
	d := waitUntil(w.store, time.Now().Add(-time.Second))
	d.fire = func(context.Context, counter) ([]event, error) { return nil, nil }
	d.open = func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for i := range n {
				if !yield(fmt.Sprintf("c%d", i), nil) {
					return
				}
			}
		}
	}
	w.append(n)
	began := time.Now()
	w.start(timed("late", d))
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("fire all", func() error {
		s, err := js.Stream(t.Context(), function.TimersStream)
		if err != nil {
			return err
		}
		if state := s.CachedInfo().State; state.Msgs > 0 {
			return fmt.Errorf("%+v", state)
		}
		c, err := s.Consumer(t.Context(), "late")
		if err != nil {
			return err
		}
		if done := c.CachedInfo().AckFloor.Consumer; done < n {
			return fmt.Errorf("%d of %d", done, n)
		}
		return nil
	})
	state := w.timers(0)
	t.Logf("armed and fired %d in %v; the stream holds %d bytes", n, time.Since(began), state.Bytes)
	if state.Bytes > 0 {
		t.Errorf("%d bytes are left", state.Bytes)
	}
}

// TestTimersStreamIsDeleted, and nothing else.
func TestTimersStreamIsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(10)
	due := time.Now().Add(5 * time.Second)
	w.start(timed("late", waitUntil(w.store, due)))
	w.armed(10)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), function.TimersStream); err != nil {
		t.Fatal(err)
	}
	w.once(10, due)
}

// TestTimersStreamIsDeletedWhileAllAreBusy: nothing is pulled then, and when
// something is, stream and durable are there again.
func TestTimersStreamIsDeletedWhileAllAreBusy(t *testing.T) {
	t.Parallel()
	const n = 10
	due := time.Now().Add(-time.Second)
	busy, release := make(chan struct{}, n), make(chan struct{})
	var w *world
	var d waits
	d.until = func(c counter) time.Time {
		switch {
		case c.Value > 0:
			return time.Time{}
		case c.ID == "c0" || c.ID == "c1":
			return due
		default:
			return due.Add(time.Hour)
		}
	}
	d.open = func(ctx context.Context) iter.Seq2[string, error] { return waitUntil(w.store, due).open(ctx) }
	d.fire = func(ctx context.Context, _ counter) ([]event, error) {
		busy <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return []event{counted{1}}, nil
	}
	f := timed("late", d)
	f.Concurrency, f.Deadline = 1, time.Minute
	w = newWorld(t, f)
	w.append(n)
	w.start(f)
	w.armed(n)
	<-busy
	w.eventually("have both in hand", func() error {
		js, err := jetstream.New(w.nc)
		if err != nil {
			return err
		}
		c, err := js.Consumer(t.Context(), function.TimersStream, "late")
		if err != nil {
			return err
		}
		if c.CachedInfo().NumAckPending != 2 {
			return fmt.Errorf("%+v", c.CachedInfo())
		}
		return nil
	})
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), function.TimersStream); err != nil {
		t.Fatal(err)
	}
	w.armed(n)
	close(release)
	w.isEventually(2)
}

// TestTimersOfAStoppedReplica fire in another.
func TestTimersOfAStoppedReplica(t *testing.T) {
	w := newWorld(t)
	due := time.Now().Add(500 * time.Millisecond)
	d := waitUntil(w.store, due)
	stuck := d
	begun := make(chan struct{}, 100)
	stuck.fire = func(ctx context.Context, _ counter) ([]event, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	h, err := host.Start(timed("late", stuck), host.Options{
		Conn: w.nc, Store: w.store, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.append(5)
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := h.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopped: %v", err)
	}
	w.start(timed("late", d))
	w.once(5, due)
}
