package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-go/waybill/eventstore"
)

// Backend is an event store of this process. Its appends are counted, and are in
// the trace of whoever appends, here or over gRPC.
func (t *Telemetry) Backend(b eventstore.Backend) eventstore.Backend {
	if t.metrics == nil && t.tracer == nil {
		return b
	}
	return backend{b, appends{tracer: t.tracer, metrics: t.metrics, kind: trace.SpanKindInternal}}
}

type backend struct {
	eventstore.Backend
	appends
}

// Append implements eventstore.Store.
func (b backend) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return b.do(ctx, b.Backend, a)
}

// Client is an event store elsewhere.
func (t *Telemetry) Client(s eventstore.Store) eventstore.Store {
	if t.tracer == nil {
		return s
	}
	return client{s, appends{tracer: t.tracer, kind: trace.SpanKindClient}}
}

type client struct {
	eventstore.Store
	appends
}

// Append implements eventstore.Store.
func (c client) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return c.do(ctx, c.Store, a)
}

// appends are watched.
type appends struct {
	tracer  trace.Tracer // may be nil
	metrics *metrics     // may be nil
	kind    trace.SpanKind
}

func (w appends) do(ctx context.Context, to eventstore.Store, a eventstore.Append) (eventstore.Appended, error) {
	began := time.Now()
	ctx, span := w.begin(ctx, &a)
	done, err := to.Append(ctx, a)
	outcome := outcomeOf(done, err)
	if w.metrics != nil {
		w.metrics.appended(a.Stream, outcome, time.Since(began))
		if outcome == outcomeStored {
			w.metrics.stored(a.Stream, done.Events)
		}
	}
	if span == nil {
		return done, err
	}
	defer span.End()
	if !span.IsRecording() {
		return done, err
	}
	span.SetAttributes(keyOutcome.String(outcome))
	switch {
	case err == nil && len(done.Events) > 0:
		span.SetAttributes(keyPosition.Int64(int64(done.Events[0].Position))) //nolint:gosec // far from its end
	case err != nil && outcome != outcomeConflict: // that one is in the course of things
		fail(span, outcome, err)
	}
	return done, err
}

// begin begins the append's span, and has the events carry its context. An append
// of a caller elsewhere came with the context of its own; it is stored as it
// came, since the caller takes it for stored so. Who appends under no trace gets
// none; it answers nil then.
func (w appends) begin(ctx context.Context, a *eventstore.Append) (context.Context, trace.Span) {
	if w.tracer == nil || len(a.Events) == 0 {
		return ctx, nil
	}
	caller, kind := trace.SpanContextFromContext(ctx), w.kind
	here := caller.IsValid() && !caller.IsRemote()
	if !here {
		parent := contextOf(a.Events[0].Traceparent)
		if !parent.IsValid() {
			return ctx, nil
		}
		ctx, kind = trace.ContextWithRemoteSpanContext(ctx, parent), trace.SpanKindServer
	}
	ctx, span := w.tracer.Start(ctx, "append "+clip(a.Stream), trace.WithSpanKind(kind))
	if span.IsRecording() {
		span.SetAttributes(keyStream.String(clip(a.Stream)), keyAggregate.String(clip(a.Aggregate)))
	}
	if here {
		own := traceparent(span.SpanContext())
		a.Events = slices.Clone(a.Events) // the caller's stay as they are
		for i := range a.Events {
			a.Events[i].Traceparent = own
		}
	}
	return ctx, span
}

// The outcomes of an append.
const (
	outcomeStored      = "stored"
	outcomeRepeated    = "repeated"
	outcomeConflict    = "conflict"
	outcomeInvalid     = "invalid"
	outcomeOverloaded  = "overloaded"
	outcomeUnavailable = "unavailable"
	outcomeFailed      = "failed"
)

func outcomeOf(done eventstore.Appended, err error) string {
	var (
		conflict *eventstore.ConflictError
		invalid  *eventstore.InvalidError
		taken    *eventstore.IDError
	)
	switch {
	case err == nil && done.Duplicate:
		return outcomeRepeated
	case err == nil:
		return outcomeStored
	case errors.As(err, &conflict):
		return outcomeConflict
	case errors.As(err, &invalid), errors.As(err, &taken):
		return outcomeInvalid
	case errors.Is(err, eventstore.ErrOverloaded):
		return outcomeOverloaded
	case errors.Is(err, eventstore.ErrUnavailable):
		return outcomeUnavailable
	default:
		return outcomeFailed
	}
}

// contextOf reads a traceparent; what is none is not valid.
func contextOf(traceparent string) trace.SpanContext {
	if len(traceparent) > maxContext {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	return trace.SpanContextFromContext(propagator.Extract(context.Background(), carrier))
}

func traceparent(c trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagator.Inject(trace.ContextWithSpanContext(context.Background(), c), carrier)
	return carrier["traceparent"]
}
