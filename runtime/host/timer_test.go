package host_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

// waits are counters that wait until they are counted up.
type waits struct {
	until func(c counter) time.Time
	open  func(ctx context.Context) iter.Seq2[string, error]
	fire  func(ctx context.Context, c counter) ([]event, error)
}

func (d waits) Due(c counter) time.Time                              { return d.until(c) }
func (d waits) Waiting(ctx context.Context) iter.Seq2[string, error] { return d.open(ctx) }
func (d waits) Fire(ctx context.Context, c counter) ([]event, error) { return d.fire(ctx, c) }

// waitUntil has counters wait until a time; what is open is what the store has.
func waitUntil(store eventstore.Store, due time.Time) waits {
	return waits{
		until: func(c counter) time.Time {
			if c.Value > 0 {
				return time.Time{}
			}
			return due
		},
		open: func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for e, err := range store.ReadStream(ctx, eventstore.StreamRead{Stream: "COUNTERS", Types: []string{"opened"}}) {
					if !yield(e.Aggregate, err) {
						return
					}
				}
			}
		},
		fire: func(context.Context, counter) ([]event, error) { return []event{counted{1}}, nil },
	}
}

func timed(name string, d waits, more ...function.Door) function.Function {
	return function.Function{Name: name, Doors: append(more, function.Timer(d))}
}

// timers waits until so many messages are in TIMERS.
func (w *world) timers(n uint64) jetstream.StreamState {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	var state jetstream.StreamState
	w.eventually("hold timers", func() error {
		s, err := js.Stream(w.t.Context(), function.TimersStream)
		if err != nil {
			return err
		}
		if state = s.CachedInfo().State; state.Msgs != n {
			return fmt.Errorf("%d of %d", state.Msgs, n)
		}
		return nil
	})
	return state
}

// armed waits until so many messages were in TIMERS at least, fired or not.
func (w *world) armed(n uint64) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually("arm timers", func() error {
		s, err := js.Stream(w.t.Context(), function.TimersStream)
		if err != nil {
			return err
		}
		if info := s.CachedInfo(); info.State.LastSeq+1 < info.Config.FirstSeq+n {
			return fmt.Errorf("%d to %d of %d", info.Config.FirstSeq, info.State.LastSeq, n)
		}
		return nil
	})
}

// once waits until n counters were counted, and checks that each was once, and
// not before it was due.
func (w *world) once(n int, due time.Time) {
	w.t.Helper()
	w.isEventually(n)
	seen := map[string]bool{}
	for _, e := range storetest.Consistent(w.t, w.t.Context(), w.store, "COUNTERS") {
		if e.Type != "counted" {
			continue
		}
		if seen[e.Aggregate] || e.Time.Before(due.Truncate(time.Microsecond)) {
			w.t.Errorf("%s was counted twice, or early: at %v, due %v", e.Aggregate, e.Time, due)
		}
		seen[e.Aggregate] = true
	}
}

func TestTimersFireOnce(t *testing.T) {
	w := newWorld(t)
	const n = 50
	due := time.Now().Add(time.Second)
	f := timed("late", waitUntil(w.store, due))
	w.append(n / 2)
	w.start(f)
	w.start(f) // a second replica
	w.appendFrom(n/2, n)
	w.once(n, due)
	w.timers(0)
	found, err := discovery.Find(t.Context(), w.nc, "late")
	if err != nil || len(found) != 2 {
		t.Fatalf("found %+v, %v", found, err)
	}
	done := map[string]int{}
	for _, i := range found {
		for _, s := range i.Stats {
			done[s.Name+" "+s.Subject] += s.NumRequests
		}
	}
	if done["timer TIMERS.late"] < n || done["all COUNTERS.>"] < 2*n {
		t.Errorf("stats say %v", done)
	}
}

// TestTimerOfOneThatMovedOn fires, and finds nothing to do.
func TestTimerOfOneThatMovedOn(t *testing.T) {
	w := newWorld(t)
	d := waitUntil(w.store, time.Now().Add(3*time.Second))
	var fired atomic.Int32
	d.fire = func(context.Context, counter) ([]event, error) {
		fired.Add(1)
		return []event{counted{1}}, nil
	}
	w.start(timed("late", d))
	w.append(3)
	w.armed(3)
	for i := range 3 {
		w.countUp(fmt.Sprintf("c%d", i))
	}
	w.timers(0)
	w.isEventually(3)
	if n := fired.Load(); n != 0 {
		t.Errorf("%d fired", n)
	}
}

// countUp counts a counter behind everybody's back.
func (w *world) countUp(id string) {
	w.t.Helper()
	_, err := w.store.Append(w.t.Context(), eventstore.Append{
		Stream: "COUNTERS", Aggregate: id, Expected: eventstore.Any, Events: []eventstore.Event{storetest.Event("counted", `{"By":1}`)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestTimerThatIsTooEarly is armed again: what it waits for now is due later.
func TestTimerThatIsTooEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := time.Now().Add(3 * time.Second)
	second := first.Add(time.Second)
	d := waitUntil(w.store, first)
	d.until = func(c counter) time.Time {
		return map[int]time.Time{0: first, 1: second}[c.Value]
	}
	fired := make(chan time.Time, 10)
	d.fire = func(ctx context.Context, _ counter) ([]event, error) {
		fired <- function.Now(ctx)
		return []event{counted{1}}, nil
	}
	w.start(timed("late", d))
	w.append(1)
	w.armed(1)
	w.countUp("c0")
	w.isEventually(2)
	w.timers(0)
	if at := <-fired; at.Before(second.Truncate(time.Microsecond)) || len(fired) > 0 {
		t.Errorf("fired at %v, due %v; and %d times more", at, second, len(fired))
	}
}

// TestAnEventAndItsTimer are not handled at once.
func TestAnEventAndItsTimer(t *testing.T) {
	w := newWorld(t)
	var running, together atomic.Int32
	slowly := func() func() {
		if running.Add(1) > 1 {
			together.Add(1)
		}
		time.Sleep(20 * time.Millisecond)
		return func() { running.Add(-1) }
	}
	d := waitUntil(w.store, time.Now())
	d.fire = func(context.Context, counter) ([]event, error) {
		defer slowly()()
		return []event{counted{1}}, nil
	}
	d.until = func(c counter) time.Time {
		if c.Value >= 8 {
			return time.Time{}
		}
		return time.Unix(int64(c.Value), 0)
	}
	w.start(timed("late", d, function.On(func(context.Context, counter, counted) ([]event, error) {
		defer slowly()()
		return nil, nil
	})))
	w.append(1)
	w.isEventually(8)
	w.timers(0)
	if n := together.Load(); n > 0 {
		t.Errorf("%d times together", n)
	}
}

// TestAStrayTimer changes nothing: not a copy, and not one for nobody.
func TestAStrayTimer(t *testing.T) {
	w := newWorld(t)
	due := time.Now().Add(300 * time.Millisecond)
	w.start(timed("late", waitUntil(w.store, due)))
	w.append(1)
	w.armed(1)
	for _, aggregate := range []string{"c0", "nobody"} {
		for range 3 {
			m := nats.NewMsg("TIMERS.late")
			for k, v := range map[string]string{
				"ce-specversion": "1.0", "ce-id": "x", "ce-type": "late", "ce-subject": aggregate,
				"ce-time": "2026-01-02T03:04:05Z", "ce-version": "1", "ce-schema": "1",
			} {
				m.Header.Set(k, v)
			}
			if err := w.nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.once(1, due)
	w.timers(0)
}

// TestDeadLetterOfATimer can be replayed, and is one however often the timer is
// armed again.
func TestDeadLetterOfATimer(t *testing.T) {
	w := newWorld(t)
	w.office(0)
	d := waitUntil(w.store, time.Now())
	var tries, works atomic.Int32
	d.fire = func(context.Context, counter) ([]event, error) {
		if tries.Add(1); works.Load() == 0 {
			return nil, function.Reject("not yet")
		}
		return []event{counted{1}}, nil
	}
	f := timed("late", d)
	h := w.start(f)
	w.append(1)
	w.buried(1)
	w.stop(h)
	w.start(f) // which arms it again
	w.eventually("fail again", func() error {
		if n := tries.Load(); n < 2 {
			return fmt.Errorf("tried %d times", n)
		}
		return nil
	})
	w.timers(0)
	l := w.letters(`{"function":"late"}`, 1)[0]
	if l.Subject != "TIMERS.late" || l.Reason != deadletter.ReasonRejected {
		t.Errorf("%+v", l)
	}
	works.Store(1)
	var replayed deadletter.Summary
	if code := w.ask("replay", `{"id":"`+l.ID+`"}`, &replayed); code != "" || replayed.Status != deadletter.StatusReplayed {
		t.Fatalf("%s %+v", code, replayed)
	}
	if n := w.count("COUNTERS", "counted"); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestWhatCannotBeArmed does not keep the rest from it; a list that is away is
// told; and a stop waits for nobody.
func TestWhatCannotBeArmed(t *testing.T) {
	w := newWorld(t)
	w.append(2)
	due := time.Now().Add(500 * time.Millisecond)
	d := waitUntil(w.store, due)
	all := d.open
	d.open = func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			if !yield("not an id", nil) {
				return
			}
			all(ctx)(yield)
		}
	}
	w.start(timed("late", d))
	problem := func(name, want string) {
		t.Helper()
		w.eventually("tell", func() error {
			found, err := discovery.Find(t.Context(), w.nc, name)
			if err != nil {
				return err
			}
			for _, i := range found {
				for _, s := range i.Stats {
					if s.Name == "timer" && containsText(s.Data, want) {
						return nil
					}
				}
			}
			return fmt.Errorf("nobody says %q", want)
		})
	}
	w.once(2, due)

	broken := waitUntil(w.store, due)
	var once sync.Once
	waiting := make(chan struct{})
	broken.open = func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			first := false
			once.Do(func() { first = true })
			if first {
				yield("", errors.New("the list is away"))
				return
			}
			close(waiting)
			<-ctx.Done()
			yield("", ctx.Err())
		}
	}
	h := w.start(timed("broken", broken))
	problem("broken", "the list is away")
	<-waiting
	w.stop(h)
}
