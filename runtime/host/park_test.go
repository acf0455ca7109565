package host_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// waitLong has counters wait for a day; all of them are armed by their events alone.
func waitLong(w *world) waits {
	d := waitUntil(w.store, time.Now().Add(24*time.Hour))
	d.open = func(context.Context) iter.Seq2[string, error] { return func(func(string, error) bool) {} }
	return d
}

// parks starts a function on a connection, which parks for a while.
func (w *world) parks(nc *nats.Conn, while time.Duration, f function.Function) *host.Host {
	w.t.Helper()
	h, err := host.Start(f, host.Options{
		Conn: nc, Store: w.store, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond, Park: while,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.stop(h) })
	return h
}

// leased makes the durable of a function before the function does, with a lease.
func (w *world) leased(f function.Function, lease time.Duration, maxAckPending int) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually("make durable", func() error {
		stream, err := host.FindStream(w.t.Context(), js, "COUNTERS")
		if err != nil {
			return err
		}
		d, _ := host.DurableOf(f)
		d.Config.AckWait = lease
		if maxAckPending > 0 {
			d.Config.MaxAckPending = maxAckPending
		}
		_, _, err = d.Ensure(w.t.Context(), stream)
		return err
	})
}

// parked waits until all events were delivered, and so many of them are not
// acknowledged.
func (w *world) parked(name string, n int) {
	w.t.Helper()
	w.eventually("park", func() error {
		js, err := jetstream.New(w.nc)
		if err != nil {
			return err
		}
		c, err := js.Consumer(w.t.Context(), "COUNTERS", name)
		if err != nil {
			return err
		}
		head, err := w.store.Head(w.t.Context(), "COUNTERS")
		if i := c.CachedInfo(); err != nil || i.Delivered.Stream < head || i.NumAckPending != n {
			return fmt.Errorf("%d of %d delivered, %d of %d unacknowledged, %w", i.Delivered.Stream, head, i.NumAckPending, n, err)
		}
		return nil
	})
}

// neverArmed checks that no timer ever was.
func (w *world) neverArmed() {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := js.Stream(w.t.Context(), function.TimersStream)
	if err != nil {
		w.t.Fatal(err)
	}
	if i := s.CachedInfo(); i.State.LastSeq >= i.Config.FirstSeq {
		w.t.Errorf("timers were armed: %d to %d", i.Config.FirstSeq, i.State.LastSeq)
	}
}

// TestWhatMovesOnNeedsNoTimer: its events are handled at once, and it takes no place
// from others until it has moved on.
func TestWhatMovesOnNeedsNoTimer(t *testing.T) {
	w := newWorld(t)
	const n = 50
	var handled atomic.Int32
	d := waitLong(w)
	due := d.until(counter{})
	d.until = func(c counter) time.Time { // it waits until it was counted twice
		if c.Value > 1 {
			return time.Time{}
		}
		return due
	}
	f := timed("late", d, function.On(func(context.Context, counter, opened) ([]event, error) {
		handled.Add(1)
		return nil, nil
	}))
	f.Concurrency = 2
	w.parks(w.nc, time.Minute, f)
	w.append(n)
	w.parked("late", n)
	w.eventually("handle", func() error {
		if got := handled.Load(); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	for i := range n {
		w.countUp(fmt.Sprintf("c%d", i))
	}
	w.parked("late", n) // the later one of each
	for i := range n {
		w.countUp(fmt.Sprintf("c%d", i))
	}
	w.parked("late", 0)
	w.neverArmed()
}

// TestWhatStaysIsArmed when the while is over.
func TestWhatStaysIsArmed(t *testing.T) {
	w := newWorld(t)
	w.parks(w.nc, 200*time.Millisecond, timed("late", waitLong(w)))
	w.append(20)
	w.timers(20)
	w.parked("late", 0)
}

// TestAnotherReplicaHasTheLaterEvents: who parked the earlier ones asks the store.
func TestAnotherReplicaHasTheLaterEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 100
	for range 3 {
		f := timed("late", waitLong(w))
		f.Concurrency = 1
		w.parks(w.nc, 3*time.Second, f)
	}
	w.append(n)
	for i := range n {
		w.countUp(fmt.Sprintf("c%d", i))
	}
	w.parked("late", 0)
	w.neverArmed()
}

// TestWhatWasParkedByAKilledReplica comes again, and is armed at once. Until then
// its lease is extended.
func TestWhatWasParkedByAKilledReplica(t *testing.T) {
	w := newWorld(t)
	const n, lease = 20, 500 * time.Millisecond
	f := timed("late", waitLong(w))
	w.leased(f, lease, 0)
	var mu sync.Mutex
	extended := map[string]int{}
	if _, err := w.nc.Subscribe("$JS.ACK.COUNTERS.late.>", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if string(m.Data) == "+WPI" {
			extended[m.Subject]++
		}
	}); err != nil {
		t.Fatal(err)
	}
	doomed := w.server.Connect()
	w.parks(doomed, time.Minute, f)
	w.append(n)
	w.parked("late", n)
	w.eventually("extend leases", func() error {
		mu.Lock()
		defer mu.Unlock()
		enough := 0
		for _, times := range extended {
			if times > 3 { // three are a lease
				enough++
			}
		}
		if enough < n {
			return fmt.Errorf("%d of %d", enough, n)
		}
		return nil
	})
	if i := w.consumer("late"); i.NumRedelivered > 0 {
		t.Errorf("%d came again", i.NumRedelivered)
	}
	w.neverArmed()
	doomed.Close() // nothing that it does reaches the server any more
	w.parks(w.nc, time.Minute, f)
	w.timers(n)
	w.parked("late", 0)
}

// TestWhatWasParkedAtAStop is given back at once, and armed by another replica: with
// a lease of an hour nothing else would bring it.
func TestWhatWasParkedAtAStop(t *testing.T) {
	w := newWorld(t)
	f := timed("late", waitLong(w))
	w.leased(f, time.Hour, 0)
	h := w.parks(w.nc, time.Minute, f)
	w.append(20)
	w.parked("late", 20)
	w.stop(h)
	w.parks(w.nc, time.Minute, f)
	w.timers(20)
	w.parked("late", 0)
}

// TestNoRoomToPark: what finds none is armed at once; with a durable of an older
// release that is all of it.
func TestNoRoomToPark(t *testing.T) {
	for name, room := range map[string]int{"five": 5, "none": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			const n = 40
			f := timed("late", waitLong(w))
			f.Concurrency, f.Scale.Max = 1, 1 // of each at once one
			w.leased(f, time.Minute, 1000+room)
			w.parks(w.nc, time.Minute, f)
			w.append(n)
			w.timers(uint64(n - room))
			w.parked("late", room)
		})
	}
}

// TestWhatIsDueSoon is armed at once, and with it what was parked.
func TestWhatIsDueSoon(t *testing.T) {
	w := newWorld(t)
	d := waitLong(w)
	far, soon := d.until(counter{}), time.Now().Add(time.Minute)
	d.until = func(c counter) time.Time { return map[int]time.Time{0: far, 1: soon}[c.Value] }
	w.parks(w.nc, time.Minute, timed("late", d)) // sooner than two whiles and a lease
	w.append(5)
	w.parked("late", 5)
	w.neverArmed()
	for i := range 5 {
		w.countUp(fmt.Sprintf("c%d", i))
	}
	w.timers(5)
	w.parked("late", 0)
}

// TestTimersCannotBeArmed for a while: what is parked stays so, and is armed then.
func TestTimersCannotBeArmed(t *testing.T) {
	w := newWorld(t)
	const n = 5
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	var cfg jetstream.StreamConfig
	w.eventually("have the stream take nothing", func() error {
		s, err := js.Stream(t.Context(), function.TimersStream)
		if err != nil {
			return err
		}
		cfg = s.CachedInfo().Config
		none := cfg
		none.MaxMsgSize = 1
		_, err = js.UpdateStream(t.Context(), none)
		return err
	})
	var tried atomic.Int32
	if _, err := w.nc.Subscribe("TIMERS.late.>", func(*nats.Msg) { tried.Add(1) }); err != nil {
		t.Fatal(err)
	}
	w.parks(w.nc, 100*time.Millisecond, timed("late", waitLong(w)))
	w.append(n)
	w.eventually("try again", func() error {
		if got := tried.Load(); got <= 2*n {
			return fmt.Errorf("%d times", got)
		}
		return nil
	})
	w.parked("late", n)
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w.timers(n)
	w.parked("late", 0)
}

// TestWhatIsParkedIsNoCrowd: it does not make those that fail dead letters.
func TestWhatIsParkedIsNoCrowd(t *testing.T) {
	w := newWorld(t)
	const many, fail = 2048, 400 // three quarters of what the durable admits are 2286
	d := waitLong(w)
	var mu sync.Mutex
	failed := map[string]bool{}
	f := timed("late", d, function.On(func(_ context.Context, c counter, _ opened) ([]event, error) {
		if !strings.HasPrefix(c.ID, "f") {
			return nil, nil
		}
		mu.Lock()
		defer mu.Unlock()
		failed[c.ID] = true
		return nil, errors.New("a bug")
	}))
	f.Concurrency, f.Scale.Max, f.Backoff = 32, 1, time.Minute
	w.parks(w.nc, time.Minute, f)
	w.fill("c", many)
	w.parked("late", many)
	w.fill("f", fail)
	w.eventually("fail", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(failed) < fail {
			return fmt.Errorf("%d of %d", len(failed), fail)
		}
		return nil
	})
	w.parked("late", many+fail)
	if n := w.count(deadletter.Stream, deadletter.TypeBuried); n > 0 {
		t.Errorf("%d buried", n)
	}
}

// TestWhatIsParkedAsksForNoReplica: a function with a timer may leave more
// unacknowledged than it declares to have waiting.
func TestWhatIsParkedAsksForNoReplica(t *testing.T) {
	plain, late := step("plain", countOnce), timed("late", waits{})
	for _, f := range []*function.Function{&plain, &late} {
		f.Scale = function.Scale{Max: 3, TargetLag: 10}
	}
	has, _ := host.DurableOf(plain)
	more, _ := host.DurableOf(late)
	if got, room := host.Lag(plain), has.Config.MaxAckPending; got != 10 || room != 1280 {
		t.Errorf("%d for a replica, %d may be unacknowledged", got, room)
	}
	if got, room := host.Lag(late), more.Config.MaxAckPending; got != 2058 || room != 1280+3*2048 {
		t.Errorf("%d for a replica with a timer, %d may be unacknowledged", got, room)
	}
	for _, d := range host.DurablesOf(late)[1:] {
		if room := d.Config.MaxAckPending; room != 1280 {
			t.Errorf("%d timers may be unacknowledged", room)
		}
	}
}
