package rpc

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waybill-go/waybill/eventstore"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

func toProto(events []eventstore.Event) []*pb.Event {
	out := make([]*pb.Event, len(events))
	for i := range events {
		e := &events[i]
		out[i] = &pb.Event{
			Stream: e.Stream, Position: e.Position, Aggregate: e.Aggregate, Version: e.Version,
			Id: e.ID, Type: e.Type, Schema: uint32(e.Schema), //nolint:gosec // checked
			Source: e.Source, CausationId: e.CausationID, CorrelationId: e.CorrelationID,
			Traceparent: e.Traceparent, Data: string(e.Data),
		}
		if !e.Time.IsZero() {
			out[i].Time = timestamppb.New(e.Time)
		}
	}
	return out
}

// fromProto reads events from the wire. An error names the field.
func fromProto(events []*pb.Event) ([]eventstore.Event, *eventstore.InvalidError) {
	out := make([]eventstore.Event, len(events))
	for i, p := range events {
		var at time.Time
		if p == nil {
			return nil, &eventstore.InvalidError{Field: fmt.Sprintf("events[%d]", i), Reason: "is missing"}
		}
		if p.GetTime() != nil {
			if err := p.GetTime().CheckValid(); err != nil {
				return nil, &eventstore.InvalidError{Field: fmt.Sprintf("events[%d].time", i), Reason: "is no valid time"}
			}
			at = p.GetTime().AsTime()
		}
		if p.GetSchema() > math.MaxInt32 {
			return nil, &eventstore.InvalidError{Field: fmt.Sprintf("events[%d].schema", i), Reason: "is too large"}
		}
		out[i] = eventstore.Event{
			Stream: p.GetStream(), Position: p.GetPosition(), Aggregate: p.GetAggregate(), Version: p.GetVersion(),
			ID: p.GetId(), Type: p.GetType(), Time: at, Schema: int(p.GetSchema()),
			Source: p.GetSource(), CausationID: p.GetCausationId(), CorrelationID: p.GetCorrelationId(),
			Traceparent: p.GetTraceparent(), Data: []byte(p.GetData()),
		}
	}
	return out, nil
}
