package telemetry

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

var system = semconv.MessagingSystemKey.String("nats")

// Attributes of our own.
const (
	keyFunction   = attribute.Key("waybill.function")
	keyOutcome    = attribute.Key("waybill.outcome")
	keyAggregate  = attribute.Key("waybill.aggregate")
	keyStream     = attribute.Key("waybill.stream")
	keyPosition   = attribute.Key("waybill.position")
	keyDeliveries = attribute.Key("waybill.deliveries")
	keyLetter     = attribute.Key("waybill.dead_letter")
	keyReason     = attribute.Key("waybill.reason")
)

// observer watches functions' doors.
type observer struct {
	metrics *metrics     // may be nil
	tracer  trace.Tracer // may be nil
}

// headers reads a trace context from a message's headers.
type headers nats.Header

// Get implements propagation.TextMapCarrier.
func (h headers) Get(key string) string {
	if v := nats.Header(h).Get(key); len(v) <= maxContext {
		return v
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (h headers) Set(key, value string) { nats.Header(h).Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (h headers) Keys() []string { return []string{"traceparent", "tracestate"} }

// Door implements host.Observer: it is counted from 0 on.
func (o *observer) Door(function, subject string) {
	if o.metrics != nil {
		o.metrics.door(doorKey{function: function, door: subject})
	}
}

// Observe implements host.Observer.
func (o *observer) Observe(t host.Taken) host.Observation {
	n := &observation{span: trace.SpanFromContext(context.Background()), event: t.Stream != ""}
	if o.metrics != nil {
		n.door = o.metrics.door(keyOf(t))
		n.door.waiting.Inc()
		if t.Deliveries > 1 {
			n.door.redelivered.Inc()
		}
	}
	if o.tracer != nil {
		n.span = o.begin(t)
	}
	return n
}

// begin begins the span of a message, under the context that it came with.
func (o *observer) begin(t host.Taken) trace.Span {
	name, kind := t.Door, trace.SpanKindServer
	if t.Stream != "" {
		name, kind = "process "+clip(t.Subject), trace.SpanKindConsumer
	}
	parent := propagator.Extract(context.Background(), headers(t.Header))
	_, span := o.tracer.Start(parent, name, trace.WithTimestamp(t.At), trace.WithSpanKind(kind))
	if span.IsRecording() { // most are not, where few are sampled
		describeMessage(span, t)
	}
	return span
}

func describeMessage(span trace.Span, t host.Taken) {
	span.SetAttributes(system, semconv.MessagingDestinationName(clip(t.Subject)), semconv.MessagingMessageBodySize(t.Size), keyFunction.String(t.Function))
	if id := t.Header.Get(nats.MsgIdHdr); id != "" {
		span.SetAttributes(semconv.MessagingMessageID(clip(id)))
	}
	if t.Stream != "" {
		span.SetAttributes(
			semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess, semconv.MessagingConsumerGroupName(t.Function),
			keyStream.String(t.Stream), keyAggregate.String(clip(envelope.Aggregate(t.Header))),
			keyPosition.Int64(int64(t.Position)), keyDeliveries.Int64(int64(t.Deliveries))) //nolint:gosec // far from the end of both
	}
}

// Batch implements host.Observer. A batch has a trace of its own, and links to
// and from the spans of its events, each of which is in its order's trace.
func (o *observer) Batch(ctx context.Context, events []host.Observation) (context.Context, func(error)) {
	if len(events) == 1 {
		return events[0].Context(ctx), func(error) {}
	}
	var spans []trace.Span
	var links []trace.Link
	for _, e := range events {
		if n, ok := e.(*observation); ok && n.span.IsRecording() {
			spans, links = append(spans, n.span), append(links, trace.Link{SpanContext: n.span.SpanContext()})
		}
	}
	if len(spans) == 0 {
		return ctx, func(error) {}
	}
	ctx, batch := o.tracer.Start(ctx, "process batch", trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...),
		trace.WithAttributes(system, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
			semconv.MessagingBatchMessageCount(len(events))))
	for _, s := range spans {
		s.AddLink(trace.Link{SpanContext: batch.SpanContext()})
	}
	return ctx, func(err error) { end(batch, err) }
}

// observation is one message.
type observation struct {
	door    *door // may be nil
	span    trace.Span
	event   bool
	begun   bool
	settled bool
}

// Context implements host.Observation.
func (n *observation) Context(ctx context.Context) context.Context {
	if !n.span.SpanContext().IsValid() {
		return ctx
	}
	return trace.ContextWithSpan(ctx, n.span)
}

// Traceparent implements host.Observation.
func (n *observation) Traceparent() string {
	if !n.span.SpanContext().IsValid() {
		return ""
	}
	return traceparent(n.span.SpanContext())
}

// Begin implements host.Observation.
func (n *observation) Begin() {
	if n.begun {
		return
	}
	n.begun = true
	if n.door != nil {
		n.door.waiting.Dec()
		n.door.inFlight.Inc()
	}
}

// Settle implements host.Observation.
func (n *observation) Settle(outcome string, took time.Duration, err error) {
	n.settled = true
	if n.door != nil {
		n.door.outcomes.WithLabelValues(outcome).Inc()
		n.door.durations.Observe(took.Seconds())
	}
	if !n.span.IsRecording() {
		return
	}
	n.span.SetAttributes(keyOutcome.String(outcome))
	if err != nil && (n.event || isOurs(outcome)) {
		fail(n.span, outcome, err)
	}
}

// isOurs tells whether a request's code says that it is not the caller's fault.
func isOurs(code string) bool {
	n, err := strconv.Atoi(code)
	return err != nil || n >= int(function.CodeInternal)
}

// Buried implements host.Observation.
func (n *observation) Buried(letter, reason string) {
	if n.door != nil {
		n.door.buried.WithLabelValues(reason).Inc()
	}
	n.span.AddEvent("dead letter", trace.WithAttributes(keyLetter.String(letter), keyReason.String(reason)))
}

// End implements host.Observation.
func (n *observation) End() {
	if n.door != nil {
		if n.begun {
			n.door.inFlight.Dec()
		} else {
			n.door.waiting.Dec()
		}
	}
	if !n.settled && n.span.IsRecording() {
		n.span.SetAttributes(keyOutcome.String(function.GivenBack.String()))
	}
	n.span.End()
}

func end(span trace.Span, err error) {
	if err != nil {
		fail(span, "", err)
	}
	span.End()
}

// fail marks a span. kind is one of a few words.
func fail(span trace.Span, kind string, err error) {
	if kind == "" {
		kind = "_OTHER"
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, clip(err.Error()))
}

// clip bounds a text that comes from outside, and keeps out of it what a
// collector would refuse all else for.
func clip(s string) string {
	if len(s) > maxContext {
		s = s[:maxContext]
	}
	return strings.ToValidUTF8(s, "")
}
