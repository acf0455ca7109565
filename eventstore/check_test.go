package eventstore_test

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

func good() eventstore.Append {
	return eventstore.Append{
		Stream: "ORDERS", Aggregate: "order-1", Expected: eventstore.New,
		Events: []eventstore.Event{{ID: "id-1", Type: "created", Data: json.RawMessage(`{"a":1}`)}},
	}
}

// field is what an error of a check says is wrong; "" when nothing is.
func field(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var invalid *eventstore.InvalidError
	if !errors.As(err, &invalid) || invalid.Field == "" || invalid.Reason == "" {
		t.Fatalf("%#v is no InvalidError that says what is wrong", err)
	}
	if n := len(err.Error()); n > 600 {
		t.Errorf("the error is %d bytes long", n)
	}
	return invalid.Field
}

// TestCheckAppend has what storetest does not ask of every store; the limits
// themselves are there.
func TestCheckAppend(t *testing.T) {
	for _, c := range []struct {
		field  string
		change func(*eventstore.Append)
	}{
		{"", func(*eventstore.Append) {}},
		{"", func(a *eventstore.Append) { a.Expected = eventstore.Any }},
		{"", func(a *eventstore.Append) { a.Expected = eventstore.Exactly(eventstore.MaxPosition) }},
		{"expected", func(a *eventstore.Append) { a.Expected = eventstore.Exactly(eventstore.MaxPosition + 1) }},
		{"expected", func(a *eventstore.Append) { a.Expected = eventstore.Exactly(math.MaxUint64) }},
		{"expected", func(a *eventstore.Append) { a.Expected = math.MinInt64 }},
		{"stream", func(a *eventstore.Append) { a.Stream = strings.Repeat("\x00", 1<<20) }},
		{"events[0].data", func(a *eventstore.Append) { a.Events[0].Data = []byte(strings.Repeat("[", 1<<18)) }},
		{"", func(a *eventstore.Append) { a.Events[0].Data = []byte(" 1 ") }},
		{"", func(a *eventstore.Append) { a.Events[0].Data = []byte(`"\ud800\u0000"`) }},
		{"events[2].id", func(a *eventstore.Append) {
			other := a.Events[0]
			other.ID = "other"
			a.Events = append(a.Events, other, a.Events[0])
		}},
		// What the store fills is not looked at.
		{"", func(a *eventstore.Append) {
			a.Events[0].Stream, a.Events[0].Aggregate, a.Events[0].Position, a.Events[0].Version = "?", "?", 1, math.MaxUint64
		}},
	} {
		a := good()
		c.change(&a)
		if got := field(t, a.Check()); got != c.field {
			t.Errorf("%.80q, %d: wrong is %q, want %q", a.Stream, a.Expected, got, c.field)
		}
	}
}

func TestStamp(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.FixedZone("x", 3600))
	a := good()
	a.Events = append(a.Events, eventstore.Event{ID: "id-2", Type: "paid", Schema: 7, Time: now.Add(time.Hour)})
	stamped := a.Stamp(now)
	if want := time.Date(2026, 1, 2, 2, 4, 5, 123456000, time.UTC); stamped[0].Time != want || stamped[1].Time != want.Add(time.Hour) {
		t.Errorf("times %v, %v", stamped[0].Time, stamped[1].Time)
	}
	if stamped[0].Schema != 1 || stamped[1].Schema != 7 || stamped[0].Stream != "ORDERS" || stamped[1].Aggregate != "order-1" {
		t.Errorf("stamped %+v", stamped)
	}
	if !a.Events[0].Time.IsZero() || a.Events[0].Stream != "" {
		t.Error("the caller's events were changed")
	}
}

var (
	idForm     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	streamForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,31}$`)
	typeForm   = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)
	headerForm = regexp.MustCompile(`^([!-~]([ -~]{0,254}[!-~])?)?$`)
)

func FuzzCheck(f *testing.F) {
	f.Add("ORDERS", "order-1", "id-1", "created", "source", "cause", []byte(`{"a":1}`), int64(0), 1, int64(1767322800))
	f.Add("orders", "", strings.Repeat("i", 65), "Created", " x", "a\nb", []byte("\"\xff\""), int64(-2), -1, int64(-1))
	f.Add("S_1", "-", "_", "a1", "", "~ ~", []byte("null"), int64(math.MaxInt64), 1<<20+1, int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, stream, aggregate, id, typ, source, cause string, data []byte, expected int64, schema int, seconds int64) {
		e := eventstore.Event{ID: id, Type: typ, Source: source, CausationID: cause, Data: data, Schema: schema, Time: time.Unix(seconds, 0)}
		a := eventstore.Append{Stream: stream, Aggregate: aggregate, Expected: eventstore.Expected(expected), Events: []eventstore.Event{e}}
		year := e.Time.UTC().Year()
		counted := e
		counted.Stream, counted.Aggregate = stream, aggregate
		want := ""
		switch { // in the order in which the fields are looked at
		case !streamForm.MatchString(stream):
			want = "stream"
		case !idForm.MatchString(aggregate):
			want = "aggregate"
		case expected < -1 || expected > eventstore.MaxPosition:
			want = "expected"
		case !idForm.MatchString(id):
			want = "events[0].id"
		case !typeForm.MatchString(typ):
			want = "events[0].type"
		case schema < 0 || schema > eventstore.MaxSchema:
			want = "events[0].schema"
		case !e.Time.IsZero() && (year < 1970 || year > 9999):
			want = "events[0].time"
		case !headerForm.MatchString(source):
			want = "events[0].source"
		case !headerForm.MatchString(cause):
			want = "events[0].causation_id"
		case counted.Size() > eventstore.MaxEventBytes || !json.Valid(data) || strings.ToValidUTF8(string(data), "") != string(data):
			want = "events[0].data"
		}
		if got := field(t, a.Check()); got != want {
			t.Fatalf("wrong is %q, want %q", got, want)
		}
		if want != "" {
			return
		}
		// What is right stays right when it is stamped, and stamping again
		// changes nothing.
		stamped := a.Stamp(time.Now())
		a.Events = stamped
		if err := a.Check(); err != nil {
			t.Fatalf("stamped: %v", err)
		}
		if again := a.Stamp(time.Now()); !again[0].Time.Equal(stamped[0].Time) || again[0].Schema != stamped[0].Schema {
			t.Fatalf("stamped again: %+v, was %+v", again[0], stamped[0])
		}
	})
}

func TestCheckReads(t *testing.T) {
	for want, err := range map[string]error{
		"stream":    eventstore.StreamRead{Stream: "orders"}.Check(),
		"limit":     eventstore.StreamRead{Stream: "ORDERS", Limit: math.MinInt}.Check(),
		"from":      eventstore.StreamRead{Stream: "ORDERS", From: math.MaxUint64}.Check(),
		"aggregate": eventstore.AggregateRead{Stream: "ORDERS"}.Check(),
		"last":      eventstore.AggregateRead{Stream: "ORDERS", Aggregate: "a", From: 1, Last: 1}.Check(),
		"":          eventstore.AggregateRead{Stream: "ORDERS", Aggregate: "a", Last: eventstore.MaxLast}.Check(),
	} {
		if got := field(t, err); got != want {
			t.Errorf("wrong is %q, want %q", got, want)
		}
	}
}
