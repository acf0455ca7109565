package deadletter_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/runtime/deadletter"
)

// TestBury has messages of every size buried, twice: the letter is one event,
// and holds the message whole unless it is too large to be a part of one.
func TestBury(t *testing.T) {
	header := map[string][]string{"ce-id": {"e1"}, "ce-type": {"created"}}
	text := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n) + `"`) }
	for name, c := range map[string]struct {
		letter deadletter.Letter
		data   json.RawMessage
		raw    []byte
		header bool
	}{
		"as it came":                             {deadletter.Letter{Data: text(10), Header: header, Error: "broken"}, text(10), nil, true},
		"without a body":                         {deadletter.Letter{Header: header}, nil, nil, true},
		"no JSON":                                {deadletter.Letter{Data: []byte("\xff{"), Header: header}, nil, []byte("\xff{"), true},
		"a long error":                           {deadletter.Letter{Data: text(10), Header: header, Error: strings.Repeat("ü", 1<<20)}, text(10), nil, true},
		"large":                                  {deadletter.Letter{Data: text(400 << 10), Header: header}, text(400 << 10), nil, true},
		"the largest":                            {deadletter.Letter{Data: text(eventstore.MaxEventBytes), Header: header}, nil, nil, true},
		"too large":                              {deadletter.Letter{Data: text(1 << 20), Header: header}, nil, nil, true},
		"large and no JSON":                      {deadletter.Letter{Data: []byte(strings.Repeat("\x00", 500<<10)), Header: header}, nil, nil, true},
		"a large header":                         {deadletter.Letter{Data: text(10), Header: map[string][]string{"x": {strings.Repeat("\x01", 600<<10)}}}, nil, nil, false},
		"a header that grows when it is written": {deadletter.Letter{Data: text(10), Header: map[string][]string{"x": {strings.Repeat("\x01", 100<<10)}}}, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			l := c.letter
			l.Function, l.Reason, l.Stream, l.Subject, l.Position, l.EventID = "payment", deadletter.ReasonDecode, "ORDERS", "ORDERS.created", 7, "e1"
			for range 2 {
				if err := deadletter.Bury(t.Context(), store, l); err != nil {
					t.Fatal(err)
				}
			}
			events, err := eventstore.Collect(store.ReadStream(t.Context(), eventstore.StreamRead{Stream: deadletter.Stream}))
			if err != nil || len(events) != 1 || events[0].Type != deadletter.TypeBuried || events[0].CausationID != "e1" {
				t.Fatalf("%d events, %v", len(events), err)
			}
			var got deadletter.Letter
			if err := json.Unmarshal(events[0].Data, &got); err != nil {
				t.Fatal(err)
			}
			if string(got.Data) != string(c.data) || string(got.Raw) != string(c.raw) || c.header != reflect.DeepEqual(got.Header, header) || got.Position != 7 {
				t.Errorf("data %.40s, raw %.40q, header %.80v, position %d", got.Data, got.Raw, got.Header, got.Position)
			}
		})
	}
}

// TestFind finds a letter by what it is of.
func TestFind(t *testing.T) {
	store := memory.New()
	letter := deadletter.Letter{Function: "payment", Stream: "ORDERS", Position: 7, EventID: "e7"}
	id := letter.ID()
	if _, found, err := deadletter.Find(t.Context(), store, id); found || err != nil {
		t.Fatalf("before it is buried: %v, %v", found, err)
	}
	if err := deadletter.Bury(t.Context(), store, letter); err != nil {
		t.Fatal(err)
	}
	l, found, err := deadletter.Find(t.Context(), store, id)
	if !found || err != nil || l.ID != id || l.Function != "payment" || l.Position != 7 || l.Status != deadletter.StatusBuried {
		t.Errorf("%+v, %v, %v", l, found, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, found, err := deadletter.Find(t.Context(), store, id); found || !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("of a store that is closed: %v, %v", found, err)
	}
}

// TestAnotherMessageAtThePosition has a letter of its own: a stray one was there
// before the stream was made anew.
func TestAnotherMessageAtThePosition(t *testing.T) {
	at := func(event, data string) deadletter.Letter {
		return deadletter.Letter{Function: "payment", Stream: "ORDERS", Subject: "ORDERS.created", Position: 7, EventID: event, Data: []byte(data)}
	}
	store, ids := memory.New(), map[string]bool{}
	defer func() { _ = store.Close() }()
	for _, l := range []deadletter.Letter{at("", "{}"), at("", "{"), at("e1", "{}"), at("e2", "{}")} {
		for range 2 { // its acknowledgement was lost
			if err := deadletter.Bury(t.Context(), store, l); err != nil {
				t.Fatal(err)
			}
		}
		ids[l.ID()] = true
		if got, found, err := deadletter.Find(t.Context(), store, l.ID()); !found || err != nil || got.EventID != l.EventID {
			t.Errorf("%+v, %v, %v", got, found, err)
		}
	}
	if head, err := store.Head(t.Context(), deadletter.Stream); len(ids) != 4 || head != 4 || err != nil {
		t.Errorf("%d ids, %d events, %v", len(ids), head, err)
	}
}

// TestABodyIsKeptAsItCame: nothing of it is written in another way, which could
// make it too long to keep.
func TestABodyIsKeptAsItCame(t *testing.T) {
	s := memory.New()
	defer func() { _ = s.Close() }()
	header := map[string][]string{"ce-id": {"e1\xff"}}
	for i, c := range []struct {
		data string
		kept bool
	}{
		{`{"a":"x<y","a":1.50,"b":"\u00e9 é"}`, true},
		{"{\"a\": \"\xff\"}", true},
		{`{"note":"` + strings.Repeat("<", 400_000) + `"}`, true},
		{`{"note":"` + strings.Repeat("x", eventstore.MaxEventBytes) + `"}`, false},
	} {
		l := deadletter.Letter{Function: "f", Reason: deadletter.ReasonRejected, Stream: "ORDERS", Subject: "ORDERS.created", Position: uint64(i) + 1, Data: json.RawMessage(c.data), Header: header}
		if err := deadletter.Bury(t.Context(), s, l); err != nil {
			t.Fatal(err)
		}
		got, found, err := deadletter.Find(t.Context(), s, l.ID())
		if err != nil || !found {
			t.Fatal(found, err)
		}
		if kept := string(got.Letter.Data)+string(got.Letter.Raw) == c.data; kept != c.kept || len(got.Letter.Header) != 1 {
			t.Errorf("%.50q is kept as %.50q, with %v", c.data, got.Letter.Data, got.Letter.Header)
		}
	}
}
