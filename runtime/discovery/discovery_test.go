package discovery_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// TestEndpointsHaveNamesOfTheirOwn: orders.get and accounts.get are both a get.
func TestEndpointsHaveNamesOfTheirOwn(t *testing.T) {
	s, err := discovery.Announce(natstest.Start(t).Connect(), discovery.Identity{Name: "desk", Release: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	for _, subject := range []string{"orders.get", "accounts.get", "ORDERS.>"} {
		s.Endpoint("get", subject, nil)
	}
	var names []string
	for _, e := range s.Info().Endpoints {
		names = append(names, e.Name)
	}
	if got, want := strings.Join(names, " "), "get accounts_get ORDERS_"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFind(t *testing.T) {
	nc := natstest.Start(t).Connect()
	if found, err := discovery.Find(t.Context(), nc, ""); err != nil || len(found) != 0 {
		t.Fatalf("nobody: %+v, %v", found, err)
	}
	var services []*discovery.Service
	for _, name := range []string{"payment", "payment", "review"} {
		s, err := discovery.Announce(nc, discovery.Identity{Name: name, Release: "1.0.0", Description: "d", Metadata: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		e := s.Endpoint("do", name+".do", nil)
		e.Done(time.Second, "")
		e.Done(3*time.Second, "500:broken")
		services = append(services, s)
	}
	found, err := discovery.Find(t.Context(), nc, "")
	if err != nil || len(found) != 3 || found[0].Name != "payment" || found[2].Name != "review" || found[0].ID == found[1].ID {
		t.Fatalf("all: %+v, %v", found, err)
	}
	s := found[0].Stats[0]
	if s.NumRequests != 2 || s.NumErrors != 1 || s.AverageProcessingTime != 2*time.Second || s.LastError != "500:broken" || found[0].Metadata["k"] != "v" {
		t.Fatalf("stats: %+v", s)
	}
	services[0].Stop()
	if found, err := discovery.Find(t.Context(), nc, "payment"); err != nil || len(found) != 1 {
		t.Fatalf("after a stop: %+v, %v", found, err)
	}
}

// TestARefusalIsCountedAndNotTimed: many that took no time say nothing of the others.
func TestARefusalIsCountedAndNotTimed(t *testing.T) {
	nc := natstest.Start(t).Connect()
	s, err := discovery.Announce(nc, discovery.Identity{Name: "busy", Release: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	e := s.Endpoint("do", "busy.do", nil)
	e.Done(time.Second, "")
	for range 9 {
		e.Refused("429:too many")
	}
	stats := s.Stats().Endpoints[0]
	if p50 := discovery.HealthOf(stats).Latency.Percentile(50); stats.NumRequests != 10 || stats.NumErrors != 9 || stats.LastError != "429:too many" || p50 < 990*time.Millisecond {
		t.Errorf("stats %+v, p50 %v", stats, p50)
	}
}

// facade is a gRPC server that makes itself known.
func facade(t *testing.T, announce func(address string)) func() {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	announce(l.Addr().String())
	stop := func() { server.Stop(); <-done }
	t.Cleanup(stop)
	return stop
}

// site is a NATS server with a gRPC connection that is resolved over it.
type site struct {
	t    *testing.T
	nc   *nats.Conn
	conn *grpc.ClientConn
}

func newSite(t *testing.T) site {
	t.Helper()
	nc := natstest.Start(t).Connect()
	conn, err := grpc.NewClient("nats:///eventstore", grpc.WithResolvers(discovery.Resolver(nc)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return site{t, nc, conn}
}

func (s site) call(options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	_, err := healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{}, options...)
	return err
}

func (s site) announce(address, host string) *discovery.Service {
	s.t.Helper()
	service, err := discovery.Announce(s.nc, discovery.Identity{Name: "eventstore", Release: "1.0.0", Metadata: map[string]string{
		discovery.MetadataGRPC: address, discovery.MetadataHost: host,
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	return service
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestResolverFollows has a façade come late, go, and come again elsewhere.
func TestResolverFollows(t *testing.T) {
	s := newSite(t)
	here := hostname(t)
	answered := make(chan error, 1)
	go func() { answered <- s.call(grpc.WaitForReady(true)) }() // waits: nobody is there
	var service *discovery.Service
	stop := facade(t, func(a string) { service = s.announce(a, here) })
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	stop()
	service.Stop()
	facade(t, func(a string) { s.announce(a, here) })
	// A call that was on its way to the old one may be broken off; the event
	// store's own client repeats it.
	var err error
	for range 20 {
		if err = s.call(grpc.WaitForReady(true)); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// TestResolverPassesOverTheUnreachable: another host's loopback is never
// tried, and though it answers first it does not hide who can be reached.
func TestResolverPassesOverTheUnreachable(t *testing.T) {
	s := newSite(t)
	if err := s.call(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no eventstore answers") {
		t.Fatalf("nobody there: %v", err)
	}
	s.announce("127.0.0.1:1", "another-host")
	s.announce("0.0.0.0:1", hostname(t))
	if found, err := discovery.Find(t.Context(), s.nc, "eventstore"); err != nil || len(found) != 2 {
		t.Fatalf("the unreachable: %+v, %v", found, err)
	}
	facade(t, func(a string) { s.announce(a, hostname(t)) })
	if err := s.call(grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

func TestResolverSaysWhoCantBeReached(t *testing.T) {
	s := newSite(t)
	s.announce("127.0.0.1:1", "another-host")
	if found, err := discovery.Find(t.Context(), s.nc, "eventstore"); err != nil || len(found) != 1 {
		t.Fatalf("the unreachable: %+v, %v", found, err)
	}
	err := s.call()
	for _, want := range []string{"127.0.0.1:1", "another-host", "GRPC_ADVERTISE"} {
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
