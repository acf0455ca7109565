package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded is telemetry whose spans stay here.
func recorded() (*Telemetry, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(r))
	return &Telemetry{metrics: newMetrics(Options{}, nil), tracer: provider.Tracer(scope)}, r
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func tells(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics have no %s in\n%s", line, text)
		}
	}
}

const outside = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestStoresKeepTheirPromises runs the suite of all stores on watched ones.
func TestStoresKeepTheirPromises(t *testing.T) {
	open := func(t *testing.T) eventstore.Backend {
		tel, _ := recorded()
		s := memory.New()
		t.Cleanup(func() { _ = s.Close() })
		return tel.Backend(s)
	}
	storetest.Run(t, func(t *testing.T) eventstore.Store {
		tel, _ := recorded()
		return tel.Client(open(t))
	})
	storetest.RunBackend(t, open)
}

func TestAppendsCarryTheirTrace(t *testing.T) {
	tel, spans := recorded()
	memory := memory.New()
	defer func() { _ = memory.Close() }()
	store := tel.Backend(memory)
	under := func(traceparent string) context.Context {
		return trace.ContextWithRemoteSpanContext(t.Context(), contextOf(traceparent))
	}
	local, parent := tel.tracer.Start(under(outside), "handler")
	for _, c := range []struct {
		name   string
		ctx    context.Context
		before string
		kind   trace.SpanKind // 0: no span
		stored string         // "": the span's own
	}{
		{"in a handler", local, outside, trace.SpanKindInternal, ""},
		{"of a caller elsewhere", t.Context(), outside, trace.SpanKindServer, outside},
		{"of a caller elsewhere, whose call is traced too", under("00-" + strings.Repeat("ab", 16) + "-00f067aa0ba902b7-01"), outside, trace.SpanKindServer, outside},
		{"under no trace", t.Context(), "", 0, "-"},
		{"under what is none", t.Context(), "00-xyz", 0, "00-xyz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := storetest.Event("happened", `{}`)
			e.Traceparent = c.before
			n := len(spans.Ended())
			events := []eventstore.Event{e}
			done, err := store.Append(c.ctx, eventstore.Append{Stream: "ORDERS", Aggregate: e.ID, Expected: eventstore.New, Events: events})
			if err != nil {
				t.Fatal(err)
			}
			if events[0].Traceparent != c.before {
				t.Error("the caller's events were changed")
			}
			new, want := spans.Ended()[n:], strings.TrimPrefix(c.stored, "-")
			if c.kind == 0 {
				if len(new) > 0 {
					t.Fatalf("spans %v", new)
				}
			} else {
				if len(new) != 1 || new[0].SpanKind() != c.kind || new[0].Name() != "append ORDERS" || new[0].SpanContext().TraceID() != parent.SpanContext().TraceID() {
					t.Fatalf("spans %+v", new)
				}
				if want == "" {
					want = traceparent(new[0].SpanContext())
				}
			}
			if got := done.Events[0].Traceparent; got != want {
				t.Errorf("stored under %q, want %q", got, want)
			}
		})
	}
	parent.End()
	if _, err := store.Append(t.Context(), eventstore.Append{Stream: "made up"}); err == nil {
		t.Error("no error")
	}
	tells(t, scrape(t, tel), `waybill_appends_total{outcome="stored",stream="ORDERS"} 5`, `waybill_appends_total{outcome="invalid",stream="other"} 1`)
}

// TestEventsAreCountedByType, from 0 on where a function takes them, and a bounded
// number of types.
func TestEventsAreCountedByType(t *testing.T) {
	tel, _ := recorded()
	tel.Types(function.Function{Doors: []function.Door{&function.Event{Stream: "ORDERS", Type: "overdue"}}})
	memory := memory.New()
	defer func() { _ = memory.Close() }()
	store := tel.Backend(memory)
	tells(t, scrape(t, tel), `waybill_append_events_total{stream="ORDERS",type="overdue"} 0`)
	add := func(a eventstore.Append) {
		t.Helper()
		if _, err := store.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	two := eventstore.Append{Stream: "ORDERS", Aggregate: "o1", Expected: eventstore.New, Events: []eventstore.Event{
		storetest.Event("created", `{}`), storetest.Event("overdue", `{}`),
	}}
	add(two)
	add(two) // it is stored already
	for i := range maxTypes {
		add(eventstore.Append{Stream: "MANY", Aggregate: "m", Expected: eventstore.Any, Events: []eventstore.Event{storetest.Event(fmt.Sprint("t", i), `{}`)}})
	}
	text := scrape(t, tel)
	tells(t, text, `waybill_append_events_total{stream="ORDERS",type="overdue"} 1`, `waybill_append_events_total{stream="ORDERS",type="created"} 1`,
		`waybill_append_events_total{stream="MANY",type="t0"} 1`, `waybill_append_events_total{stream="other",type="other"} 2`)
	if n := strings.Count(text, "\nwaybill_append_events_total{"); n != maxTypes+1 {
		t.Errorf("%d types are told apart", n)
	}
}

func TestConsumersAreTold(t *testing.T) {
	tel, _ := recorded()
	problem := ""
	tel.Consumer("payment", func() map[string]string { return map[string]string{"ORDERS": problem} })
	tel.Relay(func() (bool, []RelayedStream) {
		return true, []RelayedStream{{Name: "ORDERS", Lag: map[string]uint64{"payment": 3, "review": 0}}}
	})
	tells(t, scrape(t, tel), `waybill_consumer_stopped{function="payment",stream="ORDERS"} 0`,
		`waybill_consumer_lag_events{function="payment",stream="ORDERS"} 3`, `waybill_consumer_lag_events{function="review",stream="ORDERS"} 0`)
	problem = "1 in hand wait: the provider is away"
	tells(t, scrape(t, tel), `waybill_consumer_stopped{function="payment",stream="ORDERS"} 1`)
}

func TestOutcomeOfAnAppend(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, outcomeStored},
		{&eventstore.ConflictError{}, outcomeConflict},
		{&eventstore.InvalidError{}, outcomeInvalid},
		{&eventstore.IDError{}, outcomeInvalid},
		{fmt.Errorf("x: %w", eventstore.ErrOverloaded), outcomeOverloaded},
		{fmt.Errorf("x: %w", eventstore.ErrUnavailable), outcomeUnavailable},
		{context.Canceled, outcomeFailed},
	} {
		if got := outcomeOf(eventstore.Appended{}, c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
	if got := outcomeOf(eventstore.Appended{Duplicate: true}, nil); got != outcomeRepeated {
		t.Errorf("a repeat: %s", got)
	}
}

func TestRelayedEventsOfASampledTrace(t *testing.T) {
	tel, spans := recorded()
	sent := time.Now().Add(-time.Second)
	for traceparent, want := range map[string]int{outside: 1, strings.TrimSuffix(outside, "1") + "0": 0, "": 0, "x1": 0} {
		before := len(spans.Ended())
		tel.Relayed()(eventstore.Event{Stream: "ORDERS", Type: "created", ID: "e", Traceparent: traceparent}, sent)
		all := spans.Ended()[before:]
		if len(all) != want {
			t.Errorf("%q: %d spans", traceparent, len(all))
		}
		if want == 1 && (all[0].Name() != "send ORDERS.created" || !all[0].StartTime().Equal(sent) || all[0].SpanKind() != trace.SpanKindProducer) {
			t.Errorf("%+v", all[0])
		}
	}
}

// hanging is an exporter that answers when its context ends.
type hanging struct{ calls atomic.Int32 }

func (h *hanging) ExportSpans(ctx context.Context, _ []sdk.ReadOnlySpan) error {
	h.calls.Add(1)
	<-ctx.Done()
	return ctx.Err()
}
func (*hanging) Shutdown(context.Context) error { return nil }

func TestAnExporterThatHangsHoldsNobodyUp(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
	w := newWay(&hanging{})
	tr := &traces{way: w, provider: sdk.NewTracerProvider(sdk.WithSpanProcessor(w))}
	tracer := tr.provider.Tracer("test")
	for range 100 {
		_, s := tracer.Start(t.Context(), "s")
		s.End()
	}
	if w.inHand.Load() != 8 || w.dropped.Load() != 92 {
		t.Errorf("%d in hand, %d dropped", w.inHand.Load(), w.dropped.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tr.close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); w.failed.Load() != 8 || w.inHand.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d failed, %d in hand", w.failed.Load(), w.inHand.Load())
		}
	}
}

func TestWhenTracesAreOn(t *testing.T) {
	const endpoint, all = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED OTEL_TRACES_EXPORTER OTEL_EXPORTER_OTLP_PROTOCOL OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for _, c := range []struct {
		name, env string
		on        bool
		wrong     string
	}{
		{"by default", "", false, ""},
		{"with an endpoint", endpoint + "=http://127.0.0.1:1", true, ""},
		{"with an endpoint for traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c.example:4318/v1/traces", true, ""},
		{"over gRPC", endpoint + "=http://127.0.0.1:1 OTEL_EXPORTER_OTLP_PROTOCOL=grpc", true, ""},
		{"disabled", endpoint + "=http://127.0.0.1:1 OTEL_SDK_DISABLED=TRUE", false, ""},
		{"to nobody", endpoint + "=http://127.0.0.1:1 OTEL_TRACES_EXPORTER=none", false, ""},
		{"to no URL", endpoint + "=127.0.0.1:4317", false, endpoint},
		{"over something else", endpoint + "=http://127.0.0.1:1 OTEL_EXPORTER_OTLP_PROTOCOL=http/json", false, "OTEL_EXPORTER_OTLP_PROTOCOL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range strings.Fields(all + " " + endpoint) {
				t.Setenv(name, "")
			}
			for _, set := range strings.Fields(c.env) {
				name, value, _ := strings.Cut(set, "=")
				t.Setenv(name, value)
			}
			tel, err := Open(t.Context(), Options{Program: "p", Release: "1.0.0", Logger: slog.New(slog.DiscardHandler)})
			if bad, ok := errors.AsType[*config.Error](err); ok != (c.wrong != "") || ok && bad.Variable != c.wrong {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			if on := tel.Observer() != nil; on != c.on || on != (tel.Relayed() != nil) || on != (len(tel.DialOptions())+len(tel.ServerOptions()) == 2) {
				t.Errorf("on: %v", on)
			}
			s := memory.New()
			defer func() { _ = s.Close() }()
			if !c.on && (tel.Client(s) != eventstore.Store(s) || tel.Backend(s) != eventstore.Backend(s) || tel.Handler() != nil) {
				t.Error("what is off is in the way")
			}
			if err := tel.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogsNameTheTrace(t *testing.T) {
	var out strings.Builder
	log := slog.New(Logs(slog.NewTextHandler(&out, nil))).With("function", "payment").WithGroup("g")
	log.InfoContext(trace.ContextWithSpanContext(t.Context(), contextOf(outside)), "of a trace")
	if !strings.Contains(out.String(), "trace_id=4bf92f3577b34da6a3ce929d0e0e4736") || !strings.Contains(out.String(), "function=payment") {
		t.Error(out.String())
	}
	out.Reset()
	log.InfoContext(t.Context(), "of none")
	if strings.Contains(out.String(), "trace_id") {
		t.Error(out.String())
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(outside)
	f.Add("00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01")
	f.Fuzz(func(t *testing.T, s string) {
		c := contextOf(s)
		if !c.IsValid() {
			return
		}
		if again := contextOf(traceparent(c)); !again.Equal(c) {
			t.Errorf("%q is %v, and that %v", s, c, again)
		}
	})
}
