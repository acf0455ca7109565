package envelope_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
)

func event() eventstore.Event {
	return eventstore.Event{
		Stream: "ORDERS", Position: 7, Aggregate: "o1", Version: 3, ID: "e1", Type: "created", Schema: 2,
		Time:   time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		Source: "placeorder", CausationID: "c", CorrelationID: "k", Traceparent: "00-t-s-01", Data: []byte(`{"a":1}`),
	}
}

// TestHeader holds the headers to what is on the wire already.
func TestHeader(t *testing.T) {
	want := map[string][]string{
		"ce-specversion": {"1.0"}, "ce-id": {"e1"}, "ce-type": {"created"}, "ce-source": {"placeorder"}, "ce-subject": {"o1"},
		"ce-time": {"2026-01-02T03:04:05.678901Z"}, "ce-version": {"3"}, "ce-schema": {"2"},
		"ce-causationid": {"c"}, "ce-correlationid": {"k"}, "traceparent": {"00-t-s-01"}, "content-type": {"application/json"},
	}
	if got := envelope.Header(event()); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestComesBack(t *testing.T) {
	bare := event()
	bare.Source, bare.CausationID, bare.CorrelationID, bare.Traceparent = "", "", "", ""
	for _, want := range []eventstore.Event{event(), bare} {
		got, err := envelope.Parse(envelope.Subject(want.Stream, want.Type), envelope.Header(want), want.Data, want.Position)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v (%v), want %+v", got, err, want)
		}
	}
}

func TestForeignMessagesAreRefused(t *testing.T) {
	for name, bad := range map[string]string{
		"ce-specversion": "0.3", "ce-id": "a b", "ce-type": "other", "ce-subject": "*", "ce-version": "0", "ce-schema": "x", "ce-time": "now",
	} {
		h := maps.Clone(envelope.Header(event()))
		for _, value := range [][]string{{bad}, {}, nil} {
			h[name] = value
			if _, err := envelope.Parse("ORDERS.created", h, []byte("{}"), 1); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%v: %v", name, value, err)
			}
		}
	}
	for _, subject := range []string{"", "ORDERS", "orders.created", ".created"} {
		if _, err := envelope.Parse(subject, envelope.Header(event()), nil, 1); err == nil {
			t.Errorf("subject %q was taken", subject)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("ORDERS.created", "1.0", "e1", "o1", "3", "2026-01-02T03:04:05Z", []byte("{}"))
	f.Fuzz(func(t *testing.T, subject, spec, id, aggregate, version, at string, data []byte) {
		_, typ, _ := strings.Cut(subject, ".")
		e, err := envelope.Parse(subject, map[string][]string{
			"ce-specversion": {spec}, "ce-id": {id}, "ce-type": {typ}, "ce-subject": {aggregate}, "ce-version": {version}, "ce-time": {at}, "ce-schema": {"1"},
		}, data, 1)
		if err == nil && (!eventstore.IsID(e.ID) || !eventstore.IsID(e.Aggregate) || e.Version == 0) {
			t.Fatalf("took %+v", e)
		}
	})
}
