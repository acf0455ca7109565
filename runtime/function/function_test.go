package function_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/function"
)

type (
	lamp struct {
		On      bool   `json:"on"`
		Version uint64 `json:"version"`
	}
	made     struct{}
	switched struct {
		On bool `json:"on"`
	}
	event interface{ EventType() string }
)

func (made) EventType() string     { return "made" }
func (switched) EventType() string { return "switched" }
func (switched) EventSchema() int  { return 2 }
func (lamp) Stream() string        { return "LAMPS" }

func (lamp) Decode(typ string, _ int, data []byte) (event, error) {
	if typ == "made" {
		return made{}, nil
	}
	var s switched
	err := json.Unmarshal(data, &s)
	return s, err
}

func (l lamp) Evolve(e event) lamp {
	l.Version++
	if s, ok := e.(switched); ok {
		l.On = s.On
	}
	return l
}

type toggle struct {
	ID string `json:"id"`
}

func (t toggle) AggregateID() string { return t.ID }

func open(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	return storetest.Opened(t, s, err)
}

func makeLamp(t *testing.T, s eventstore.Store, id string) eventstore.Event {
	t.Helper()
	e := storetest.Event("made", `{}`)
	done, err := s.Append(t.Context(), eventstore.Append{Stream: "LAMPS", Aggregate: id, Expected: eventstore.New, Events: []eventstore.Event{e}})
	if err != nil {
		t.Fatal(err)
	}
	return done.Events[0]
}

// other appends behind the back of whoever decides.
func other(t *testing.T, s eventstore.Store, id string) {
	t.Helper()
	_, err := s.Append(t.Context(), eventstore.Append{
		Stream: "LAMPS", Aggregate: id, Expected: eventstore.Any, Events: []eventstore.Event{storetest.Event("switched", `{"on":true}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAConflictIsDecidedAgain(t *testing.T) {
	for _, c := range []struct {
		conflicts, decisions int
		err                  error
	}{{0, 1, nil}, {1, 2, nil}, {2, 3, nil}, {3, 3, function.ErrConflicts}} {
		s := open(t)
		first := makeLamp(t, s, "l")
		decisions := 0
		door := function.On(func(_ context.Context, l lamp, _ made) ([]event, error) {
			decisions++
			if l.Version != uint64(decisions) {
				t.Errorf("decision %d sees version %d", decisions, l.Version)
			}
			if decisions <= c.conflicts {
				other(t, s, "l")
			}
			return []event{switched{true}}, nil
		}).(*function.Event)
		err := door.Handle(t.Context(), function.NewRunner("f", s, nil), first)
		if !errors.Is(err, c.err) || decisions != c.decisions {
			t.Errorf("%d conflicts: %d decisions, %v", c.conflicts, decisions, err)
		}
	}
}

func TestARedeliveryAppendsNothing(t *testing.T) {
	s := open(t)
	first := makeLamp(t, s, "l")
	door := function.On(func(context.Context, lamp, made) ([]event, error) { // one that forgets to look at the state
		return []event{switched{true}, switched{false}}, nil
	}).(*function.Event)
	for range 3 { // each by a process that remembers nothing
		if err := door.Handle(t.Context(), function.NewRunner("f", s, nil), first); err != nil {
			t.Fatal(err)
		}
	}
	all := storetest.Consistent(t, t.Context(), s, "LAMPS")
	if len(all) != 3 {
		t.Fatalf("%d events, want 3", len(all))
	}
	for _, e := range all[1:] {
		if e.CausationID != first.ID || e.CorrelationID != "l" || e.Source != "f" || e.Schema != 2 {
			t.Errorf("envelope %+v", e)
		}
	}
}

func TestCommandSeesTheLatest(t *testing.T) {
	s := open(t)
	makeLamp(t, s, "l")
	run := function.NewRunner("f", s, nil)
	door := function.Command("lamps.toggle", func(_ context.Context, l lamp, _ toggle) ([]event, error) {
		return []event{switched{!l.On}}, nil
	}).(*function.Request)
	for i, want := range []string{`{true 2}`, `{false 3}`} {
		p, err := door.Prepare([]byte(`{"id":"l"}`))
		if err != nil || p.Aggregate != "l" {
			t.Fatal(p, err)
		}
		ctx := function.WithCause(t.Context(), function.Cause{ID: fmt.Sprint("request", i)})
		reply, err := p.Answer(ctx, run)
		if err != nil || fmt.Sprint(reply) != want {
			t.Fatalf("%v, %v; want %s", reply, err, want)
		}
	}
	other(t, s, "l") // on again, and the cache does not know
	p, _ := door.Prepare([]byte(`{"id":"l"}`))
	reply, err := p.Answer(function.WithCause(t.Context(), function.Cause{ID: "last"}), run)
	if err != nil || fmt.Sprint(reply) != `{false 5}` {
		t.Fatalf("%v, %v", reply, err)
	}
}

// restored is a store that was replaced by an older one under its users.
type restored struct{ eventstore.Store }

// TestAStoreWithLessIsBelieved, and not what the cache remembers.
func TestAStoreWithLessIsBelieved(t *testing.T) {
	s := &restored{open(t)}
	run := function.NewRunner("f", s, nil)
	door := function.Command("lamps.toggle", func(_ context.Context, l lamp, _ toggle) ([]event, error) {
		return []event{switched{!l.On}}, nil
	}).(*function.Request)
	ask := func(i int, want string) {
		t.Helper()
		p, _ := door.Prepare([]byte(`{"id":"l"}`))
		reply, err := p.Answer(function.WithCause(t.Context(), function.Cause{ID: fmt.Sprint("request", i)}), run)
		if err != nil || fmt.Sprint(reply) != want {
			t.Fatalf("%v, %v; want %s", reply, err, want)
		}
	}
	makeLamp(t, s, "l")
	ask(1, `{true 2}`)
	ask(2, `{false 3}`)
	ask(3, `{true 4}`)
	s.Store = open(t)
	makeLamp(t, s, "l")
	ask(4, `{true 2}`)
}

func TestFateOf(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		stopping bool
		want     function.Fate
	}{
		"nil":               {nil, false, function.Handled},
		"nil, stopping":     {nil, true, function.Handled},
		"rejected":          {fmt.Errorf("x: %w", function.Reject("no")), false, function.Buried},
		"invalid append":    {&eventstore.InvalidError{Field: "f"}, false, function.Buried},
		"ids taken":         {&eventstore.IDError{}, false, function.Buried},
		"not decoded":       {fmt.Errorf("x: %w", function.ErrDecode), false, function.Buried},
		"stopping":          {context.Canceled, true, function.GivenBack},
		"away and stopping": {eventstore.ErrUnavailable, true, function.GivenBack},
		"conflicts":         {fmt.Errorf("x: %w", function.ErrConflicts), false, function.Yielded},
		"store away":        {fmt.Errorf("x: %w", eventstore.ErrUnavailable), false, function.Held},
		"store overloaded":  {eventstore.ErrOverloaded, false, function.Held},
		"deadline":          {context.DeadlineExceeded, false, function.Failed},
		"unknown":           {errors.New("x"), false, function.Failed},
	} {
		if got := function.FateOf(c.err, c.stopping); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestRefusalOf(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code function.Code
	}{
		"invalid": {function.Invalid("f", "x"), 400}, "not found": {function.NotFound("f", "x"), 404}, "conflict": {function.Conflict("f", "x"), 409},
		"rejected": {function.Reject("x"), 422}, "bad append": {&eventstore.InvalidError{Field: "f"}, 400}, "ids taken": {&eventstore.IDError{}, 409},
		"conflicts": {function.ErrConflicts, 409}, "overloaded": {eventstore.ErrOverloaded, 429}, "away": {eventstore.ErrUnavailable, 503},
		"too long": {context.DeadlineExceeded, 503}, "unknown": {errors.New("secret"), 0},
	} {
		got := function.RefusalOf(fmt.Errorf("wrapped: %w", c.err), false)
		if c.code == 0 && got != nil || c.code != 0 && (got == nil || got.Code != c.code) {
			t.Errorf("%s: %+v, want %d", name, got, c.code)
		}
	}
}

func TestWaitGrowsToItsBound(t *testing.T) {
	f := function.Function{Backoff: 100 * time.Millisecond}
	for failures, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 60: function.MaxBackoff} {
		for range 50 {
			if got := f.BackoffAfter(failures); got < want*4/5 || got > want*6/5 {
				t.Fatalf("after %d failures: %v, want about %v", failures, got, want)
			}
		}
	}
}

func TestScaleGoesByTheDoors(t *testing.T) {
	door := function.Endpoint("a.b", func(context.Context, toggle) (int, error) { return 0, nil })
	event := function.On(func(context.Context, lamp, made) ([]event, error) { return nil, nil })
	serves := function.Serve("http", func(function.Port) (function.Serving, error) { return nil, nil })
	for name, c := range map[string]struct {
		doors     []function.Door
		has, want function.Scale
	}{
		"events wait":           {[]function.Door{event}, function.Scale{}, function.Scale{Min: 0, Max: 4, TargetLag: 1000}},
		"requests don't":        {[]function.Door{door}, function.Scale{}, function.Scale{Min: 1, Max: 1, TargetLag: 1000}},
		"nor do its own":        {[]function.Door{serves}, function.Scale{}, function.Scale{Min: 1, Max: 1, TargetLag: 1000}},
		"both":                  {[]function.Door{door, event}, function.Scale{}, function.Scale{Min: 1, Max: 4, TargetLag: 1000}},
		"more requests":         {[]function.Door{door}, function.Scale{Min: 3}, function.Scale{Min: 3, Max: 3, TargetLag: 1000}},
		"more than is the most": {[]function.Door{event}, function.Scale{Min: 9, TargetLag: 5}, function.Scale{Min: 9, Max: 9, TargetLag: 5}},
	} {
		f := function.Function{Name: "a", Doors: c.doors, Scale: c.has}
		if got := f.WithDefaults().Scale; got != c.want || f.Check() != nil {
			t.Errorf("%s: %+v, want %+v (%v)", name, got, c.want, f.Check())
		}
	}
}

func TestCheckNamesTheMistake(t *testing.T) {
	door := function.Endpoint("a.b", func(context.Context, toggle) (int, error) { return 0, nil })
	event := function.On(func(context.Context, lamp, made) ([]event, error) { return nil, nil })
	for field, f := range map[string]function.Function{
		"Name": {Name: "A b", Doors: []function.Door{door}}, "Doors": {Name: "a"}, "Doors ": {Name: "a", Doors: []function.Door{door, door}},
		"Doors  ":     {Name: "a", Doors: []function.Door{event, function.Project("LAMPS", nil)}},
		"Doors   ":    {Name: "a", Doors: []function.Door{function.Endpoint("a.>", func(context.Context, toggle) (int, error) { return 0, nil })}},
		"Concurrency": {Name: "a", Doors: []function.Door{door}, Concurrency: 5000}, "Deadline": {Name: "a", Doors: []function.Door{door}, Deadline: time.Hour},
		"Attempts": {Name: "a", Doors: []function.Door{door}, Attempts: -1}, "Backoff": {Name: "a", Doors: []function.Door{door}, Backoff: time.Hour},
		"Scale.Min": {Name: "a", Doors: []function.Door{door}, Scale: function.Scale{Min: -1}}, "Scale.TargetLag": {Name: "a", Doors: []function.Door{event}, Scale: function.Scale{TargetLag: -1}},
		"Scale.Max": {Name: "a", Doors: []function.Door{event}, Scale: function.Scale{Min: 3, Max: 2}},
	} {
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(field)) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (function.Function{Name: "a", Doors: []function.Door{door, event}}).Check(); err != nil {
		t.Error(err)
	}
}

func TestCheckTellsOfNil(t *testing.T) {
	door := function.Endpoint("a.b", func(context.Context, toggle) (int, error) { return 0, nil })
	var none *function.Request
	for want, d := range map[string]function.Door{
		"nil as number 2": nil, "have nil as number 2": none, `"LAMPS.made"`: function.On[lamp, event, made](nil), `"LAMPS.>"`: function.Project("LAMPS", nil),
		`"a.make"`: function.Create[lamp, event, toggle]("a.make", nil), `"a.do"`: function.Command[lamp, event, toggle]("a.do", nil),
		`"a.ask"`: function.Endpoint[toggle, int]("a.ask", nil), `"a.read"`: function.Query[toggle, int]("a.read", "LAMPS", nil),
		`"TIMERS"`: function.Timer[lamp, event](nil), `"HTTP"`: function.Serve("HTTP", nil),
	} {
		if err := (function.Function{Name: "a", Doors: []function.Door{door, d}}).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
