package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
	"github.com/waybill-go/waybill/runtime/config"
)

const (
	// flushTime is how long an end waits for a collector.
	flushTime = 5 * time.Second
	// maxContext is the most of a traceparent or tracestate that is looked at.
	maxContext = 512

	readAggregate = pb.EventStore_ReadAggregate_FullMethodName
)

// propagator reads and writes trace contexts after W3C.
var propagator = propagation.TraceContext{}

// traces are on their way to a collector.
type traces struct {
	provider *sdk.TracerProvider
	way      *way
}

// first is the first of the variables that is set, and its value.
func first(variables ...string) (variable, value string) {
	for _, variable = range variables {
		if value = strings.TrimSpace(os.Getenv(variable)); value != "" {
			return variable, value
		}
	}
	return variable, ""
}

// openTraces answers nil when traces are off.
func openTraces(ctx context.Context, o Options) (*traces, error) {
	variable, endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil
	}
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &config.Error{Variable: variable, Value: endpoint, Reason: "is no URL like http://127.0.0.1:4318"}
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		semconv.ServiceName(o.Program), semconv.ServiceVersion(o.Release), semconv.ServiceInstanceID(uuid.NewString()),
		attribute.StringSlice("waybill.functions", o.Functions),
	), resource.WithHost(), resource.WithProcessPID(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process for its traces: %w", err)
	}
	w := newWay(exporter)
	t := &traces{way: w, provider: sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSpanProcessor(w))}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Logger.Warn("traces were not exported", "error", err) }))
	// Functions' own libraries look for the provider there.
	otel.SetTracerProvider(t.provider)
	otel.SetTextMapPropagator(propagator)
	return t, nil
}

func newExporter(ctx context.Context) (sdk.SpanExporter, error) {
	variable, protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	var exporter sdk.SpanExporter
	var err error
	switch protocol {
	case "grpc":
		exporter, err = otlptracegrpc.New(ctx)
	case "", "http/protobuf":
		exporter, err = otlptracehttp.New(ctx)
	default:
		return nil, &config.Error{Variable: variable, Value: protocol, Reason: "is neither grpc nor http/protobuf"}
	}
	if err != nil {
		return nil, fmt.Errorf("export traces: %w", err)
	}
	return exporter, nil
}

func (t *traces) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	defer t.way.end()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("export the last traces: %w", err)
	}
	return nil
}

// way is the way of spans to the collector: the SDK's queue and exporter, and
// before it a bound of the same size, so that what is dropped can be counted.
type way struct {
	sdk.SpanProcessor
	exporter sdk.SpanExporter
	room     int64
	life     context.Context //nolint:containedctx // ends an export that hangs at the end
	end      context.CancelFunc

	inHand                    atomic.Int64
	exported, failed, dropped atomic.Uint64
}

func newWay(exporter sdk.SpanExporter) *way {
	w := &way{exporter: exporter, room: sdk.DefaultMaxQueueSize}
	if n, err := strconv.ParseInt(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE"), 10, 64); err == nil && n > 0 {
		w.room = n
	}
	w.life, w.end = context.WithCancel(context.Background())
	w.SpanProcessor = sdk.NewBatchSpanProcessor((*export)(w), sdk.WithMaxQueueSize(int(w.room)))
	return w
}

// OnEnd implements sdk.SpanProcessor. It never waits.
func (w *way) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if w.inHand.Add(1) > w.room {
		w.inHand.Add(-1)
		w.dropped.Add(1)
		return
	}
	w.SpanProcessor.OnEnd(s)
}

// export is the end of the way.
type export way

// ExportSpans implements sdk.SpanExporter.
func (e *export) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	n := len(spans)
	defer e.inHand.Add(-int64(n))
	err := e.exporter.ExportSpans(ctx, spans)
	if err != nil {
		e.failed.Add(uint64(n))
		return err
	}
	e.exported.Add(uint64(n))
	return nil
}

// Shutdown implements sdk.SpanExporter.
func (e *export) Shutdown(ctx context.Context) error { return e.exporter.Shutdown(ctx) }
