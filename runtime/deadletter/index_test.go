package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
)

// event is one of a dead letter; what is a Letter or a Change.
func event(t *testing.T, position uint64, id string, version uint64, typ string, what any) eventstore.Event {
	t.Helper()
	data, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	return eventstore.Event{
		Stream: Stream, Position: position, Aggregate: id, Version: version, ID: fmt.Sprint("e", position), Type: typ,
		Time: time.Date(2026, 1, 2, 3, 4, int(position), 0, time.UTC), Data: data,
	}
}

// TestFold has every way that a letter can go.
func TestFold(t *testing.T) {
	letter := Letter{Function: "payment", Reason: ReasonAttempts, Error: "no", Attempts: 5, Stream: "ORDERS", Position: 7, Data: json.RawMessage(`{"a":1}`)}
	edited := Change{Function: "payment", By: "ann", Reason: "typo", Data: json.RawMessage(`{"a":2}`)}
	failed := Change{Function: "payment", By: "ann", Error: "still no"}
	done := Change{Function: "payment", By: "bob"}
	type step struct {
		typ  string
		what any
	}
	for name, c := range map[string]struct {
		steps    []step
		status   Status
		resolved bool
		edited   string
		error    string
		replays  int
	}{
		"buried":                          {nil, StatusBuried, false, "", "no", 0},
		"edited":                          {[]step{{TypeEdited, edited}}, StatusEdited, false, `{"a":2}`, "no", 0},
		"replayed":                        {[]step{{TypeReplayed, done}}, StatusReplayed, true, "", "no", 1},
		"replayed, and failed":            {[]step{{TypeReplayed, failed}}, StatusFailed, false, "", "still no", 1},
		"failed, then edited":             {[]step{{TypeReplayed, failed}, {TypeEdited, edited}}, StatusEdited, false, `{"a":2}`, "still no", 1},
		"and then replayed":               {[]step{{TypeReplayed, failed}, {TypeEdited, edited}, {TypeReplayed, done}}, StatusReplayed, true, `{"a":2}`, "still no", 2},
		"dropped":                         {[]step{{TypeDropped, done}}, StatusDropped, true, "", "no", 0},
		"of a release to come":            {[]step{{"shelved", done}}, StatusBuried, false, "", "no", 0},
		"failed a hundred and more times": {slices.Repeat([]step{{TypeReplayed, failed}}, 150), StatusFailed, false, "", "still no", 150},
	} {
		events := []eventstore.Event{event(t, 1, "l", 1, TypeBuried, letter)}
		for i, s := range c.steps {
			events = append(events, event(t, uint64(i+2), "l", uint64(i+2), s.typ, s.what))
		}
		s, err := fold(func(yield func(eventstore.Event, error) bool) {
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		})
		if err != nil || s.Status != c.status || s.Status.Resolved() != c.resolved || string(s.Edited) != c.edited || s.Error != c.error || s.Replays != c.replays {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if s.ID != "l" || s.Function != "payment" || s.Position != 7 || s.Version != uint64(len(events)) || len(s.History) != min(len(events), maxHistory) || !reflect.DeepEqual(s.Letter, letter) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	none := func(func(eventstore.Event, error) bool) {}
	if _, err := fold(none); !errors.Is(err, errNotThere) {
		t.Errorf("of nothing: %v", err)
	}
	foreign := func(yield func(eventstore.Event, error) bool) { yield(event(t, 1, "l", 1, TypeDropped, done), nil) }
	if _, err := fold(foreign); err == nil {
		t.Error("a letter that was never buried is one")
	}
}

// ids are those that a filter finds, in pages of two.
func ids(x *index, f filter) (all []string) {
	for at := uint64(0); ; {
		page, next := x.list(f, at, 2)
		for _, s := range page {
			all = append(all, s.ID)
		}
		if at = next; at == 0 {
			return all
		}
	}
}

func TestIndexLists(t *testing.T) {
	x := newIndex(10)
	letter := func(function, stream, reason string) Letter {
		return Letter{Function: function, Stream: stream, Reason: reason}
	}
	for i, e := range []eventstore.Event{
		event(t, 1, "a", 1, TypeBuried, letter("payment", "ORDERS", ReasonDecode)),
		event(t, 2, "b", 1, TypeBuried, letter("review", "ORDERS", ReasonDecode)),
		event(t, 3, "a", 2, TypeEdited, Change{Function: "payment"}),
		event(t, 4, "c", 1, TypeBuried, letter("payment", "OTHERS", ReasonRejected)),
		event(t, 5, "d", 1, TypeBuried, letter("payment", "ORDERS", ReasonRejected)),
		event(t, 6, "b", 2, TypeReplayed, Change{Function: "review"}),
		event(t, 7, "d", 2, TypeReplayed, Change{Function: "payment", Error: "no"}),
		event(t, 8, "e", 1, TypeBuried, letter("payment", "ORDERS", ReasonRejected)),
		event(t, 9, "e", 2, TypeDropped, Change{Function: "payment"}),
		event(t, 10, "stray", 1, TypeDropped, Change{Function: "payment"}),
		event(t, 11, "e", 3, TypeDropped, Change{Function: "payment"}),
	} {
		if err := x.letters.apply(e); err != nil {
			t.Fatal(i, err)
		}
	}
	for name, c := range map[string]struct {
		f    filter
		want []string
	}{
		"all":       {filter{status: StatusUnresolved}, []string{"a", "c", "d"}},
		"status":    {filter{status: StatusFailed}, []string{"d"}},
		"buried":    {filter{status: StatusBuried}, []string{"c"}},
		"edited":    {filter{status: StatusEdited}, []string{"a"}},
		"stream":    {filter{status: StatusUnresolved, stream: "OTHERS"}, []string{"c"}},
		"reason":    {filter{status: StatusUnresolved, reason: ReasonRejected}, []string{"c", "d"}},
		"function":  {filter{status: StatusUnresolved, function: "review"}, nil},
		"since":     {filter{status: StatusUnresolved, since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, []string{"d"}},
		"no status": {filter{status: StatusDropped}, nil},
	} {
		if got := ids(x, c.f); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if counts, leftOut := x.unresolved(); !maps.Equal(counts, map[string]int{"payment": 3}) || leftOut != 0 {
		t.Errorf("counts %v, %d left out", counts, leftOut)
	}
	if err := x.letters.apply(eventstore.Event{Type: TypeBuried, Version: 1, Data: []byte(`"x"`)}); err == nil {
		t.Error("nonsense is a letter")
	}
}

// TestIndexIsBounded buries more than the index keeps: all are counted, and those
// that were left out are listed once there is room.
func TestIndexIsBounded(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	const most, buried = 6, 10
	for i := range uint64(buried) {
		if err := Bury(t.Context(), store, Letter{Function: "payment", Stream: "ORDERS", Position: i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	x := newIndex(most)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = x.run(ctx, store, slog.New(slog.DiscardHandler)) })
	defer func() { cancel(); wg.Wait() }()
	expect := func(position uint64, listed, unresolved, leftOut int) {
		t.Helper()
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for {
			if err := x.await(within, position); err != nil {
				t.Fatal(err)
			}
			counts, left := x.unresolved()
			got := len(ids(x, filter{status: StatusUnresolved}))
			if got == listed && counts["payment"] == unresolved && left == leftOut {
				return
			}
			if within.Err() != nil {
				t.Fatalf("%d listed, %v unresolved, %d left out", got, counts, left)
			}
			time.Sleep(time.Millisecond)
		}
	}
	idAt := func(position uint64) string {
		return Letter{Function: "payment", Stream: "ORDERS", Position: position}.ID()
	}
	drop := func(position uint64) {
		t.Helper()
		id := idAt(position)
		if _, err := store.Append(ctx, eventstore.Append{Stream: Stream, Aggregate: id, Expected: 1, Events: []eventstore.Event{{
			ID: "drop-" + id, Type: TypeDropped, Data: []byte(`{"function":"payment"}`),
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	expect(buried, most, buried, buried-most)
	drop(10) // of those left out
	expect(buried+1, most, buried-1, buried-most-1)
	drop(1)
	drop(2)
	expect(buried+3, most-2, buried-3, buried-most-1)
	drop(3) // half is free
	expect(buried+4, most, buried-4, 0)
	if got := ids(x, filter{status: StatusUnresolved}); got[0] != idAt(4) || got[5] != idAt(9) {
		t.Errorf("listed %v", got)
	}
}
