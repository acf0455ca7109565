package groupcommit

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
)

// at is a stored event.
func at(aggregate, id string, version, position uint64) eventstore.Event {
	return eventstore.Event{Stream: "ORDERS", Aggregate: aggregate, ID: id, Version: version, Position: position, Source: "stored"}
}

func request(stream, aggregate string, expected eventstore.Expected, ids ...string) Request {
	r := Request{Stream: stream, Aggregate: aggregate, Expected: expected}
	for _, id := range ids {
		r.Events = append(r.Events, eventstore.Event{Stream: stream, Aggregate: aggregate, ID: id})
	}
	return r
}

// What a store of these tests has: aggregate a with two events, b with one.
var (
	a1, b1, a2 = at("a", "a1", 1, 1), at("b", "b1", 1, 2), at("a", "a2", 2, 3)
	has        = Facts{
		Heads:    map[string]uint64{"ORDERS": 3},
		Versions: map[Key]uint64{{"ORDERS", "a"}: 2, {"ORDERS", "b"}: 1},
		Stored:   map[Key]eventstore.Event{{"ORDERS", "a1"}: a1, {"ORDERS", "a2"}: a2, {"ORDERS", "b1"}: b1},
	}
)

func TestPlan(t *testing.T) {
	type place struct{ version, position uint64 }
	for _, c := range []struct {
		name     string
		request  Request
		inserted []place
		repeat   []eventstore.Event
		conflict uint64 // the actual version and 1
		taken    string // id
		by       string // aggregate
	}{
		{name: "new", request: request("ORDERS", "c", eventstore.New, "x"), inserted: []place{{1, 4}}},
		{name: "any, new", request: request("ORDERS", "c", eventstore.Any, "x", "y"), inserted: []place{{1, 4}, {2, 5}}},
		{name: "any", request: request("ORDERS", "a", eventstore.Any, "x", "y"), inserted: []place{{3, 4}, {4, 5}}},
		{name: "exactly", request: request("ORDERS", "a", eventstore.Exactly(2), "x"), inserted: []place{{3, 4}}},
		{name: "first of its stream", request: request("ACCOUNTS", "a", eventstore.New, "a1"), inserted: []place{{1, 1}}},
		{name: "not new", request: request("ORDERS", "a", eventstore.New, "x"), conflict: 3},
		{name: "behind", request: request("ORDERS", "a", eventstore.Exactly(1), "x"), conflict: 3},
		{name: "ahead", request: request("ORDERS", "a", eventstore.Exactly(3), "x"), conflict: 3},
		{name: "ahead of nothing", request: request("ORDERS", "c", eventstore.Exactly(1), "x"), conflict: 1},
		{name: "repeat", request: request("ORDERS", "a", eventstore.Any, "a2"), repeat: []eventstore.Event{a2}},
		{name: "repeat of two", request: request("ORDERS", "a", eventstore.New, "a1", "a2"), repeat: []eventstore.Event{a1, a2}},
		{name: "repeat before version", request: request("ORDERS", "a", eventstore.Exactly(99), "a1"), repeat: []eventstore.Event{a1}},
		{name: "another aggregate", request: request("ORDERS", "b", eventstore.Any, "a1"), taken: "a1", by: "a"},
		{name: "id before version", request: request("ORDERS", "b", eventstore.Exactly(99), "a1"), taken: "a1", by: "a"},
		{name: "on a new aggregate", request: request("ORDERS", "c", eventstore.New, "x", "b1"), taken: "b1", by: "b"},
		{name: "only some", request: request("ORDERS", "a", eventstore.Exactly(2), "a2", "x"), taken: "a2", by: "a"},
		{name: "only some, later", request: request("ORDERS", "a", eventstore.Exactly(2), "x", "a2"), taken: "a2", by: "a"},
		{name: "another order", request: request("ORDERS", "a", eventstore.Any, "a2", "a1"), taken: "a2", by: "a"},
		{name: "two aggregates", request: request("ORDERS", "a", eventstore.Any, "a1", "b1"), taken: "a1", by: "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Plan([]Request{c.request}, has, Planned{})
			o := p.Outcomes[0]
			var got []place
			for _, e := range p.Insert {
				got = append(got, place{e.Version, e.Position})
			}
			if !slices.Equal(got, c.inserted) {
				t.Errorf("inserts %v, want %v", got, c.inserted)
			}
			if c.inserted != nil {
				if o.Err != nil || o.Appended.Duplicate || !reflect.DeepEqual(o.Appended.Events, p.Insert) {
					t.Errorf("answers %+v to inserting %+v", o, p.Insert)
				}
				if last := c.inserted[len(c.inserted)-1].position; p.Heads[c.request.Stream] != last {
					t.Errorf("heads %v, want %d", p.Heads, last)
				}
			} else if len(p.Heads) != 0 {
				t.Errorf("moves heads to %v for nothing", p.Heads)
			}
			if o.Appended.Duplicate != (c.repeat != nil) || c.repeat != nil && !reflect.DeepEqual(o.Appended.Events, c.repeat) {
				t.Errorf("answers %+v, want a repeat of %+v", o, c.repeat)
			}
			var conflict *eventstore.ConflictError
			if errors.As(o.Err, &conflict) != (c.conflict > 0) || conflict != nil && (conflict.Actual != c.conflict-1 || conflict.Expected != c.request.Expected) {
				t.Errorf("%v, want a conflict with %d", o.Err, c.conflict-1)
			}
			var taken *eventstore.IDError
			if errors.As(o.Err, &taken) != (c.taken != "") || taken != nil && (taken.ID != c.taken || taken.Aggregate != c.by || taken.Reason == "") {
				t.Errorf("%v, want %q taken by %q", o.Err, c.taken, c.by)
			}
		})
	}
}

// TestPlanBatch has winners and losers of two streams in one batch: positions
// go on from one winner to the next, and memory is used again.
func TestPlanBatch(t *testing.T) {
	var p Planned
	for range 2 {
		p = Plan([]Request{
			request("ORDERS", "c", eventstore.New, "x1", "x2"),
			request("ORDERS", "a", eventstore.New, "x3"), // conflict
			request("ACCOUNTS", "a", eventstore.New, "x1"),
			request("ORDERS", "b", eventstore.Any, "a1"), // taken
			request("ORDERS", "d", eventstore.Any, "x4"),
			request("ORDERS", "e", eventstore.Any, "b1"), // taken
			request("ACCOUNTS", "b", eventstore.Any, "x2"),
		}, has, p)
		var places []any
		for _, e := range p.Insert {
			places = append(places, e.Stream, e.Aggregate, e.ID, e.Version, e.Position)
		}
		if want := []any{
			"ORDERS", "c", "x1", uint64(1), uint64(4), "ORDERS", "c", "x2", uint64(2), uint64(5), "ACCOUNTS", "a", "x1", uint64(1), uint64(1),
			"ORDERS", "d", "x4", uint64(1), uint64(6), "ACCOUNTS", "b", "x2", uint64(1), uint64(2),
		}; !reflect.DeepEqual(places, want) {
			t.Fatalf("inserts %v\nwant    %v", places, want)
		}
		if want := map[string]uint64{"ORDERS": 6, "ACCOUNTS": 2}; !reflect.DeepEqual(p.Heads, want) {
			t.Fatalf("heads %v, want %v", p.Heads, want)
		}
		for i, o := range p.Outcomes {
			if lost := i == 1 || i == 3 || i == 5; (o.Err != nil) != lost {
				t.Errorf("outcome %d: %v", i, o.Err)
			}
		}
		if has.Heads["ORDERS"] != 3 {
			t.Fatal("the facts were changed")
		}
	}
}
