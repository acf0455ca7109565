// Package storetest is the conformance suite of eventstore.Store: every
// backend passes it, and the gRPC client in front of one.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/eventstore"
)

// Stream is what the suite writes to, and Other a second one.
const (
	Stream = "ORDERS"
	Other  = "ACCOUNTS"
)

// Run runs the suite. open makes an empty store that ends with the test.
func Run(t *testing.T, open func(t *testing.T) eventstore.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, eventstore.Store)
	}{
		{"comes back as it was", comesBack},
		{"versions and positions have no gaps", noGaps},
		{"expected versions", expectedVersions},
		{"one of 32 writers wins", oneWinner},
		{"a loser does not hurt its neighbours", neighbours},
		{"several appends to one aggregate in a group", oneAggregate},
		{"the same id twice in a group", sameIDTwice},
		{"a repeat answers as the first", repeats},
		{"taken ids are refused", takenIDs},
		{"streams are apart", streamsApart},
		{"appends are seen whole", seenWhole},
		{"limits", limits},
		{"reads", reads},
		{"a read may be left", leftReads},
		{"contexts end", contextsEnd},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Event makes an event with an id of its own.
func Event(typ, data string) eventstore.Event {
	return eventstore.Event{ID: uuid.NewString(), Type: typ, Data: json.RawMessage(data), Time: time.Now()}
}

// To makes an append.
func To(aggregate string, expected eventstore.Expected, events ...eventstore.Event) eventstore.Append {
	return eventstore.Append{Stream: Stream, Aggregate: aggregate, Expected: expected, Events: events}
}

func one() eventstore.Event { return Event("happened", `{"n":1}`) }

func must(t *testing.T, s eventstore.Store, a eventstore.Append) eventstore.Appended {
	t.Helper()
	done, err := s.Append(t.Context(), a)
	if err != nil {
		t.Fatalf("append to %s %q: %v", a.Stream, a.Aggregate, err)
	}
	return done
}

func aggregate(t *testing.T, s eventstore.Store, r eventstore.AggregateRead) []eventstore.Event {
	t.Helper()
	if r.Stream == "" {
		r.Stream = Stream
	}
	events, err := eventstore.Collect(s.ReadAggregate(t.Context(), r))
	if err != nil {
		t.Fatalf("read %+v: %v", r, err)
	}
	return events
}

func stream(t *testing.T, s eventstore.Store, r eventstore.StreamRead) []eventstore.Event {
	t.Helper()
	if r.Stream == "" {
		r.Stream = Stream
	}
	events, err := eventstore.Collect(s.ReadStream(t.Context(), r))
	if err != nil {
		t.Fatalf("read %+v: %v", r, err)
	}
	return events
}

// Consistent checks that a stream's positions, and the versions of its
// aggregates, have no gap and no double, and answers its events.
func Consistent(t testing.TB, ctx context.Context, s eventstore.Store, name string) []eventstore.Event { //nolint:revive // t first
	t.Helper()
	events, err := eventstore.Collect(s.ReadStream(ctx, eventstore.StreamRead{Stream: name}))
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	versions, ids := map[string]uint64{}, map[string]bool{}
	for i, e := range events {
		if e.Position != uint64(i+1) {
			t.Fatalf("event %d of %s is at position %d", i+1, name, e.Position)
		}
		versions[e.Aggregate]++
		if e.Version != versions[e.Aggregate] {
			t.Fatalf("%s %q: version %d where %d comes", name, e.Aggregate, e.Version, versions[e.Aggregate])
		}
		if ids[e.ID] {
			t.Fatalf("%s: id %q is there twice", name, e.ID)
		}
		ids[e.ID] = true
	}
	return events
}

func equal(t *testing.T, got, want []eventstore.Event) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func comesBack(t *testing.T, s eventstore.Store) {
	e := eventstore.Event{
		ID: "id-1", Type: "happened", Schema: 3, Source: "test", CausationID: "c a", CorrelationID: "k", Traceparent: "00-1-2-3",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("x", 3600)),
		Data: json.RawMessage(` {"é":"\u0000 \ud83d\ude00 <&>","n":1234567890123456789012345.67e-8, "a":[ ] } `),
	}
	plain := eventstore.Event{ID: "id-2", Type: "b2", Data: json.RawMessage(`null`)}
	before := time.Now().Add(-time.Second)
	done := must(t, s, To("a", eventstore.New, e, plain))
	want := e
	want.Stream, want.Aggregate, want.Version, want.Position = Stream, "a", 1, 1
	want.Time = e.Time.UTC().Truncate(time.Microsecond)
	equal(t, done.Events[:1], []eventstore.Event{want})
	second := done.Events[1]
	if second.Schema != 1 || second.Time.Before(before) || second.Time.After(time.Now().Add(time.Second)) || second.Version != 2 || second.Position != 2 {
		t.Fatalf("defaults: %+v", second)
	}
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a"}), done.Events)
	equal(t, stream(t, s, eventstore.StreamRead{}), done.Events)
	if done.Version() != 2 || done.Duplicate {
		t.Fatalf("appended: %+v", done)
	}
}

func noGaps(t *testing.T, s eventstore.Store) {
	const writers, appends = 16, 12
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range appends {
				events := make([]eventstore.Event, 1+i%3)
				for j := range events {
					events[j] = one()
				}
				if _, err := s.Append(t.Context(), To(fmt.Sprintf("a%d", (w+i)%5), eventstore.Any, events...)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := len(Consistent(t, t.Context(), s, Stream)), writers*appends*2; got != want {
		t.Fatalf("%d events, want %d", got, want)
	}
}

func expectedVersions(t *testing.T, s eventstore.Store) {
	must(t, s, To("a", eventstore.New, one(), one()))
	for _, c := range []struct {
		aggregate string
		expected  eventstore.Expected
		actual    uint64
	}{
		{"a", eventstore.New, 2}, {"a", eventstore.Exactly(1), 2}, {"a", eventstore.Exactly(3), 2}, {"b", eventstore.Exactly(1), 0},
	} {
		_, err := s.Append(t.Context(), To(c.aggregate, c.expected, one()))
		var conflict *eventstore.ConflictError
		want := eventstore.ConflictError{Stream: Stream, Aggregate: c.aggregate, Expected: c.expected, Actual: c.actual}
		if !errors.As(err, &conflict) || *conflict != want {
			t.Fatalf("%q expecting %v: %v, want %v", c.aggregate, c.expected, err, &want)
		}
	}
	must(t, s, To("a", eventstore.Exactly(2), one()))
	must(t, s, To("a", eventstore.Any, one()))
	must(t, s, To("b", eventstore.Any, one()))
	if n := len(Consistent(t, t.Context(), s, Stream)); n != 5 {
		t.Fatalf("%d events, want 5", n)
	}
}

func oneWinner(t *testing.T, s eventstore.Store) {
	for round := range 5 {
		var mu sync.Mutex
		won, lost := 0, 0
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				_, err := s.Append(t.Context(), To("hot", eventstore.Exactly(uint64(round)), one()))
				var conflict *eventstore.ConflictError
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won++
				case errors.As(err, &conflict):
					lost++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 || lost != 31 {
			t.Fatalf("round %d: %d won and %d lost", round, won, lost)
		}
	}
	Consistent(t, t.Context(), s, Stream)
}

func neighbours(t *testing.T, s eventstore.Store) {
	must(t, s, To("loser", eventstore.New, one()))
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			if i%3 == 0 {
				_, err := s.Append(t.Context(), To("loser", eventstore.New, one()))
				var conflict *eventstore.ConflictError
				if !errors.As(err, &conflict) {
					t.Errorf("loser: %v", err)
				}
				return
			}
			if _, err := s.Append(t.Context(), To(fmt.Sprintf("n%d", i), eventstore.New, one(), one())); err != nil {
				t.Errorf("neighbour: %v", err)
			}
		})
	}
	wg.Wait()
	if n := len(Consistent(t, t.Context(), s, Stream)); n != 1+40*2 {
		t.Fatalf("%d events, want 81", n)
	}
}

func oneAggregate(t *testing.T, s eventstore.Store) {
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.Append(t.Context(), To("a", eventstore.Any, one())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(Consistent(t, t.Context(), s, Stream)); n != 50 {
		t.Fatalf("%d events, want 50", n)
	}
}

func sameIDTwice(t *testing.T, s eventstore.Store) {
	for round := range 5 {
		e := one()
		var mu sync.Mutex
		first := 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				done, err := s.Append(t.Context(), To(fmt.Sprintf("a%d", round), eventstore.New, e))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if !done.Duplicate {
					first++
				}
			})
		}
		wg.Wait()
		if first != 1 {
			t.Fatalf("%d of 20 were told that they are the first", first)
		}
	}
	if n := len(Consistent(t, t.Context(), s, Stream)); n != 5 {
		t.Fatalf("%d events, want 5", n)
	}
}

func repeats(t *testing.T, s eventstore.Store) {
	single, triple := To("a", eventstore.New, one()), To("a", eventstore.Exactly(1), one(), one(), one())
	firstSingle, firstTriple := must(t, s, single), must(t, s, triple)
	for range 40 {
		must(t, s, To("a", eventstore.Any, one()))
		must(t, s, To("b", eventstore.Any, one()))
	}
	for _, c := range []struct {
		again eventstore.Append
		first eventstore.Appended
	}{{single, firstSingle}, {triple, firstTriple}} {
		again := c.again
		again.Events = append([]eventstore.Event(nil), again.Events...)
		for i := range again.Events {
			again.Events[i].Time = time.Now().Add(time.Hour)
			again.Events[i].Data = json.RawMessage(`{"other":true}`)
		}
		for _, expected := range []eventstore.Expected{again.Expected, eventstore.Any, eventstore.Exactly(77)} {
			again.Expected = expected
			done := must(t, s, again)
			if !done.Duplicate {
				t.Fatal("the repeat is not marked")
			}
			equal(t, done.Events, c.first.Events)
		}
	}
	if n := len(Consistent(t, t.Context(), s, Stream)); n != 84 {
		t.Fatalf("%d events, want 84", n)
	}
}

func takenIDs(t *testing.T, s eventstore.Store) {
	a, b, c := one(), one(), one()
	must(t, s, To("a", eventstore.New, a, b))
	must(t, s, To("z", eventstore.New, c))
	for name, bad := range map[string]eventstore.Append{
		"another aggregate": To("x", eventstore.Any, a),
		"some":              To("a", eventstore.Any, a, one()),
		"some, later":       To("a", eventstore.Any, one(), b),
		"another order":     To("a", eventstore.Any, b, a),
		"two aggregates":    To("a", eventstore.Any, a, b, c),
	} {
		_, err := s.Append(t.Context(), bad)
		var taken *eventstore.IDError
		if !errors.As(err, &taken) || taken.Stream != Stream || taken.ID == "" || taken.Aggregate == "" || taken.Reason == "" {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if n := len(Consistent(t, t.Context(), s, Stream)); n != 3 {
		t.Fatalf("%d events, want 3", n)
	}
}

func streamsApart(t *testing.T, s eventstore.Store) {
	e := one()
	must(t, s, To("a", eventstore.New, e))
	done := must(t, s, eventstore.Append{Stream: Other, Aggregate: "a", Expected: eventstore.New, Events: []eventstore.Event{e}})
	if done.Duplicate || done.Events[0].Position != 1 || done.Events[0].Version != 1 {
		t.Fatalf("in another stream: %+v", done)
	}
	Consistent(t, t.Context(), s, Stream)
	Consistent(t, t.Context(), s, Other)
}

func seenWhole(t *testing.T, s eventstore.Store) {
	var wg sync.WaitGroup
	writing, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		defer stop()
		for range 60 {
			if _, err := s.Append(t.Context(), To("a", eventstore.Any, one(), one(), one())); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for writing.Err() == nil {
		last := aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", Last: 3})
		if len(last) != 0 && (len(last) != 3 || last[2].Version%3 != 0 || last[0].Version != last[2].Version-2) {
			t.Fatalf("saw a part of an append: %+v", last)
		}
	}
	wg.Wait()
}

func limits(t *testing.T, s eventstore.Store) {
	with := func(change func(*eventstore.Append)) eventstore.Append {
		a := To("a", eventstore.Any, one(), one())
		change(&a)
		return a
	}
	event := func(change func(*eventstore.Event)) eventstore.Append {
		return with(func(a *eventstore.Append) { change(&a.Events[1]) })
	}
	many := func(n, size int) []eventstore.Event {
		events := make([]eventstore.Event, n)
		for i := range events {
			events[i] = Event("big", `"`+strings.Repeat("x", size)+`"`)
		}
		return events
	}
	for field, bad := range map[string][]eventstore.Append{
		"stream": {
			with(func(a *eventstore.Append) { a.Stream = "" }), with(func(a *eventstore.Append) { a.Stream = "orders" }),
			with(func(a *eventstore.Append) { a.Stream = strings.Repeat("S", 33) }), with(func(a *eventstore.Append) { a.Stream = "A.B" }),
		},
		"aggregate": {
			with(func(a *eventstore.Append) { a.Aggregate = "" }), with(func(a *eventstore.Append) { a.Aggregate = "a.b" }),
			with(func(a *eventstore.Append) { a.Aggregate = strings.Repeat("a", 65) }), with(func(a *eventstore.Append) { a.Aggregate = "ü" }),
		},
		"expected": {with(func(a *eventstore.Append) { a.Expected = -2 })},
		"events": {
			with(func(a *eventstore.Append) { a.Events = nil }), with(func(a *eventstore.Append) { a.Events = many(101, 1) }),
			with(func(a *eventstore.Append) { a.Events = many(7, 500<<10) }),
		},
		"events[1].id": {
			event(func(e *eventstore.Event) { e.ID = "" }), event(func(e *eventstore.Event) { e.ID = strings.Repeat("i", 65) }),
			event(func(e *eventstore.Event) { e.ID = "a b" }), with(func(a *eventstore.Append) { a.Events[1].ID = a.Events[0].ID }),
		},
		"events[1].type": {
			event(func(e *eventstore.Event) { e.Type = "" }), event(func(e *eventstore.Event) { e.Type = "Created" }),
			event(func(e *eventstore.Event) { e.Type = strings.Repeat("t", 33) }), event(func(e *eventstore.Event) { e.Type = "a.b" }),
		},
		"events[1].schema":         {event(func(e *eventstore.Event) { e.Schema = eventstore.MaxSchema + 1 })},
		"events[1].time":           {event(func(e *eventstore.Event) { e.Time = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC) })},
		"events[1].source":         {event(func(e *eventstore.Event) { e.Source = "a\nb" })},
		"events[1].causation_id":   {event(func(e *eventstore.Event) { e.CausationID = strings.Repeat("c", 257) })},
		"events[1].correlation_id": {event(func(e *eventstore.Event) { e.CorrelationID = "ü" })},
		"events[1].traceparent":    {event(func(e *eventstore.Event) { e.Traceparent = " x" })},
		"events[1].data": {
			event(func(e *eventstore.Event) { e.Data = nil }), event(func(e *eventstore.Event) { e.Data = json.RawMessage(`{`) }),
			event(func(e *eventstore.Event) { e.Data = json.RawMessage("\"\xff\"") }),
			event(func(e *eventstore.Event) { e.Data = many(1, 512<<10)[0].Data }),
		},
	} {
		for i, a := range bad {
			_, err := s.Append(t.Context(), a)
			var invalid *eventstore.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != field || invalid.Reason == "" {
				t.Errorf("%s, %d: %v", field, i, err)
			}
		}
	}
	if n := len(stream(t, s, eventstore.StreamRead{})); n != 0 {
		t.Fatalf("%d events were stored by refused appends", n)
	}
	// The greatest that is allowed is taken.
	must(t, s, To(strings.Repeat("a", 64), eventstore.New, many(100, 1)...))
	fit := Event("big", `""`)
	fit.Data = json.RawMessage(`"` + strings.Repeat("x", eventstore.MaxEventBytes-must(t, s, To("s", eventstore.New, fit)).Events[0].Size()) + `"`)
	fit.ID = strings.Repeat("i", len(fit.ID))
	must(t, s, To("b", eventstore.New, fit))
	must(t, s, To("c", eventstore.New, many(6, 500<<10)...))
	Consistent(t, t.Context(), s, Stream)
	readLimits(t, s)
}

func readLimits(t *testing.T, s eventstore.Store) {
	for field, bad := range map[string]eventstore.AggregateRead{
		"stream": {Stream: "x", Aggregate: "a"}, "aggregate": {Stream: Stream, Aggregate: "*"},
		"last": {Stream: Stream, Aggregate: "a", Last: eventstore.MaxLast + 1}, "from": {Stream: Stream, Aggregate: "a", From: 1 << 60},
	} {
		_, err := eventstore.Collect(s.ReadAggregate(t.Context(), bad))
		var invalid *eventstore.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("read aggregate, %s: %v", field, err)
		}
	}
	for field, bad := range map[string]eventstore.StreamRead{
		"stream": {Stream: "x"}, "limit": {Stream: Stream, Limit: -1}, "from": {Stream: Stream, From: 1 << 60},
	} {
		_, err := eventstore.Collect(s.ReadStream(t.Context(), bad))
		var invalid *eventstore.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("read stream, %s: %v", field, err)
		}
	}
}

func reads(t *testing.T, s eventstore.Store) {
	const n = 1300 // more than a page, of the backend's and of the client's
	var all []eventstore.Event
	for len(all) < n {
		events := make([]eventstore.Event, 100)
		for i := range events {
			events[i] = one()
		}
		all = append(all, must(t, s, To("a", eventstore.Any, events...)).Events...)
		must(t, s, To("b", eventstore.Any, one()))
	}
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a"}), all)
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", From: 777}), all[776:])
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", From: n + 1}), nil)
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", Last: 3}), all[n-3:])
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", Last: 1000}), all[n-1000:])
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "nobody"}), nil)
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "nobody", Last: 5}), nil)
	whole := Consistent(t, t.Context(), s, Stream)
	equal(t, stream(t, s, eventstore.StreamRead{From: 1000}), whole[999:])
	equal(t, stream(t, s, eventstore.StreamRead{From: 5, Limit: 600}), whole[4:604])
	equal(t, stream(t, s, eventstore.StreamRead{From: uint64(len(whole)) + 1}), nil)
	equal(t, stream(t, s, eventstore.StreamRead{Stream: Other}), nil)
}

func leftReads(t *testing.T, s eventstore.Store) {
	for range 5 {
		must(t, s, To("a", eventstore.Any, one()))
	}
	for range 50 { // more often than there are connections to leak
		for _, err := range s.ReadStream(t.Context(), eventstore.StreamRead{Stream: Stream}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		for _, err := range s.ReadAggregate(t.Context(), eventstore.AggregateRead{Stream: Stream, Aggregate: "a"}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	must(t, s, To("a", eventstore.Any, one()))
}

func contextsEnd(t *testing.T, s eventstore.Store) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ended, To("a", eventstore.New, one())); !errors.Is(err, context.Canceled) {
		t.Fatalf("append: %v", err)
	}
	if _, err := eventstore.Collect(s.ReadStream(ended, eventstore.StreamRead{Stream: Stream})); !errors.Is(err, context.Canceled) {
		t.Fatalf("read: %v", err)
	}
	if n := len(stream(t, s, eventstore.StreamRead{})); n != 0 {
		t.Fatalf("%d events of a caller that was gone before", n)
	}
	// Callers that go while they wait leave nothing half done, and hold up nobody.
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
			defer cancel()
			_, err := s.Append(ctx, To(fmt.Sprintf("c%d", i%4), eventstore.Any, one(), one()))
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, s, To("a", eventstore.New, one()))
	if n := len(Consistent(t, t.Context(), s, Stream)); n%2 != 1 {
		t.Fatalf("%d events: a part of an append is there", n)
	}
}
