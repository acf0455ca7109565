package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// history makes the first n events of a stream, on three aggregates, as a store
// answers them.
func history(stream string, n int) []eventstore.Event {
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i] = eventstore.Event{
			Stream: stream, Position: uint64(i + 1), Aggregate: fmt.Sprint("a", i%3), Version: uint64(i/3 + 1),
			ID: fmt.Sprint("id-", i+1), Type: "happened", Schema: 1,
			Time: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC).Add(time.Duration(i) * time.Microsecond),
			Data: json.RawMessage(fmt.Sprintf(`{ "n":%d }`, i+1)),
		}
	}
	return events
}

func restore(t *testing.T, s eventstore.Backend, events []eventstore.Event) {
	t.Helper()
	if err := s.Restore(t.Context(), events[0].Stream, events); err != nil {
		t.Fatalf("restore %s from %d on: %v", events[0].Stream, events[0].Position, err)
	}
}

// restored restores in two calls, and goes on with appends.
func restored(t *testing.T, s eventstore.Backend) {
	events := history(Stream, 10)
	e := &events[4]
	e.Source, e.CausationID, e.CorrelationID, e.Schema = "payment", "cause", "flow <&>", 7
	e.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	e.Data = json.RawMessage(" {\n\t\"<a>&\": \"ü\u2028\\u0000\",  \"n\":1.0e0 }\r\n")
	events[5].Data, events[6].Data = json.RawMessage(`null`), json.RawMessage(` 1 `)
	restore(t, s, events[:6])
	restore(t, s, events[6:])
	restore(t, s, history(Other, 1)) // the same id, position and aggregate, in another stream
	equal(t, Consistent(t, t.Context(), s, Stream), events)
	equal(t, aggregate(t, s, eventstore.AggregateRead{Aggregate: "a1", From: 2}), []eventstore.Event{events[4], events[7]})
	if head, err := s.Head(t.Context(), Stream); err != nil || head != 10 {
		t.Fatalf("head %d, %v; want 10", head, err)
	}

	again := must(t, s, To("a1", eventstore.New, eventstore.Event{ID: events[4].ID, Type: "x", Data: json.RawMessage(`1`)}))
	if !again.Duplicate {
		t.Fatal("a repeat of a restored event is not marked")
	}
	equal(t, again.Events, events[4:5])
	if _, err := s.Append(t.Context(), To("a1", eventstore.Exactly(2), one())); !isConflict(err) {
		t.Fatalf("an append to version 2 of 3: %v", err)
	}
	done := must(t, s, To("a1", eventstore.Exactly(3), one()))
	if e := done.Events[0]; e.Position != 11 || e.Version != 4 {
		t.Fatalf("position %d and version %d, want 11 and 4", e.Position, e.Version)
	}
	next := history(Stream, 12)[11:]
	next[0].Aggregate, next[0].Version = "a1", 5
	restore(t, s, next) // behind an append
	count(t, s, 12)
}

func restoreRefusals(t *testing.T, s eventstore.Backend) {
	restore(t, s, history(Stream, 6))
	told := 0
	s.OnCommit(func(_ string, events []eventstore.Event) { told += len(events) })
	for field, change := range map[string]func(e []eventstore.Event) []eventstore.Event{
		"events":             func([]eventstore.Event) []eventstore.Event { return nil },
		"events[0].position": func(e []eventstore.Event) []eventstore.Event { return e[1:] },
		"events[2].position": func(e []eventstore.Event) []eventstore.Event { return append(e[:2], e[3:]...) },
		"events[3].position": func(e []eventstore.Event) []eventstore.Event { e[3].Position = 9; return e },
		"events[1].version":  func(e []eventstore.Event) []eventstore.Event { e[1].Version = 2; return e },
		"events[3].version":  func(e []eventstore.Event) []eventstore.Event { e[3].Version = 5; return e },
		"events[0].version":  func(e []eventstore.Event) []eventstore.Event { e[0].Version = 0; return e },
		"events[2].version":  func(e []eventstore.Event) []eventstore.Event { e[2].Aggregate = "new"; return e },
		"events[3].id":       func(e []eventstore.Event) []eventstore.Event { e[3].ID = e[1].ID; return e },
		"events[2].id":       func(e []eventstore.Event) []eventstore.Event { e[2].ID = "id-1"; return e },
		"events[3].stream":   func(e []eventstore.Event) []eventstore.Event { e[3].Stream = Other; return e },
		"events[0].schema":   func(e []eventstore.Event) []eventstore.Event { e[0].Schema = 0; return e },
		"events[0].type":     func(e []eventstore.Event) []eventstore.Event { e[0].Type = "Happened"; return e },
		"events[0].data":     func(e []eventstore.Event) []eventstore.Event { e[0].Data = nil; return e },
		"events[0].time":     func(e []eventstore.Event) []eventstore.Event { e[0].Time = time.Time{}; return e },
		"events[1].time":     func(e []eventstore.Event) []eventstore.Event { e[1].Time = e[1].Time.Add(1); return e },
		"events[2].time": func(e []eventstore.Event) []eventstore.Event {
			e[2].Time = e[2].Time.In(time.FixedZone("", 3600))
			return e
		},
	} {
		if err := s.Restore(t.Context(), Stream, change(history(Stream, 10)[6:])); !isInvalid(err, field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, from := range []int{0, 5} { // what is there already
		if err := s.Restore(t.Context(), Stream, history(Stream, 10)[from:]); !isInvalid(err, "events[0].position") {
			t.Errorf("from %d on: %v", from+1, err)
		}
	}
	if err := s.Restore(t.Context(), "orders", history("orders", 1)); !isInvalid(err, "stream") {
		t.Errorf("stream: %v", err)
	}
	equal(t, Consistent(t, t.Context(), s, Stream), history(Stream, 6))
	if told != 0 {
		t.Errorf("told of %d events that were refused", told)
	}
	restore(t, s, history(Stream, 10)[6:])
	count(t, s, 10)
}

func restoreBoundaries(t *testing.T, s eventstore.Backend) {
	events := history(Stream, eventstore.MaxRestoreEvents+1)
	if err := s.Restore(t.Context(), Stream, events); !isInvalid(err, "events") {
		t.Errorf("%d events: %v", len(events), err)
	}
	restore(t, s, events[:eventstore.MaxRestoreEvents])
	equal(t, Consistent(t, t.Context(), s, Stream), events[:eventstore.MaxRestoreEvents])

	great := history(Other, eventstore.MaxRestoreBytes/eventstore.MaxEventBytes+1)
	for i := range great {
		e := &great[i]
		e.Data = nil
		e.Data = json.RawMessage(`"` + strings.Repeat("x", eventstore.MaxEventBytes-e.Size()-2) + `"`)
	}
	if err := s.Restore(t.Context(), Other, great); !isInvalid(err, "events") {
		t.Errorf("%d great events: %v", len(great), err)
	}
	great = great[:len(great)-1]
	restore(t, s, great)
	equal(t, Consistent(t, t.Context(), s, Other), great)
}

// restoreTold restores while appends to the same stream are committed: what is
// told is the stream.
func restoreTold(t *testing.T, s eventstore.Backend) {
	var told []eventstore.Event // one commit to a stream is told after the other
	s.OnCommit(func(_ string, events []eventstore.Event) { told = append(told, events...) })
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 40 {
				if _, err := s.Append(t.Context(), To(fmt.Sprint("b", i), eventstore.Any, one())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := uint64(0); n < 10; {
		head, err := s.Head(t.Context(), Stream)
		if err != nil {
			t.Error(err)
			break
		}
		e := history(Stream, 1)
		e[0].ID, e[0].Aggregate, e[0].Position, e[0].Version = fmt.Sprint("restored-", n), "restored", head+1, n+1
		switch err := s.Restore(t.Context(), Stream, e); {
		case err == nil:
			n++
		case !isInvalid(err, "events[0].position"): // an append was faster
			t.Error(err)
			n = 10
		}
	}
	wg.Wait()
	equal(t, told, Consistent(t, t.Context(), s, Stream))
}

func restoreEnded(t *testing.T, s eventstore.Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Restore(ctx, Stream, history(Stream, 1)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	count(t, s, 0)
}
