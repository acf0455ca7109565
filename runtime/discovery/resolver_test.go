package discovery_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// serveAt has the test binary be a façade, on the NATS server there.
const serveAt = "DISCOVERY_TEST_NATS"

func TestMain(m *testing.M) {
	if url := os.Getenv(serveAt); url != "" {
		fmt.Println(serve(url))
		return
	}
	natstest.Main(m)
}

// serve is a façade that never ends by itself, but with an error.
func serve(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := discovery.Announce(nc, discovery.Identity{Name: "eventstore", Release: "1.0.0", Metadata: map[string]string{
		discovery.MetadataGRPC: l.Addr().String(), discovery.MetadataHost: host,
	}}); err != nil {
		return err
	}
	fmt.Println(l.Addr())
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	return server.Serve(l)
}

// watched is a builder that tells each set of addresses that a resolver of its
// tells gRPC.
type watched struct {
	resolver.Builder
	told chan []string
}

type watchedConn struct {
	resolver.ClientConn
	told chan []string
}

func (w watched) Build(target resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	return w.Builder.Build(target, watchedConn{cc, w.told}, o)
}

func (w watchedConn) UpdateState(s resolver.State) error {
	addresses := []string{}
	for _, a := range s.Addresses {
		addresses = append(addresses, a.Addr)
	}
	w.told <- addresses
	return w.ClientConn.UpdateState(s)
}

// await waits for the next set, and answers how long that took.
func (w watched) await(t *testing.T, want ...string) time.Duration {
	t.Helper()
	slices.Sort(want)
	began := time.Now()
	select {
	case got := <-w.told:
		if !slices.Equal(got, want) {
			t.Fatalf("told %v, want %v", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("not told %v", want)
	}
	return time.Since(began)
}

func (w watched) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("nats:///eventstore", grpc.WithResolvers(w), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	conn.Connect()
	return conn
}

// TestResolverFollowsWithinASecond has façades come, go, and all go: a client
// keeps those that it knew until another one is there.
func TestResolverFollowsWithinASecond(t *testing.T) {
	s := newSite(t)
	w := watched{discovery.Resolver(s.nc), make(chan []string, 10)}
	here := hostname(t)
	var a, b, c string
	var first, second *discovery.Service
	facade(t, func(address string) { a = address; first = s.announce(address, here) })
	w.dial(t)
	w.await(t, a)
	within := func(what string, took time.Duration) {
		t.Helper()
		if took > time.Second {
			t.Errorf("%s was told after %v", what, took)
		}
	}
	facade(t, func(address string) { b = address; second = s.announce(address, here) })
	within("one more", w.await(t, a, b))
	first.Stop()
	within("one less", w.await(t, b))
	second.Stop()
	if found, err := discovery.Find(t.Context(), s.nc, "eventstore"); err != nil || len(found) != 0 {
		t.Fatalf("%v, %v", found, err)
	}
	// At least one look finds nobody; await would be told of it.
	looked, err := s.nc.SubscribeSync("$SRV.INFO.eventstore")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is asked when the first was answered
		if _, err := looked.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	facade(t, func(address string) { c = address; s.announce(address, here) })
	w.await(t, c)
}

// TestResolverAsksWhenAFacadeIsKilled has a process die that told nobody. The
// resolver would look again in an hour: it is the broken connection that has it
// look at once.
func TestResolverAsksWhenAFacadeIsKilled(t *testing.T) {
	server := natstest.Start(t)
	nc := server.Connect()
	processes := map[string]*exec.Cmd{}
	for range 2 {
		cmd, address := child(t, server.URL())
		processes[address] = cmd
	}
	w := watched{discovery.ResolverEvery(nc, time.Hour), make(chan []string, 10)}
	s := site{t, nc, w.dial(t)}
	known := (<-w.told)[0] // who answered first
	if err := s.call(grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		t.Helper()
		if err := processes[known].Process.Kill(); err != nil {
			t.Fatal(err)
		}
		delete(processes, known)
	}
	kill()
	for known = range processes { // the other one
		if took := w.await(t, known); took > time.Second {
			t.Errorf("was told after %v", took)
		}
	}
	if err := s.call(grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	// Nobody is left, and it is not told so: the next one is found by the
	// attempts to reach the last.
	kill()
	_, third := child(t, server.URL())
	w.await(t, third)
	if err := s.call(grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// child runs a façade as a process of its own, and answers its address.
func child(t *testing.T, url string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serveAt+"="+url)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it may be gone
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}
