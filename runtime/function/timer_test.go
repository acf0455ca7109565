package function_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/function"
)

// burning are lamps that are to be switched at some time.
type burning struct {
	due  time.Time
	fire func() ([]event, error)
}

func (b burning) Due(l lamp) time.Time {
	if l.On {
		return time.Time{}
	}
	return b.due
}
func (burning) Waiting(context.Context) iter.Seq2[string, error] { return nil }
func (b burning) Fire(context.Context, lamp) ([]event, error)    { return b.fire() }
func on() ([]event, error)                                       { return []event{switched{true}}, nil }
func timer(due time.Time, fire func() ([]event, error)) *function.Timed {
	return function.Timer(burning{due, fire}).(*function.Timed)
}

func TestATimerIsDecidedOnOnce(t *testing.T) {
	s := open(t)
	made := makeLamp(t, s, "l")
	now := time.Now()
	door := timer(now.Add(-time.Second), on)
	m := function.Message{ID: "timer", Aggregate: "l", CorrelationID: "flow"}
	for range 3 { // each by a process that remembers nothing
		if later, err := door.Fire(t.Context(), function.NewRunner("f", s, nil), m); err != nil || !later.IsZero() {
			t.Fatal(later, err)
		}
	}
	all, err := eventstore.Collect(s.ReadAggregate(t.Context(), eventstore.AggregateRead{Stream: "LAMPS", Aggregate: "l"}))
	if err != nil || len(all) != 2 || all[1].CausationID != "timer" || all[1].CorrelationID != "flow" {
		t.Fatalf("%+v, %v", all, err)
	}
	if due, err := door.Due(t.Context(), function.NewRunner("f", s, nil), made); err != nil || due.IsZero() {
		t.Errorf("as of its first event it waits until %v, %v", due, err) // by a process that knows no more
	}
	if due, err := door.DueOf(t.Context(), function.NewRunner("f", s, nil), "l"); err != nil || !due.IsZero() {
		t.Errorf("it waits until %v, %v", due, err)
	}
}

// TestWhatWasWaitedFor is the timer that was armed, whenever it is asked for.
func TestWhatWasWaitedFor(t *testing.T) {
	due := time.Now().Add(time.Hour)
	f := function.Function{Name: "f", Doors: []function.Door{timer(due, on)}}
	events := []function.Message{
		{ID: "e1", Stream: "LAMPS", Aggregate: "l", Version: 1, Type: "made"},
		{ID: "e2", Stream: "LAMPS", Aggregate: "l", Version: 2, Type: "switched", Data: []byte(`{"on":false}`)},
		{ID: "e3", Stream: "LAMPS", Aggregate: "l", Version: 3, Type: "switched", Data: []byte(`{"on":true}`)},
		{ID: "e4", Stream: "LAMPS", Aggregate: "l", Version: 4, Type: "switched", Data: []byte(`{"on":false}`)},
	}
	all, err := function.Waits([]function.Function{f}, events)
	if err != nil || len(all) != 2 || all[0].Since != "e1" || all[1].Since != "e4" {
		t.Fatalf("%+v, %v", all, err)
	}
	if w := all[0]; w.Function != "f" || w.ID != function.TimerID("f", "LAMPS", "l", due.Truncate(time.Microsecond)) || !w.Due.Equal(due.Truncate(time.Microsecond)) {
		t.Errorf("%+v", w)
	}
	events[1].Data = []byte(`[`)
	if _, err := function.Waits([]function.Function{f}, events); err == nil {
		t.Error("it was read")
	}
}

func TestATimerDecidesNothing(t *testing.T) {
	now := time.Now()
	fails := errors.New("it fails")
	for name, c := range map[string]struct {
		due   time.Time
		id    string
		fire  func() ([]event, error)
		later bool
		err   error
	}{
		"too early":        {now.Add(time.Hour), "l", on, true, nil},
		"waits for none":   {time.Time{}, "l", on, false, nil},
		"is not there":     {now, "nobody", on, false, nil},
		"decides on none":  {now, "l", func() ([]event, error) { return nil, nil }, false, nil},
		"fails":            {now, "l", func() ([]event, error) { return nil, fails }, false, fails},
		"that can't be it": {now, "a.b", on, false, &eventstore.InvalidError{}},
	} {
		s := open(t)
		makeLamp(t, s, "l")
		later, err := timer(c.due, c.fire).Fire(t.Context(), function.NewRunner("f", s, nil), function.Message{ID: "timer", Aggregate: c.id})
		var invalid *eventstore.InvalidError
		if later.IsZero() == c.later || !errors.Is(err, c.err) && !errors.As(err, &invalid) {
			t.Errorf("%s: later %v, %v", name, later, err)
		}
		if head, err := s.Head(t.Context(), "LAMPS"); err != nil || head != 1 {
			t.Errorf("%s: %d events, %v", name, head, err)
		}
	}
}

func TestDoorsThatGoTogether(t *testing.T) {
	none := func(context.Context, lamp, made) ([]event, error) { return nil, nil }
	more := func(context.Context, lamp, switched) ([]event, error) { return nil, nil }
	clock := function.Timer(burning{})
	all := function.Project("LAMPS", func(context.Context, function.Log, []function.Message) error { return nil })
	elsewhere := &function.Event{
		Stream: "ELSEWHERE", Type: "made",
		Handle: func(context.Context, *function.Runner, function.Message) error { return nil },
	}
	for _, c := range []struct {
		doors []function.Door
		says  string
	}{
		{[]function.Door{function.On(none), function.On(more)}, ""},
		{[]function.Door{function.On(none), clock, function.Endpoint("a.b", echo[toggle])}, ""},
		{[]function.Door{clock}, ""},
		{[]function.Door{function.On(none), function.On(none)}, "twice"},
		{[]function.Door{clock, clock}, "TIMERS"},
		{[]function.Door{function.On(none), all}, "projection"},
		{[]function.Door{all, clock}, "projection"},
		{[]function.Door{all, function.Endpoint("a.b", echo[toggle])}, ""},
		{[]function.Door{function.On(none), elsewhere}, "LAMPS and of ELSEWHERE"},
		{[]function.Door{elsewhere, clock}, "ELSEWHERE and of LAMPS"},
	} {
		err := function.Function{Name: "f", Doors: c.doors}.Check()
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d doors: %v, want %q", len(c.doors), err, c.says)
		}
	}
	if s := (function.Function{Name: "f", Doors: []function.Door{clock}}).WithDefaults().Scale; s.Min != 1 {
		t.Errorf("a function with a timer has at least %d replicas", s.Min)
	}
	if err := (function.Function{Name: "f", Release: "one", Doors: []function.Door{clock}}).Check(); err == nil || !strings.Contains(err.Error(), "Release") {
		t.Errorf("%v", err)
	}
}
