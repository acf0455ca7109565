package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// watcher notes what an observer is told.
type watcher struct {
	mu      sync.Mutex
	all     []*watched
	batched int // events that were told of in batches
}

type watched struct {
	w                      *watcher
	taken                  host.Taken
	begun, settled, ended  int
	outcome, buried, error string
}

type watchedKey struct{}

func (w *watcher) Observe(t host.Taken) host.Observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &watched{w: w, taken: t}
	w.all = append(w.all, o)
	return o
}

func (*watcher) Door(string, string) {}
func (w *watcher) Batch(ctx context.Context, events []host.Observation) (context.Context, func(error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batched += len(events)
	return ctx, func(error) {}
}

func (o *watched) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, watchedKey{}, o)
}

func (o *watched) note(f func()) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	f()
}

func (o *watched) Traceparent() string     { return o.taken.Header.Get("traceparent") + "-observed" }
func (o *watched) Begin()                  { o.note(func() { o.begun++ }) }
func (o *watched) Buried(_, reason string) { o.note(func() { o.buried = reason }) }
func (o *watched) End()                    { o.note(func() { o.ended++ }) }
func (o *watched) Settle(outcome string, _ time.Duration, err error) {
	o.note(func() {
		o.settled++
		if o.outcome = outcome; err != nil {
			o.error = err.Error()
		}
	})
}

// outcomes are how many messages of a door ended in which way.
func (w *watcher) outcomes(door string) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for _, o := range w.all {
		if o.taken.Door == door && o.settled > 0 && o.ended > 0 {
			all[o.outcome]++
		}
	}
	return all
}

// TestObserver has it told of every message once, and the same as nats micro.
func TestObserver(t *testing.T) {
	w := newWorld(t)
	seen := &watcher{}
	w.observer = seen
	f := step("count", func(ctx context.Context, c counter, e opened) ([]event, error) {
		if o, ok := ctx.Value(watchedKey{}).(*watched); !ok || o.taken.Header.Get("ce-subject") != e.ID {
			t.Errorf("the context of %s is that of %+v", e.ID, o)
		}
		switch e.ID {
		case "c1":
			return nil, function.Reject("not this one")
		case "c2":
			return nil, errors.New("broken")
		}
		return countOnce(ctx, c, e)
	})
	f.Attempts = 2
	f.Doors = append(f.Doors, function.Create("counters.open", open))
	h := w.start(f)
	w.append(4)
	w.request("counters.open", `{"id":"c9"}`)
	w.request("counters.open", `{"id":"not an id"}`)
	w.buried(2)
	want := map[string]int{"handled": 3, "buried": 1, "failed": 2}
	w.eventually("settle all", func() error {
		if got := seen.outcomes("COUNTERS.opened"); !maps.Equal(got, want) {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return nil
	})
	if got, want := seen.outcomes("counters.open"), map[string]int{"200": 1, "400": 1}; !maps.Equal(got, want) {
		t.Errorf("requests: %v, want %v", got, want)
	}
	var stats micro.Stats
	if err := json.Unmarshal(w.request("$SRV.STATS.count", "").Data, &stats); err != nil {
		t.Fatal(err)
	}
	for _, e := range stats.Endpoints {
		n, wrong := 0, 0
		for outcome, times := range seen.outcomes(e.Subject) {
			if n += times; outcome != "handled" && outcome != "200" {
				wrong += times
			}
		}
		if e.NumRequests != n || e.NumErrors != wrong {
			t.Errorf("%s: nats micro says %d with %d errors, the observer %d with %d", e.Subject, e.NumRequests, e.NumErrors, n, wrong)
		}
	}
	w.stop(h)
	reasons := map[string]int{}
	for _, o := range seen.all {
		if o.ended != 1 || o.settled != 1 || o.begun > 1 || o.begun == 0 && o.outcome != "400" {
			t.Errorf("%+v", o)
		}
		if o.buried != "" {
			reasons[o.buried]++
		}
	}
	if want := map[string]int{deadletter.ReasonRejected: 1, deadletter.ReasonAttempts: 1}; !maps.Equal(reasons, want) {
		t.Errorf("buried: %v, want %v", reasons, want)
	}
}

// buried waits until so many are.
func (w *world) buried(n int) {
	w.t.Helper()
	w.eventually("bury", func() error {
		if got := w.count(deadletter.Stream, deadletter.TypeBuried); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
}
