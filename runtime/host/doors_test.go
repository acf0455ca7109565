package host_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// twice decides on two types of events: it counts what was opened, and counts
// that once more.
func twice(name string) function.Function {
	again := func(_ context.Context, c counter, _ counted) ([]event, error) {
		if c.Value != 1 {
			return nil, nil
		}
		return []event{counted{1}}, nil
	}
	return function.Function{Name: name, Release: "2.0.0", Doors: []function.Door{function.On(countOnce), function.On(again)}}
}

// other appends an event that nobody has a door for.
func (w *world) other(id string) {
	w.t.Helper()
	_, err := w.store.Append(w.t.Context(), eventstore.Append{
		Stream: "COUNTERS", Aggregate: id, Expected: eventstore.Any, Events: []eventstore.Event{storetest.Event("other", `{}`)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) consumer(name string) *jetstream.ConsumerInfo {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := js.Consumer(w.t.Context(), "COUNTERS", name)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.CachedInfo()
}

func TestSeveralEventDoors(t *testing.T) {
	w := newWorld(t)
	w.start(twice("two"))
	w.append(10)
	w.other("c0")
	w.isEventually(20)
	w.eventually("acknowledge what has no door", func() error {
		if c := w.consumer("two"); c.NumPending > 0 || c.NumAckPending > 0 || c.Config.FilterSubject != "COUNTERS.>" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	found, err := discovery.Find(t.Context(), w.nc, "two")
	if err != nil || len(found) != 1 || found[0].Version != "2.0.0" {
		t.Fatalf("found %+v, %v", found, err)
	}
	seen := map[string]int{}
	for i, s := range found[0].Stats {
		seen[s.Subject] = s.NumRequests
		schema := found[0].Endpoints[i].Metadata[discovery.MetadataSchema+"event"]
		if strings.HasPrefix(s.Subject, "COUNTERS.") && !strings.Contains(schema, `"type":"object"`) {
			t.Errorf("%s has the schema %q", s.Subject, schema)
		}
	}
	if seen["COUNTERS.opened"] != 10 || seen["COUNTERS.counted"] != 20 {
		t.Errorf("stats say %v", seen)
	}
}

// TestObserversSeeDoors: each event under the subject of the door that takes it,
// and none that no door takes.
func TestObserversSeeDoors(t *testing.T) {
	store := memory.New()
	defer func() { _ = store.Close() }()
	never := waitUntil(store, time.Time{})
	for name, c := range map[string]struct {
		f    function.Function
		want map[string]map[string]int
	}{
		"two events": {twice("two"), map[string]map[string]int{
			"COUNTERS.opened": {"handled": 2}, "COUNTERS.counted": {"handled": 4},
		}},
		"an event and a timer": {timed("late", never, function.On(countOnce)), map[string]map[string]int{
			"COUNTERS.opened": {"handled": 2}, "COUNTERS.>": {"handled": 5},
		}},
		"a projection": {function.Function{Name: "view", Doors: []function.Door{
			function.Project("COUNTERS", func(context.Context, function.Log, []function.Message) error { return nil }),
		}}, map[string]map[string]int{"COUNTERS.>": {"handled": 7}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			seen := &watcher{}
			w.observer = seen
			w.append(2)
			w.other("c0")
			if c.f.Name != "two" { // which appends these itself
				w.countTwice("c0", "c1")
			}
			h := w.start(c.f)
			w.eventually("be ready", h.Ready)
			w.eventually("acknowledge all seven", func() error {
				if c := w.consumer(c.f.Name); c.AckFloor.Stream != 7 {
					return fmt.Errorf("%+v", c)
				}
				return nil
			})
			w.stop(h)
			got := map[string]map[string]int{}
			for _, o := range seen.all {
				if o.ended != 1 || o.settled != 1 {
					t.Errorf("%+v", o)
				}
				got[o.taken.Door] = seen.outcomes(o.taken.Door)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("seen %v, want %v", got, c.want)
			}
			doors := host.EventDoors(c.f)
			for door := range got {
				if !slices.Contains(doors, door) {
					t.Errorf("%s is none of %v", door, doors)
				}
			}
		})
	}
}

// countTwice has counters be counted up by somebody else.
func (w *world) countTwice(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		_, err := w.store.Append(w.t.Context(), eventstore.Append{
			Stream: "COUNTERS", Aggregate: id, Expected: eventstore.Any,
			Events: []eventstore.Event{storetest.Event("counted", `{"By":1}`), storetest.Event("counted", `{"By":1}`)},
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestADoorMoreWidensTheDurable, when the replicas of the release before are
// gone, and from where it stands.
func TestADoorMoreWidensTheDurable(t *testing.T) {
	w := newWorld(t)
	old := w.start(step("grows", countOnce))
	w.append(5)
	w.isEventually(5)
	young := w.start(twice("grows"))
	w.eventually("wait for the old release", func() error {
		if err := young.Ready(); err == nil || !strings.Contains(err.Error(), "still uses it") {
			return fmt.Errorf("it is ready, or says %w", err)
		}
		return nil
	})
	if c := w.consumer("grows"); c.Config.FilterSubject != "COUNTERS.opened" {
		t.Errorf("it filters %q", c.Config.FilterSubject)
	}
	w.stop(old)
	w.eventually("take over", young.Ready)
	if c := w.consumer("grows"); c.Config.FilterSubject != "COUNTERS.>" {
		t.Errorf("it filters %q", c.Config.FilterSubject)
	}
	w.appendFrom(5, 10)
	w.eventually("handle by both doors", func() error {
		for i := 5; i < 10; i++ {
			if n := w.valueOf(fmt.Sprintf("c%d", i)); n != 2 {
				return fmt.Errorf("c%d was counted %d times", i, n)
			}
		}
		return nil
	})
}

// TestADoorMoreAfterABacklog: the release before gave back what it had in hand
// when it was stopped, so that is unacknowledged until somebody takes it.
func TestADoorMoreAfterABacklog(t *testing.T) {
	w := newWorld(t)
	w.append(5)
	old := w.durable("grows")
	w.eventually("take all in hand", func() error {
		batch, err := old.FetchNoWait(5)
		if err != nil {
			return err
		}
		n := 0
		for m := range batch.Messages() {
			n++
			if err := m.Nak(); err != nil {
				return err
			}
		}
		if n == 0 {
			return errors.New("none came")
		}
		return batch.Error()
	})
	w.eventually("be given back", func() error {
		if c := w.consumer("grows"); c.NumAckPending == 0 || c.NumWaiting > 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	w.eventually("take over", w.start(twice("grows")).Ready)
	w.isEventually(10)
}

func (w *world) valueOf(id string) (n int) {
	w.t.Helper()
	for _, e := range storetest.Consistent(w.t, w.t.Context(), w.store, "COUNTERS") {
		if e.Aggregate == id && e.Type == "counted" {
			n++
		}
	}
	return n
}

// TestAReleaseBeforeGivesBack what it has no door for, when a durable was widened
// under it, and takes no more beside the release that has.
func TestAReleaseBeforeGivesBack(t *testing.T) {
	w := newWorld(t)
	old := w.start(step("grows", countOnce))
	w.eventually("be ready", old.Ready)
	young := w.start(twice("grows"))
	w.widen("grows") // as if none had pulled at that moment
	w.eventually("take over", young.Ready)
	w.append(10)
	w.isEventually(20)
	w.eventually("stay away", func() error { return w.stays("grows", "runs: grows 2.0.0 handles COUNTERS.counted") })
	if err := old.Ready(); err != nil {
		t.Errorf("who replaces it waits for %v", err)
	}
	w.appendFrom(10, 20)
	w.isEventually(40)
}

// TestADoorLess: a release goes back from two event doors to one. Nothing is lost
// or handled twice, and nothing stands still; what it has no door for is done.
func TestADoorLess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	young := w.start(twice("shrinks"))
	w.append(5)
	w.isEventually(10)
	old := w.start(step("shrinks", countOnce))
	w.eventually("leave it to the newer one", func() error { return w.stays("shrinks", "handles COUNTERS.counted") })
	w.appendFrom(5, 10)
	w.isEventually(20)
	w.stop(young)
	w.appendFrom(10, 20)
	w.isEventually(30)
	w.other("c0")
	w.eventually("acknowledge what has no door", func() error {
		if c := w.consumer("shrinks"); c.NumPending > 0 || c.NumAckPending > 0 || c.Config.FilterSubject != "COUNTERS.>" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if n := w.count("DEADLETTERS", "buried"); n != 0 {
		t.Errorf("%d were buried", n)
	}
	again := w.start(twice("shrinks"))
	w.eventually("leave it again", func() error { return w.stays("shrinks", "handles COUNTERS.counted") })
	w.appendFrom(20, 25)
	w.isEventually(40)
	w.stop(again)
	w.stop(old)
}

// stays tells whether a replica of the function says why it takes no events.
func (w *world) stays(name, want string) error {
	w.t.Helper()
	found, err := discovery.Find(w.t.Context(), w.nc, name)
	if err != nil {
		return err
	}
	said := []string{}
	for _, i := range found {
		for _, s := range i.Stats {
			if problem := discovery.HealthOf(s).Problem; strings.Contains(problem, want) {
				return nil
			} else if problem != "" {
				said = append(said, problem)
			}
		}
	}
	return fmt.Errorf("they say %q", said)
}

// widen has the durable bring all events.
func (w *world) widen(name string) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := w.consumer(name).Config
	cfg.FilterSubject = "COUNTERS.>"
	if _, err := js.UpdateConsumer(w.t.Context(), "COUNTERS", cfg); err != nil {
		w.t.Fatal(err)
	}
}
