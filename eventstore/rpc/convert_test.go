package rpc

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waybill-go/waybill/eventstore"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

func TestEventsComeBackAsTheyWere(t *testing.T) {
	full := eventstore.Event{
		Stream: "ORDERS", Position: 1 << 53, Aggregate: "a", Version: 7, ID: "i", Type: "created",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), Schema: eventstore.MaxSchema,
		Source: "s", CausationID: "c", CorrelationID: "r", Traceparent: "t", Data: json.RawMessage(`{"ü":1.0}`),
	}
	// A field that is added to Event and forgotten here would be lost on the wire.
	for v, i := reflect.ValueOf(full), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("%s is not tried", v.Type().Field(i).Name)
		}
	}
	wire, err := proto.Marshal(&pb.AppendRequest{Events: toProto([]eventstore.Event{full})})
	if err != nil {
		t.Fatal(err)
	}
	var req pb.AppendRequest
	if err := proto.Unmarshal(wire, &req); err != nil {
		t.Fatal(err)
	}
	back, invalid := fromProto(req.GetEvents())
	if invalid != nil || !reflect.DeepEqual(back, []eventstore.Event{full}) {
		t.Fatalf("%+v, %v", back, invalid)
	}
}

func TestNilEventIsRefused(t *testing.T) {
	if _, invalid := fromProto([]*pb.Event{{}, nil}); invalid == nil || invalid.Field != "events[1]" {
		t.Fatal(invalid)
	}
}

// FuzzFromWire reads bytes as an append. Whatever they are, nothing panics, and
// what the contract takes comes back from the wire as the same append.
func FuzzFromWire(f *testing.F) {
	for _, seed := range []*pb.AppendRequest{
		{},
		{Stream: "ORDERS", Aggregate: "a", Events: []*pb.Event{{}}},
		{Stream: "ORDERS", Aggregate: "a", ExpectedVersion: -1, Events: []*pb.Event{{Id: "i", Type: "x", Data: `{"a":1}`, Time: timestamppb.Now()}}},
		{Stream: "ORDERS", Events: []*pb.Event{{Schema: 1 << 31, Time: &timestamppb.Timestamp{Seconds: 1 << 60, Nanos: -1}}}},
	} {
		wire, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var req pb.AppendRequest
		if proto.Unmarshal(wire, &req) != nil {
			return
		}
		events, invalid := fromProto(req.GetEvents())
		if invalid != nil {
			if invalid.Field == "" || invalid.Reason == "" {
				t.Fatalf("%#v", invalid)
			}
			return
		}
		a := eventstore.Append{Stream: req.GetStream(), Aggregate: req.GetAggregate(), Expected: eventstore.Expected(req.GetExpectedVersion()), Events: events}
		if a.Check() != nil {
			return
		}
		again, invalid := fromProto(toProto(events))
		if invalid != nil || !reflect.DeepEqual(again, events) {
			t.Fatalf("%+v came back as %+v, %v", events, again, invalid)
		}
	})
}
