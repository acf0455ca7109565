package storetest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// changed is an append of two events, changed; event changes the second.
func changed(change func(*eventstore.Append)) eventstore.Append {
	a := To("a", eventstore.Any, one(), one())
	change(&a)
	return a
}

func event(change func(*eventstore.Event)) eventstore.Append {
	return changed(func(a *eventstore.Append) { change(&a.Events[1]) })
}

// sized makes an event that counts as n bytes when it is in Stream, on an
// aggregate whose id has so many characters.
func sized(n, aggregate int) eventstore.Event {
	e := Event("big", "")
	e.Stream, e.Aggregate = Stream, strings.Repeat("a", aggregate)
	e.Data = json.RawMessage(`"` + strings.Repeat("x", n-e.Size()-2) + `"`)
	e.Stream, e.Aggregate = "", ""
	return e
}

func some(n int, event func() eventstore.Event) []eventstore.Event {
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i] = event()
	}
	return events
}

// metadata are the fields that stand in headers.
var metadata = map[string]func(*eventstore.Event) *string{
	"source":         func(e *eventstore.Event) *string { return &e.Source },
	"causation_id":   func(e *eventstore.Event) *string { return &e.CausationID },
	"correlation_id": func(e *eventstore.Event) *string { return &e.CorrelationID },
	"traceparent":    func(e *eventstore.Event) *string { return &e.Traceparent },
}

// refused are appends against the contract, by the field that is wrong.
func refused() map[string][]eventstore.Append {
	bad := map[string][]eventstore.Append{}
	for field, names := range map[string][]string{
		"stream":         {"", "orders", "A.B", "1A", "A ", "Ä", strings.Repeat("S", eventstore.MaxStreamName+1)},
		"aggregate":      {"", "a.b", "a b", "ü", "a\n", strings.Repeat("a", eventstore.MaxID+1)},
		"events[1].id":   {"", "a.b", "a b", "*", strings.Repeat("i", eventstore.MaxID+1)},
		"events[1].type": {"", "Created", "a.b", "1a", "a_b", strings.Repeat("t", eventstore.MaxType+1)},
		"events[1].data": {"", "{", "{}{}", "nul", "\"\xff\"", "\"\n\"", "'a'"},
	} {
		for _, name := range names {
			bad[field] = append(bad[field], changed(func(a *eventstore.Append) {
				switch field {
				case "stream":
					a.Stream = name
				case "aggregate":
					a.Aggregate = name
				case "events[1].id":
					a.Events[1].ID = name
				case "events[1].type":
					a.Events[1].Type = name
				default:
					a.Events[1].Data = json.RawMessage(name)
				}
			}))
		}
	}
	for field, at := range metadata {
		for _, value := range []string{strings.Repeat("m", eventstore.MaxMetadata+1), "a\nb", "a\rb", "a\x00b", "ü", " x", "x "} {
			bad["events[1]."+field] = append(bad["events[1]."+field], event(func(e *eventstore.Event) { *at(e) = value }))
		}
	}
	bad["expected"] = []eventstore.Append{
		changed(func(a *eventstore.Append) { a.Expected = -2 }),
		changed(func(a *eventstore.Append) { a.Expected = eventstore.MaxPosition + 1 }),
	}
	bad["events"] = []eventstore.Append{
		To("a", eventstore.Any),
		To("a", eventstore.Any, some(eventstore.MaxAppendEvents+1, one)...),
		To("a", eventstore.Any, append(greatest(1), one())...),
	}
	bad["events[1].id"] = append(bad["events[1].id"], changed(func(a *eventstore.Append) { a.Events[1].ID = a.Events[0].ID }))
	bad["events[1].schema"] = []eventstore.Append{
		event(func(e *eventstore.Event) { e.Schema = -1 }),
		event(func(e *eventstore.Event) { e.Schema = eventstore.MaxSchema + 1 }),
	}
	bad["events[1].time"] = []eventstore.Append{
		event(func(e *eventstore.Event) { e.Time = time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC) }),
		event(func(e *eventstore.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
	}
	bad["events[1].data"] = append(bad["events[1].data"], To("a", eventstore.Any, one(), sized(eventstore.MaxEventBytes+1, 1)))
	return bad
}

// greatest are events that together count as MaxAppendBytes.
func greatest(aggregate int) []eventstore.Event {
	return some(eventstore.MaxAppendBytes/eventstore.MaxEventBytes, func() eventstore.Event {
		return sized(eventstore.MaxEventBytes, aggregate)
	})
}

func refusals(t *testing.T, s eventstore.Store) {
	for field, appends := range refused() {
		for i, a := range appends {
			if _, err := s.Append(t.Context(), a); !isInvalid(err, field) {
				t.Errorf("%s, %d: %v", field, i, err)
			}
		}
	}
	count(t, s, 0)
}

func boundaries(t *testing.T, s eventstore.Store) {
	var want []eventstore.Event
	take := func(a eventstore.Append) {
		t.Helper()
		events := must(t, s, a).Events
		if a.Stream == Stream {
			want = append(want, events...)
		}
	}
	take(changed(func(a *eventstore.Append) { a.Stream = strings.Repeat("S", eventstore.MaxStreamName) }))
	take(changed(func(a *eventstore.Append) { a.Stream = "Z_9" }))
	take(To(strings.Repeat("a", eventstore.MaxID), eventstore.New, some(eventstore.MaxAppendEvents, one)...))
	take(To("great", eventstore.New, greatest(len("great"))...))
	take(event(func(e *eventstore.Event) { e.ID = strings.Repeat("-", eventstore.MaxID) }))
	take(event(func(e *eventstore.Event) { e.Type = strings.Repeat("t", eventstore.MaxType) }))
	take(event(func(e *eventstore.Event) { e.Schema = eventstore.MaxSchema }))
	take(event(func(e *eventstore.Event) { e.Time = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC) }))
	take(event(func(e *eventstore.Event) { e.Time = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC) }))
	for _, at := range metadata {
		take(event(func(e *eventstore.Event) { *at(e) = "a " + strings.Repeat("~", eventstore.MaxMetadata-2) }))
	}
	if _, err := s.Append(t.Context(), To("a", eventstore.MaxPosition, one())); !isConflict(err) {
		t.Errorf("expecting the last version that there can be: %v", err)
	}
	for _, e := range want {
		if e.Aggregate == "great" && e.Size() != eventstore.MaxEventBytes {
			t.Fatalf("the great event counts as %d bytes", e.Size())
		}
	}
	got := Consistent(t, t.Context(), s, Stream)
	if !slices.EqualFunc(got, want, same) {
		t.Fatal("what was taken does not come back as it was answered")
	}
}

// same tells what equal does, of events too great to be printed.
func same(a, b eventstore.Event) bool {
	return a.Stream == b.Stream && a.Position == b.Position && a.Aggregate == b.Aggregate && a.Version == b.Version &&
		a.ID == b.ID && a.Type == b.Type && a.Time.Equal(b.Time) && a.Schema == b.Schema && a.Source == b.Source &&
		a.CausationID == b.CausationID && a.CorrelationID == b.CorrelationID && a.Traceparent == b.Traceparent &&
		string(a.Data) == string(b.Data)
}

func wrongReads(t *testing.T, s eventstore.Store) {
	must(t, s, To("a", eventstore.New, one()))
	const beyond = eventstore.MaxPosition + 1
	for field, bad := range map[string][]eventstore.AggregateRead{
		"stream":    {{Stream: "x", Aggregate: "a"}, {Aggregate: "a"}},
		"aggregate": {{Stream: Stream, Aggregate: "*"}, {Stream: Stream}},
		"last": {
			{Stream: Stream, Aggregate: "a", Last: -1}, {Stream: Stream, Aggregate: "a", Last: eventstore.MaxLast + 1},
			{Stream: Stream, Aggregate: "a", Last: 1, From: 1},
		},
		"from": {{Stream: Stream, Aggregate: "a", From: beyond}},
	} {
		for _, r := range bad {
			if _, err := eventstore.Collect(s.ReadAggregate(t.Context(), r)); !isInvalid(err, field) {
				t.Errorf("read %+v: %v", r, err)
			}
		}
	}
	for field, bad := range map[string]eventstore.StreamRead{
		"stream": {Stream: "x"}, "limit": {Stream: Stream, Limit: -1}, "from": {Stream: Stream, From: beyond},
	} {
		if _, err := eventstore.Collect(s.ReadStream(t.Context(), bad)); !isInvalid(err, field) {
			t.Errorf("read %+v: %v", bad, err)
		}
	}
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", From: eventstore.MaxPosition}), nil)
	equal(t, stream(t, s, eventstore.StreamRead{From: eventstore.MaxPosition}), nil)
}
