// Package functiontest tests functions without a server: given what happened,
// when an event or a request comes, then so many events, a reply or a refusal.
//
//	functiontest.Given(t, payment.New(provider)).
//		When(order.Created{...}).
//		Then(order.PaymentDebited{...}).
//		Again().ThenNothing()
//
// It goes through the function's doors, so what is tested is what runs: events
// and requests are decoded, checked, loaded and appended as in production,
// against an event store in memory. Each cause is handled by a process that
// remembers nothing of those before. A check that fails shows what differs, and
// the test goes on.
//
// Functions on a server are tested with functiontest/hosttest.
package functiontest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

// Aggregate is the id of what events happen to, unless [History.Of] says
// another.
const Aggregate = "a1"

// Now is the time in every test: when what is given happened, and what
// function.Now answers.
var Now = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// History is what happened before a function is tested.
type History struct {
	t         testing.TB
	f         function.Function
	store     *memory.Store
	aggregate string // empty: as the cause says

	past, meanwhile []function.DomainEvent // that are to be stored yet
	stored          int
}

// Given begins a test of f, after these events, the oldest first. They happened
// to one aggregate: the one that the request is about, or [Aggregate]. A
// declaration that is wrong ends the test.
func Given(t testing.TB, f function.Function, past ...function.DomainEvent) *History {
	t.Helper()
	if err := f.Check(); err != nil {
		t.Fatalf("%v", err)
	}
	h := &History{t: t, f: f.WithDefaults(), store: memory.New()}
	t.Cleanup(func() { _ = h.store.Close() })
	return h.And(past...)
}

// Of says which aggregate all events happen to, given and caused.
func (h *History) Of(aggregate string) *History {
	h.aggregate = aggregate
	return h
}

// And adds events that happened.
func (h *History) And(past ...function.DomainEvent) *History {
	h.past = append(h.past, past...)
	return h
}

// Meanwhile adds events that happen behind the next cause, before the function
// gets it: so the cause comes late.
func (h *History) Meanwhile(later ...function.DomainEvent) *History {
	h.meanwhile = append(h.meanwhile, later...)
	return h
}

// When has the event happen, and the function handle it. The function has a
// door for its type: On, or a projection's.
func (h *History) When(event function.DomainEvent) *Outcome {
	h.t.Helper()
	stream, handle := h.eventDoor(event.EventType())
	aggregate := h.aggregate
	if aggregate == "" {
		aggregate = Aggregate
	}
	h.give(stream, aggregate, &h.past)
	m := h.append(stream, aggregate, event)
	h.give(stream, aggregate, &h.meanwhile)
	what := fmt.Sprintf("%s, when %s %s", h.f.Name, m.Type, brief(m.Data))
	return h.cause(what, stream, func(ctx context.Context, run *function.Runner) ([]byte, error) {
		return nil, handle(ctx, run, m)
	})
}

// WhenTimeIs has the function's timer fire for the aggregate at a time, which
// function.Now answers then. What the aggregate does not wait for, or not yet, is
// left as it is.
func (h *History) WhenTimeIs(now time.Time) *Outcome {
	h.t.Helper()
	door, aggregate, due := h.due()
	what := fmt.Sprintf("%s, when it is %s", h.f.Name, now.UTC().Format(time.RFC3339Nano))
	m := function.Message{ID: function.TimerID(h.f.Name, door.Stream, aggregate, due), Aggregate: aggregate, CorrelationID: aggregate}
	return h.cause(what, door.Stream, func(ctx context.Context, run *function.Runner) ([]byte, error) {
		_, err := door.Fire(function.WithCause(ctx, function.Cause{Time: now}), run, m)
		return nil, err
	})
}

// ThenWaits checks until when the aggregate waits now; the zero time says that it
// does not.
func (h *History) ThenWaits(until time.Time) *History {
	h.t.Helper()
	if _, aggregate, due := h.due(); !due.Equal(until) {
		h.t.Errorf("%s: %q waits until %v, and not until %v", h.f.Name, aggregate, due, until)
	}
	return h
}

// due stores what is given, and answers until when the aggregate waits.
func (h *History) due() (door *function.Timed, aggregate string, due time.Time) {
	h.t.Helper()
	door, aggregate = h.timerDoor(), h.aggregate
	if aggregate == "" {
		aggregate = Aggregate
	}
	h.give(door.Stream, aggregate, &h.past)
	h.give(door.Stream, aggregate, &h.meanwhile)
	due, err := door.DueOf(h.t.Context(), function.NewRunner(h.f.Name, h.store, nil), aggregate)
	if err != nil {
		h.t.Fatalf("%s: until when %q waits: %v", h.f.Name, aggregate, err)
	}
	return door, aggregate, due
}

func (h *History) timerDoor() *function.Timed {
	h.t.Helper()
	for _, d := range h.f.Doors {
		if d, ok := d.(*function.Timed); ok {
			return d
		}
	}
	h.t.Fatalf("%s has no timer; it has %s", h.f.Name, h.subjects())
	return nil
}

// eventDoor answers the function's door for a type of event.
func (h *History) eventDoor(typ string) (stream string, handle func(context.Context, *function.Runner, function.Message) error) {
	h.t.Helper()
	for _, d := range h.f.Doors {
		switch d := d.(type) {
		case *function.Event:
			if d.Type == typ {
				return d.Stream, d.Handle
			}
		case *function.Projection:
			return d.Stream, func(ctx context.Context, run *function.Runner, m function.Message) error {
				return d.Apply(ctx, run.Log(d.Stream), []function.Message{m})
			}
		}
	}
	h.t.Fatalf("%s has no door for the event %s; it has %s", h.f.Name, typ, h.subjects())
	return "", nil
}

// WhenAsked has the function answer a request to one of its subjects. A body
// that is a string or bytes is sent as it is; any other value as its JSON.
func (h *History) WhenAsked(subject string, body any) *Outcome {
	h.t.Helper()
	door := h.requestDoor(subject)
	data := h.encode(body)
	what := fmt.Sprintf("%s, when asked %s %s", h.f.Name, subject, brief(data))
	prepared, refused := door.Prepare(data)
	aggregate := h.aggregate
	switch {
	case aggregate != "":
	case prepared.Aggregate != "":
		aggregate = prepared.Aggregate
	default:
		aggregate = Aggregate
	}
	h.give(door.Stream, aggregate, &h.past)
	h.give(door.Stream, aggregate, &h.meanwhile)
	asked := 0
	return h.cause(what, door.Stream, func(ctx context.Context, run *function.Runner) ([]byte, error) {
		if refused != nil {
			return nil, refused
		}
		asked++ // a caller that asks again has another request id
		ctx = function.WithCause(ctx, function.Cause{ID: fmt.Sprintf("request%d", asked), Time: Now})
		answer, err := prepared.Answer(ctx, run)
		if err != nil {
			return nil, err
		}
		return json.Marshal(answer, json.Deterministic(true))
	})
}

func (h *History) requestDoor(subject string) *function.Request {
	h.t.Helper()
	for _, d := range h.f.Doors {
		if r, ok := d.(*function.Request); ok && r.Subject() == subject {
			return r
		}
	}
	h.t.Fatalf("%s has no door for requests to %s; it has %s", h.f.Name, subject, h.subjects())
	return nil
}

func (h *History) subjects() string {
	var all []string
	for _, d := range h.f.Doors {
		all = append(all, d.Subject())
	}
	return strings.Join(all, ", ")
}

// encode makes the JSON of a request or a reply.
func (h *History) encode(v any) []byte {
	h.t.Helper()
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	data, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		h.t.Fatalf("encode %T: %v", v, err)
	}
	return data
}

// give stores what is to be stored yet.
func (h *History) give(stream, aggregate string, events *[]function.DomainEvent) {
	h.t.Helper()
	for _, e := range *events {
		h.append(stream, aggregate, e)
	}
	*events = nil
}

// append stores an event as another function would.
func (h *History) append(stream, aggregate string, e function.DomainEvent) function.Message {
	h.t.Helper()
	if stream == "" {
		h.t.Fatalf("%s reads no events here, so none can be given", h.f.Name)
	}
	data, schema, err := function.Encode(e)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	h.stored++
	done, err := h.store.Append(h.t.Context(), eventstore.Append{
		Stream: stream, Aggregate: aggregate, Expected: eventstore.Any, Events: []eventstore.Event{{
			ID: fmt.Sprintf("given%d", h.stored), Type: e.EventType(), Time: Now, Schema: schema, CorrelationID: aggregate, Data: data,
		}},
	})
	if err != nil {
		h.t.Fatalf("store %s: %v", e.EventType(), err)
	}
	return done.Events[0]
}

// cause has the function handle something, and gathers what came of it.
func (h *History) cause(what, stream string, handle func(context.Context, *function.Runner) ([]byte, error)) *Outcome {
	h.t.Helper()
	o := &Outcome{History: h, what: what, stream: stream, handle: handle}
	ctx, cancel := context.WithTimeout(function.WithCause(h.t.Context(), function.Cause{Time: Now}), h.f.Deadline)
	defer cancel()
	before := h.read(stream, 0)
	o.Reply, o.Err = handle(ctx, function.NewRunner(h.f.Name, h.store, nil))
	o.Appended = h.read(stream, len(before))
	return o
}

// read answers a stream's events behind the n-th.
func (h *History) read(stream string, n int) []function.Message {
	h.t.Helper()
	if stream == "" {
		return nil
	}
	all, err := eventstore.Collect(h.store.ReadStream(h.t.Context(), eventstore.StreamRead{Stream: stream}))
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	return all[n:]
}

// Open opens what a function needs until the test ends, with settings like
// "ORDERS_DB=sqlite:/tmp/orders.db"; those not named have their defaults.
func Open(t testing.TB, r function.Resource, settings ...string) {
	t.Helper()
	if c := r.Config(); c != nil {
		lookup := func(name string) (value string, ok bool) {
			for _, s := range settings {
				if value, ok = strings.CutPrefix(s, name+"="); ok {
					return value, true
				}
			}
			return "", false
		}
		if err := config.Load(t.Context(), lookup, c); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if err := r.Open(t.Context()); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}
