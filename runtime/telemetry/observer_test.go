package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// event is one that was taken at a door, with a trace or without.
func event(traceparent string, n int) host.Taken {
	h := nats.Header{"ce-subject": {"o1"}}
	if traceparent != "" {
		h.Set("traceparent", traceparent)
	}
	return host.Taken{
		Function: "view", Door: "ORDERS.>", Subject: "ORDERS.created", Header: h, At: time.Now(),
		Stream: "ORDERS", Position: 7, Deliveries: uint64(n),
	}
}

func TestEvents(t *testing.T) {
	tel, spans := recorded()
	o := tel.Observer()
	good, bad, back := o.Observe(event(outside, 1)), o.Observe(event(outside, 2)), o.Observe(event("", 1))
	tells(t, scrape(t, tel), `waybill_events_waiting{door="ORDERS.>",function="view"} 3`)
	good.Begin()
	bad.Begin()
	bad.Begin() // it is tried again
	ctx, done := o.Batch(t.Context(), []host.Observation{good, bad})
	done(nil)
	tells(t, scrape(t, tel), `waybill_events_waiting{door="ORDERS.>",function="view"} 1`, `waybill_events_in_flight{door="ORDERS.>",function="view"} 2`)
	good.Settle("handled", time.Millisecond, nil)
	good.End()
	bad.Settle("buried", time.Second, errors.New(strings.Repeat("x", 2*maxContext)))
	bad.Buried("id", "rejected")
	bad.End()
	back.End()
	tells(t, scrape(t, tel),
		`waybill_events_waiting{door="ORDERS.>",function="view"} 0`, `waybill_events_in_flight{door="ORDERS.>",function="view"} 0`,
		`waybill_events_total{door="ORDERS.>",function="view",outcome="handled"} 1`, `waybill_events_total{door="ORDERS.>",function="view",outcome="buried"} 1`,
		`waybill_event_duration_seconds_count{door="ORDERS.>",function="view"} 2`, `waybill_redeliveries_total{door="ORDERS.>",function="view"} 1`,
		`waybill_dead_letters_buried_total{function="view",reason="rejected"} 1`)
	all := spans.Ended()
	if len(all) != 4 {
		t.Fatalf("%d spans", len(all))
	}
	batch, one, two, three := all[0], all[1], all[2], all[3]
	if trace.SpanContextFromContext(ctx).TraceID() != batch.SpanContext().TraceID() || len(batch.Links()) != 2 || batch.Parent().IsValid() {
		t.Errorf("batch %+v", batch)
	}
	if one.Name() != "process ORDERS.created" || one.SpanKind() != trace.SpanKindConsumer || traceparent(one.Parent()) != outside ||
		len(one.Links()) != 1 || one.Status().Code != codes.Unset {
		t.Errorf("handled %+v", one)
	}
	if two.Status().Code != codes.Error || len(two.Status().Description) != maxContext || len(two.Events()) != 1 {
		t.Errorf("buried %+v", two)
	}
	if three.Parent().IsValid() || three.SpanContext().TraceID() == one.SpanContext().TraceID() {
		t.Errorf("given back %+v", three)
	}
}

// TestSpansAreText: one that is not has a collector refuse all that come with it.
func TestSpansAreText(t *testing.T) {
	tel, spans := recorded()
	taken := event(outside, 1)
	taken.Header.Set(nats.MsgIdHdr, "\xff")
	taken.Header.Set("ce-subject", "o\xff")
	for _, text := range []string{strings.Repeat("x", maxContext-1) + "é", "bad byte \xff"} {
		n := tel.Observer().Observe(taken)
		n.Settle("failed", time.Millisecond, errors.New(text))
		n.End()
	}
	for _, s := range spans.Ended() {
		if said := fmt.Sprint(s.Name(), s.Status().Description, s.Attributes()); !utf8.ValidString(said) {
			t.Errorf("%q", said)
		}
	}
}

func TestRequests(t *testing.T) {
	tel, spans := recorded()
	o := tel.Observer()
	for code, want := range map[string]codes.Code{"200": codes.Unset, "404": codes.Unset, "500": codes.Error, "503": codes.Error} {
		n := o.Observe(host.Taken{Function: "f", Door: "orders.place", Subject: "orders.place", At: time.Now(),
			Header: nats.Header{"traceparent": {outside}, "tracestate": {strings.Repeat("a=b,", 200)}}})
		n.Begin()
		var err error
		if code != "200" {
			err = errors.New("no")
		}
		n.Settle(code, time.Millisecond, err)
		n.End()
		all := spans.Ended()
		if s := all[len(all)-1]; s.Name() != "orders.place" || s.SpanKind() != trace.SpanKindServer || s.Status().Code != want || s.SpanContext().TraceState().Len() > 0 {
			t.Errorf("%s: %+v", code, s)
		}
		tells(t, scrape(t, tel), `waybill_requests_total{code="`+code+`",door="orders.place",function="f"} 1`)
	}
}

// TestDoorsBeginAtZero: an alert on a rate would miss what begins at 1.
func TestDoorsBeginAtZero(t *testing.T) {
	tel, _ := recorded()
	tel.Doors(function.Function{Name: "view", Doors: []function.Door{
		function.Project("ORDERS", nil), function.Endpoint("orders.get", func(context.Context, string) (int, error) { return 0, nil }),
	}})
	tel.Doors(function.Function{Name: "end", Doors: []function.Door{
		&function.Event{Stream: "ORDERS", Type: "cancelled"}, &function.Event{Stream: "ORDERS", Type: "rejected"},
	}})
	text := scrape(t, tel)
	tells(t, text, `waybill_events_total{door="ORDERS.cancelled",function="end",outcome="failed"} 0`, `waybill_events_total{door="ORDERS.rejected",function="end",outcome="failed"} 0`)
	tells(t, text, `waybill_events_total{door="ORDERS.>",function="view",outcome="failed"} 0`, `waybill_events_total{door="ORDERS.>",function="view",outcome="buried"} 0`)
	for _, code := range []string{"429", "500", "503"} {
		tells(t, text, `waybill_requests_total{code="`+code+`",door="orders.get",function="view"} 0`)
	}
	n := tel.Observer().Observe(event("", 1)) // it is the same door
	n.Settle("failed", time.Millisecond, errors.New("no"))
	n.End()
	tells(t, scrape(t, tel), `waybill_events_total{door="ORDERS.>",function="view",outcome="failed"} 1`)
	tel.Observer().Door("gateway", "POST /api/orders") // as it is asked for when it opens
	tells(t, scrape(t, tel), `waybill_requests_total{code="503",door="POST /api/orders",function="gateway"} 0`)
	(&Telemetry{}).Doors(function.Function{}) // nobody asks
}

// BenchmarkEvent is what one event costs that is watched.
func BenchmarkEvent(b *testing.B) {
	exporter := tracetest.NewNoopExporter()
	for _, c := range []struct {
		name        string
		metrics     bool
		traceparent string
	}{{"metrics", true, ""}, {"not sampled", false, strings.TrimSuffix(outside, "1") + "0"}, {"sampled", false, outside}} {
		b.Run(c.name, func(b *testing.B) {
			tel := &Telemetry{}
			if c.metrics {
				tel.metrics = newMetrics(Options{}, nil)
			} else {
				provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))
				defer func() { _ = provider.Shutdown(context.Background()) }()
				tel.tracer = provider.Tracer(scope)
			}
			o, e := tel.Observer(), event(c.traceparent, 1)
			b.ReportAllocs()
			for b.Loop() {
				n := o.Observe(e)
				n.Begin()
				n.Settle("handled", time.Millisecond, nil)
				n.End()
			}
		})
	}
}
