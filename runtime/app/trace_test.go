package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestCauses(t *testing.T) {
	type e struct {
		id, cause string
		at        time.Duration
	}
	for name, c := range map[string]struct {
		events []e
		want   string // id+milliseconds(what it caused)
	}{
		"none":                    {nil, ""},
		"a chain":                 {[]e{{"a", "request", 0}, {"b", "a", 12 * time.Millisecond}, {"c", "b", 40 * time.Millisecond}}, "a+0(b+12(c+40))"},
		"by time, however read":   {[]e{{"c", "a", 30 * time.Millisecond}, {"b", "a", 20 * time.Millisecond}, {"a", "", 10 * time.Millisecond}}, "a+0(b+10 c+20)"},
		"a timer's branch":        {[]e{{"a", "request", 0}, {"b", "a", time.Millisecond}, {"t", "timer", time.Hour}, {"u", "t", time.Hour + time.Millisecond}}, "a+0(b+1) t+3600000(u+3600001)"},
		"a cause is not shown":    {[]e{{"b", "a", 0}, {"c", "b", 0}}, "b+0(c+0)"},
		"a cause of a late clock": {[]e{{"a", "", 5 * time.Millisecond}, {"b", "a", 0}}, "a+5(b+0)"},
		"its own cause":           {[]e{{"a", "a", 0}}, "a+0"},
		"a ring of causes":        {[]e{{"a", "c", 0}, {"b", "a", 0}, {"c", "b", 0}, {"d", "c", 0}}, "c+0(a+0(b+0) d+0)"},
		"an id in two streams":    {[]e{{"a", "", 0}, {"b", "a", time.Millisecond}, {"a", "b", 2 * time.Millisecond}, {"c", "a", 3 * time.Millisecond}}, "a+0(b+1(a+2) c+3)"},
	} {
		var nodes []*node
		for i, e := range c.events {
			nodes = append(nodes, newNode(eventstore.Event{ID: e.id, CausationID: e.cause, Time: noon.Add(e.at), Position: uint64(i)}))
		}
		tree := causes("x", nodes)
		if got := shape(tree.Roots); got != c.want || tree.Events != len(c.events) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// shape is a tree in one line.
func shape(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		text := fmt.Sprintf("%s+%d", n.ID, n.SinceStart.Milliseconds())
		if len(n.Children) > 0 {
			text += "(" + shape(n.Children) + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// A domain: trips, which refer to the accounts that pay for them.
type (
	trip  struct{ Account string }
	event interface{ EventType() string }
	begun struct {
		Account string `json:"account"`
	}
	paid struct{}
)

func (begun) EventType() string { return "begun" }
func (paid) EventType() string  { return "paid" }
func (trip) Stream() string     { return "TRIPS" }

func (trip) Decode(typ string, _ int, data []byte) (event, error) {
	if typ == "paid" {
		return paid{}, nil
	}
	var e begun
	err := json.Unmarshal(data, &e)
	return e, err
}

func (t trip) Evolve(e event) trip {
	if e, ok := e.(begun); ok {
		t.Account = e.Account
	}
	return t
}

func (t trip) Related() map[string][]string {
	return map[string][]string{"ACCOUNTS": {t.Account}}
}

// traveller has a function that takes all trips, and one that takes those begun.
var traveller = []function.Function{
	{Name: "pay", Doors: []function.Door{function.On(func(context.Context, trip, begun) ([]event, error) { return nil, nil })}},
	{Name: "map", Doors: []function.Door{function.Project("TRIPS", func(context.Context, function.Log, []function.Message) error { return nil })}},
}

// travels is a store with events of trips and accounts.
type travels struct {
	*testing.T
	store *memory.Store
}

func newTravels(t *testing.T) travels {
	t.Helper()
	s := memory.New()
	t.Cleanup(func() { _ = s.Close() })
	return travels{t, s}
}

func (s travels) append(stream, aggregate string, events ...eventstore.Event) []eventstore.Event {
	s.Helper()
	for i := range events {
		if len(events[i].Data) == 0 {
			events[i].Data = json.RawMessage(`{}`)
		}
	}
	done, err := s.store.Append(s.Context(), eventstore.Append{Stream: stream, Aggregate: aggregate, Expected: eventstore.Any, Events: events})
	if err != nil {
		s.Fatal(err)
	}
	return done.Events
}

// trip has trip t1 be begun and paid, from the account a1.
func (s travels) trip() {
	s.Helper()
	s.append("TRIPS", "t1", eventstore.Event{
		ID: "11111111-trip", Type: "begun", Time: noon, Source: "begin", CausationID: "request7", CorrelationID: "t1", Data: json.RawMessage(`{"account":"a1"}`),
	})
	s.append("TRIPS", "t1", eventstore.Event{
		ID: "22222222-trip", Type: "paid", Time: noon.Add(12400 * time.Microsecond), Source: "pay", CausationID: "11111111-trip", CorrelationID: "t1",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	})
}

func (s travels) bury(name string, e eventstore.Event) {
	s.Helper()
	err := deadletter.Bury(s.Context(), s.store, deadletter.Letter{
		Function: name, Reason: deadletter.ReasonAttempts, Error: "the map\nis torn", Attempts: 5, Stream: e.Stream, Position: e.Position, EventID: e.ID,
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s travels) trace(limit int, streams ...string) (*traced, error) {
	t := &tracer{store: s.store, functions: traveller, limit: limit}
	return t.read(s.Context(), "t1", streams)
}

func TestTraceReads(t *testing.T) {
	s := newTravels(t)
	s.trip()
	entry := func(id, flow string, at time.Duration, cause string) eventstore.Event {
		return eventstore.Event{ID: id, Type: "debited", Time: noon.Add(at), Source: "pay", CorrelationID: flow, CausationID: cause}
	}
	// What an account had before is passed over, however much it is.
	for i := range 40 {
		var old []eventstore.Event
		for j := range eventstore.MaxAppendEvents {
			old = append(old, entry(fmt.Sprintf("old%d-%d", i, j), "t0", -time.Hour, ""))
		}
		s.append("ACCOUNTS", "a1", old...)
	}
	s.append("ACCOUNTS", "a1", entry("33333333-entry", "t1", 10*time.Millisecond, "11111111-trip"), entry("other", "t2", 11*time.Millisecond, ""))
	s.append("ACCOUNTS", "a1", entry("44444444-entry", "t1", 26*time.Hour, "timer9"))
	s.append("ACCOUNTS", "t1", entry("foreign", "t1", 0, "")) // it is no trip's account
	s.bury("map", eventstore.Event{Stream: "TRIPS", Position: 2, ID: "22222222-trip"})
	s.bury("gone", eventstore.Event{Stream: "TRIPS", Position: 2, ID: "22222222-trip"})

	counted := &counting{Store: s.store}
	tree, err := (&tracer{store: counted, functions: traveller, limit: 500}).read(t.Context(), "t1", function.Streams(traveller))
	if err != nil {
		t.Fatal(err)
	}
	if want := "11111111-trip+0(33333333-entry+10 22222222-trip+12) 44444444-entry+93600000"; shape(tree.Roots) != want {
		t.Errorf("got %s, want %s", shape(tree.Roots), want)
	}
	if counted.events > 100 {
		t.Errorf("%d events were read", counted.events)
	}
	letters := tree.Roots[0].Children[1].DeadLetters
	if len(letters) != 1 || letters[0].Function != "map" || len(tree.Notes) > 0 {
		t.Errorf("dead letters %+v, notes %v", letters, tree.Notes)
	}
	for i := range letters { // it was buried just now
		letters[i].Buried = noon.Add(time.Second)
	}
	var text, data bytes.Buffer
	if err := errors.Join(printTrace(&text, tree), printJSON(&data, tree)); err != nil {
		t.Fatal(err)
	}
	golden(t, "trace.txt", text.Bytes())
	golden(t, "trace.json", data.Bytes())
}

// late has trips that are not paid within an hour end.
type late struct{}

func (late) Due(t trip) time.Time {
	if t.Account == "nobodys" {
		panic("it is of no account")
	}
	return noon.Add(time.Hour)
}
func (late) Waiting(context.Context) iter.Seq2[string, error] { return nil }
func (late) Fire(context.Context, trip) ([]event, error)      { return nil, nil }
func withTimer() []function.Function {
	return append(slices.Clone(traveller), function.Function{Name: "late", Doors: []function.Door{function.Timer[trip, event](late{})}})
}

// TestTraceKnowsTimers, by when they are due: as a cause, and as what a function gave
// up on.
func TestTraceKnowsTimers(t *testing.T) {
	s := newTravels(t)
	s.trip()
	id := function.TimerID("late", "TRIPS", "t1", noon.Add(time.Hour))
	s.append("TRIPS", "t1", eventstore.Event{ID: "55555555-trip", Type: "paid", Time: noon.Add(time.Hour + time.Second), Source: "late", CausationID: id, CorrelationID: "t1"})
	s.bury("late", eventstore.Event{Stream: function.TimersStream, Position: 77, ID: id})
	tree, err := (&tracer{store: s.store, functions: withTimer(), limit: 500}).read(t.Context(), "t1", []string{"TRIPS"})
	if err != nil || len(tree.Notes) > 0 {
		t.Fatal(tree.Notes, err)
	}
	if letters := tree.Roots[0].DeadLetters; len(letters) != 1 || letters[0].Function != "late" || len(tree.Roots[0].Children[0].DeadLetters) > 0 {
		t.Errorf("it waits since its first event: %+v", letters)
	}
	var text bytes.Buffer
	if err := printTrace(&text, tree); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"caused by a timer of late, due 2026-01-02T13:00:00Z", "dead letter of a timer"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}

	s.append("TRIPS", "t2", eventstore.Event{ID: "t2", Type: "begun", Time: noon, Data: json.RawMessage(`{"account":"nobodys"}`)}) // Due panics at that
	tree, err = (&tracer{store: s.store, functions: withTimer(), limit: 500}).read(t.Context(), "t2", []string{"TRIPS"})
	if err != nil || len(tree.Notes) != 1 || !strings.Contains(tree.Notes[0], "of no account") {
		t.Errorf("%+v, %v", tree, err)
	}
}

// counting counts the events that are handed out.
type counting struct {
	eventstore.Store
	events int
}

func (c *counting) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range c.Store.ReadAggregate(ctx, r) {
			c.events++
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestTraceSaysWhatIsLeftOut has more than is shown, and what can't be read.
func TestTraceSaysWhatIsLeftOut(t *testing.T) {
	t.Run("limit", func(t *testing.T) {
		s := newTravels(t)
		s.trip()
		tree, err := s.trace(1, "TRIPS")
		if err != nil || tree.Events != 1 || !slices.ContainsFunc(tree.Notes, func(n string) bool { return strings.Contains(n, "--limit") }) {
			t.Errorf("%+v, %v", tree, err)
		}
	})
	t.Run("unreadable", func(t *testing.T) {
		s := newTravels(t)
		s.append("TRIPS", "t1", eventstore.Event{ID: "odd", Type: "begun", Time: noon, Data: json.RawMessage(`["odd"]`)})
		tree, err := s.trace(500, "TRIPS")
		if err != nil || tree.Events != 1 || len(tree.Notes) != 1 || !strings.Contains(tree.Notes[0], "refers to is not shown") {
			t.Errorf("%+v, %v", tree, err)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		if tree, err := newTravels(t).trace(500, "TRIPS"); err == nil || !strings.Contains(err.Error(), `no such aggregate in TRIPS`) {
			t.Errorf("%+v, %v", tree, err)
		}
	})
	t.Run("away", func(t *testing.T) {
		s := newTravels(t)
		s.trip()
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		if tree, err := s.trace(500, "TRIPS"); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%+v, %v", tree, err)
		}
	})
}

// TestLongChainStaysOnTheScreen prints a hundred events, each caused by the one
// before.
func TestLongChainStaysOnTheScreen(t *testing.T) {
	var nodes []*node
	for i := range 100 {
		nodes = append(nodes, newNode(eventstore.Event{
			Stream: "TRIPS", Aggregate: "t1", Version: uint64(i + 1), ID: fmt.Sprint("e", i), CausationID: fmt.Sprint("e", i-1), Type: "paid", Time: noon,
		}))
	}
	var out bytes.Buffer
	if err := printTrace(&out, causes("t1", nodes)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 2+1+100+1 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 140 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
