package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// receiver is a collector that keeps what it gets.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu       sync.Mutex
	spans    []*otlp.Span
	services map[string]bool // name and version, as they were told
}

// Export implements the service.
func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		r.services[text(rs.GetResource().GetAttributes(), "service.name")+" "+text(rs.GetResource().GetAttributes(), "service.version")] = true
		for _, ss := range rs.GetScopeSpans() {
			r.spans = append(r.spans, ss.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP is Export over HTTP.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var got collector.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &got) != nil {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	_, _ = r.Export(req.Context(), &got) // it keeps all
}

func text(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// collectGRPC and collectHTTP start a receiver, and answer what it is set with.
func collectGRPC(t *testing.T) (*receiver, []string) {
	t.Helper()
	r := &receiver{services: map[string]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return r, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_BSP_SCHEDULE_DELAY=50"}
}

func collectHTTP(t *testing.T) (*receiver, []string) {
	t.Helper()
	r := &receiver{services: map[string]bool{}}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return r, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.URL, "OTEL_BSP_SCHEDULE_DELAY=50"}
}

const (
	traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersID = "00f067aa0ba902b7"
)

// placeTraced places an order as a caller does that has a trace.
func placeTraced(t *testing.T, nc *nats.Conn, id string) {
	t.Helper()
	m := nats.NewMsg("orders.place")
	m.Header.Set("traceparent", "00-"+traceID+"-"+callersID+"-01")
	m.Data = fmt.Appendf(nil, `{"order_id":%q,"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`, id)
	if _, err := nc.RequestMsg(m, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// paths are the caller's trace: each span as the way to it, shortened.
func (r *receiver) paths() (paths []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byID := map[string]*otlp.Span{}
	for _, s := range r.spans {
		if hex.EncodeToString(s.GetTraceId()) == traceID {
			byID[hex.EncodeToString(s.GetSpanId())] = s
		}
	}
	for _, s := range byID {
		path, read := "", false
		for s != nil {
			kind := strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_"))
			read = read || strings.HasSuffix(s.GetName(), "/ReadAggregate")
			step := kind + " " + s.GetName()
			if f := text(s.GetAttributes(), "waybill.function"); f != "" {
				step += " by " + f
			}
			path = " > " + step + path
			parent := hex.EncodeToString(s.GetParentSpanId())
			if s = byID[parent]; s == nil && parent != callersID {
				path = " > nobody" + path
			}
		}
		if !read { // who needs to read depends on who was faster
			paths = append(paths, strings.TrimPrefix(path, " > "))
		}
	}
	slices.Sort(paths)
	return paths
}

// orderTrace is what the trace of an order is to be. In the event's context, which
// is that of the append, are the relay and each function that handles the event.
func orderTrace(appends string, facade bool) (want []string) {
	at := "server orders.place by placeorder"
	want = []string{at}
	for _, hop := range [][2]string{{"created", "payment"}, {"paymentdebited", "review"}, {"approved", "shipping"}, {"shipped", ""}} {
		at += " > " + appends
		want = append(want, at, at+" > producer send ORDERS."+hop[0],
			at+" > consumer process ORDERS."+hop[0]+" by orderview", at+" > consumer process ORDERS."+hop[0]+" by saga")
		if facade {
			want = append(want, at+" > server append ORDERS")
		}
		if hop[1] != "" {
			at += " > consumer process ORDERS." + hop[0] + " by " + hop[1]
			want = append(want, at)
		}
		if hop[1] == "payment" {
			debit := at + " > " + strings.Replace(appends, "ORDERS", "ACCOUNTS", 1)
			want = append(want, debit, debit+" > producer send ACCOUNTS.debited")
			if facade {
				want = append(want, debit+" > server append ACCOUNTS")
			}
		}
	}
	slices.Sort(want)
	return want
}

func (r *receiver) await(t *testing.T, want []string) {
	t.Helper()
	eventually(t, "have the trace", func() error {
		if got := r.paths(); !slices.Equal(got, want) {
			return fmt.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	})
}

// TestOneTraceInOneProcess follows an order by its trace, and looks for it in the
// metrics too.
func TestOneTraceInOneProcess(t *testing.T) {
	r, env := collectHTTP(t)
	s := newSystem(t)
	listen := freePort(t)
	up := s.start("up", append(env, "METRICS_LISTEN="+listen)...).ready()
	nc := s.connect()
	placeTraced(t, nc, "o1")
	get(t, nc, "o1", "Shipped")
	r.await(t, orderTrace("internal append ORDERS", false))
	if !r.services["waybill 0.1.0"] {
		t.Errorf("it is told by %v", r.services)
	}
	_, text := status(t, "http://"+listen+"/metrics")
	for _, line := range []string{
		`waybill_requests_total{code="200",door="orders.place",function="placeorder"} 1`,
		`waybill_events_total{door="ORDERS.created",function="payment",outcome="handled"} 1`,
		`waybill_events_total{door="ORDERS.>",function="orderview",outcome="handled"} 4`,
		`waybill_events_in_flight{door="ORDERS.>",function="orderview"} 0`,
		`waybill_appends_total{outcome="stored",stream="ORDERS"} 4`,
		`waybill_appends_total{outcome="stored",stream="ACCOUNTS"} 1`,
		`waybill_events_total{door="TIMERS.saga",function="saga",outcome="failed"} 0`,
		`waybill_requests_total{code="500",door="eventstore.refill",function="eventstore"} 0`,
		`waybill_commit_appends_total 5`, `waybill_append_events_total{stream="ORDERS",type="approved"} 1`, `waybill_append_events_total{stream="ORDERS",type="overdue"} 0`,
		`waybill_consumer_stopped{function="payment",stream="ORDERS"} 0`, `waybill_consumer_stopped{function="saga",stream="TIMERS"} 0`,
		`waybill_relay_leading 1`, `waybill_relay_position{stream="ORDERS"} 4`, `waybill_relay_lag_events{stream="ORDERS"} 0`,
		`waybill_nats_connected 1`, `waybill_nats_disconnects_total 0`, `waybill_spans_lost_total{reason="queue_full"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics have no %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	eventually(t, "tell that nothing waits", func() error {
		if _, text := status(t, "http://"+listen+"/metrics"); !strings.Contains(text, `waybill_consumer_lag_events{function="payment",stream="ORDERS"} 0`+"\n") {
			return fmt.Errorf("the metrics are %s", text)
		}
		return nil
	})
	if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := up.ended(); code != 0 {
		t.Fatalf("ended with %d: %s", code, up.out.String())
	}
}

// TestAFunctionThatNeverRanIsToldOf by the event store's metrics and by ls, while
// an order waits for it.
func TestAFunctionThatNeverRanIsToldOf(t *testing.T) {
	s := newSystem(t)
	server, listen := natstest.Start(t), freePort(t)
	s.env = append(s.env, "NATS_URL="+server.URL())
	s.start("run eventstore placeorder", "METRICS_LISTEN="+listen).ready()
	if _, err := place(server.Connect(), "o1", "200"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "tell what waits", func() error {
		_, text := status(t, "http://"+listen+"/metrics")
		for _, line := range []string{
			`waybill_consumer_lag_events{function="payment",stream="ORDERS"} 1`, `waybill_consumer_lag_events{function="shipping",stream="ORDERS"} 0`,
		} {
			if !strings.Contains(text, line+"\n") {
				return fmt.Errorf("no %s in %s", line, text)
			}
		}
		return nil
	})
	code, out := s.command("ls")
	if code != 1 || !strings.Contains(out, "payment does not run, and never did, and events wait for it: 1\n") || strings.Contains(out, "shipping does not run, and") {
		t.Errorf("ls ends with %d and says\n%s", code, out)
	}
}

// TestOneTraceOverProcesses has each function in a process of its own, and ends
// them at once: what they have not sent yet they send at their end.
func TestOneTraceOverProcesses(t *testing.T) {
	r, env := collectGRPC(t)
	s := newSystem(t)
	server := natstest.Start(t)
	s.env = append(append(s.env, env...), "NATS_URL="+server.URL(), "OTEL_BSP_SCHEDULE_DELAY=600000")
	var all []*process
	for _, name := range []string{"eventstore", "placeorder", "payment", "review", "shipping", "saga", "orderview orderquery"} {
		all = append(all, s.start("run "+name).ready())
	}
	nc := server.Connect()
	for i := range 20 { // by then appends share a call
		if _, err := place(nc, fmt.Sprintf("before%d", i), "200"); err != nil {
			t.Fatal(err)
		}
	}
	get(t, nc, "before19", "Shipped")
	placeTraced(t, nc, "o1")
	get(t, nc, "o1", "Shipped")
	if got := r.paths(); len(got) > 0 {
		t.Fatalf("sent already: %v", got)
	}
	for _, p := range slices.Backward(all) {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := p.ended(); code != 0 {
			t.Errorf("ended with %d: %s", code, p.out.String())
		}
	}
	r.await(t, orderTrace("client append ORDERS", true))
}

// TestATraceIsCarriedOn by events when nobody here looks at it.
func TestATraceIsCarriedOn(t *testing.T) {
	s := newSystem(t)
	s.start("up", "OTEL_SDK_DISABLED=true").ready()
	nc := s.connect()
	sub, err := nc.SubscribeSync("ORDERS.>")
	if err != nil {
		t.Fatal(err)
	}
	placeTraced(t, nc, "o1")
	for _, typ := range []string{"created", "paymentdebited", "approved", "shipped"} {
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get("traceparent"); m.Subject != "ORDERS."+typ || got != "00-"+traceID+"-"+callersID+"-01" {
			t.Errorf("%s carries %q", m.Subject, got)
		}
	}
}

// TestACollectorThatHangs stops no order, and no end of the process.
func TestACollectorThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := newSystem(t)
	listen := freePort(t)
	up := s.start("up", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+l.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=10",
		"OTEL_BSP_MAX_QUEUE_SIZE=16", "METRICS_LISTEN="+listen).ready()
	nc := s.connect()
	for i := range 40 {
		if _, err := place(nc, fmt.Sprintf("o%d", i), "200"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		get(t, nc, fmt.Sprintf("o%d", i), "Shipped")
	}
	_, text := status(t, "http://"+listen+"/metrics")
	if !strings.Contains(text, "waybill_spans_waiting 16\n") || strings.Contains(text, `waybill_spans_lost_total{reason="queue_full"} 0`+"\n") {
		t.Errorf("no span was dropped: %s", text)
	}
	asked := time.Now()
	if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := up.ended(); code != 0 || !strings.Contains(up.out.String(), "traces were lost") {
		t.Errorf("ended with %d: %s", code, up.out.String())
	}
	if took := time.Since(asked); took > 15*time.Second {
		t.Errorf("it took %v to end", took)
	}
}
