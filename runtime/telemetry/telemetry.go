// Package telemetry tells the outside what a process does: OpenTelemetry traces
// to a collector, and metrics for Prometheus.
//
//	observer.go    the doors of functions: spans, counts, durations
//	store.go       appends
//	relay.go       what the relay sends to JetStream
//	sources.go     what is asked for when somebody looks: relay, dead letters, commits
//	connection.go  the connection to NATS
//	metrics.go     names and units of all that is counted
//	traces.go      the exporter, and what is lost on its way
//	log.go         the trace's id in the log
//
// One trace follows an order: its context comes with a request in traceparent, is
// stored with each event that is appended under it, and stands in the event's
// header on NATS.
//
//	orders.place                  server, the request
//	└ append ORDERS               client or internal; its context is the event's
//	  ├ append ORDERS             server, at the event store, when it is elsewhere
//	  ├ send ORDERS.created       producer, the relay
//	  └ process ORDERS.created    consumer, one for each function
//	    └ append ORDERS           and so on
//
// Traces are off unless OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry's
// own variables hold for them: like it, this reads them from the process's
// environment. What is off costs nothing. A collector that is away or hangs
// stops nothing: spans for which there is no room are dropped and counted.
package telemetry

import (
	"context"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/waybill-go/waybill/runtime/host"
)

// Options say who tells, and what is wanted.
type Options struct {
	// Program is the traces' service.name, unless OTEL_SERVICE_NAME says another.
	Program, Release string
	// Functions are those that the process runs.
	Functions []string
	// Metrics says that somebody asks for metrics.
	Metrics bool
	// Connection is what happened to the process's connection to NATS.
	Connection *Connection
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Telemetry is what one process tells. Close it last.
type Telemetry struct {
	metrics *metrics     // nil: nobody asks
	traces  *traces      // nil: off
	tracer  trace.Tracer // nil: off
}

// Open begins to tell. An error names the OTEL_ variable that is wrong; that the
// collector is away is none.
func Open(ctx context.Context, o Options) (*Telemetry, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	t := &Telemetry{}
	var err error
	if t.traces, err = openTraces(ctx, o); err != nil {
		return nil, err
	}
	if t.traces != nil {
		t.tracer = t.traces.provider.Tracer(scope, trace.WithInstrumentationVersion(o.Release))
	}
	if o.Metrics {
		t.metrics = newMetrics(o, t.traces)
	}
	return t, nil
}

const scope = "github.com/waybill-go/waybill"

// Close sends what is left to the collector, for as long as ctx and a few
// seconds allow. What could not be sent is lost, and an error says so.
func (t *Telemetry) Close(ctx context.Context) error {
	if t.traces == nil {
		return nil
	}
	return t.traces.close(ctx)
}

// Handler answers with the metrics; nil when nobody asks for them.
func (t *Telemetry) Handler() http.Handler {
	if t.metrics == nil {
		return nil
	}
	return t.metrics.handler()
}

// Observer watches functions' doors; nil when all is off.
func (t *Telemetry) Observer() host.Observer {
	if t.metrics == nil && t.tracer == nil {
		return nil
	}
	return &observer{metrics: t.metrics, tracer: t.tracer}
}

// DialOptions have the calls of an event store in the caller's trace; none when
// traces are off.
func (t *Telemetry) DialOptions() []grpc.DialOption {
	if t.traces == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(t.traces.grpc()...))}
}

// ServerOptions are the same at the event store.
func (t *Telemetry) ServerOptions() []grpc.ServerOption {
	if t.traces == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(t.traces.grpc()...))}
}

// grpc traces the reading of an aggregate. An append is traced by its events,
// since many share one call; and a stream that is followed has no end.
func (t *traces) grpc() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagator),
		otelgrpc.WithFilter(func(call *stats.RPCTagInfo) bool { return call.FullMethodName == readAggregate }),
	}
}
