package telemetry

import (
	"context"
	"strings"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
)

// Relayed has a span for each event of a trace that the relay sent; nil when
// traces are off.
func (t *Telemetry) Relayed() func(e eventstore.Event, sent time.Time) {
	if t.tracer == nil {
		return nil
	}
	return t.relayed
}

func (t *Telemetry) relayed(e eventstore.Event, sent time.Time) {
	if !isSampled(e.Traceparent) {
		return
	}
	parent := contextOf(e.Traceparent)
	if !parent.IsSampled() {
		return
	}
	subject := envelope.Subject(e.Stream, e.Type)
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), "send "+subject,
		trace.WithTimestamp(sent), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			system, semconv.MessagingDestinationName(subject), semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend,
			semconv.MessagingMessageID(e.ID), semconv.MessagingMessageBodySize(len(e.Data)),
			keyStream.String(e.Stream), keyAggregate.String(e.Aggregate), keyPosition.Int64(int64(e.Position)))) //nolint:gosec // far from its end
	span.End()
}

// isSampled looks at the last digit alone, to be done at once with the events of
// traces that nobody keeps.
func isSampled(traceparent string) bool {
	return traceparent != "" && strings.IndexByte("13579bdf", traceparent[len(traceparent)-1]) >= 0
}
