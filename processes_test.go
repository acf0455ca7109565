//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver"
)

// supervisedLine is a line of waybill ls --json.
type supervisedLine struct {
	Name     string   `json:"name"`
	Replicas int      `json:"replicas"`
	Wanted   *int     `json:"wanted"`
	Starts   *int     `json:"starts"`
	Problems []string `json:"problems"`
	Lag      *int     `json:"lag"`
}

// ls is what waybill ls shows, by name.
func (s *system) ls() (map[string]supervisedLine, error) {
	_, out := s.command("ls --json", "NATS_URL=nats://"+s.nats)
	var lines []supervisedLine
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&lines); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	all := map[string]supervisedLine{}
	for _, l := range lines {
		all[l.Name] = l
	}
	return all, nil
}

// awaitReplicas waits until ls shows so many of each of the functions, wanted
// and there.
func (s *system) awaitReplicas(n int, names ...string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("have %d of %v", n, names), func() error {
		all, err := s.ls()
		if err != nil {
			return err
		}
		for _, name := range names {
			if l, ok := all[name]; !ok || l.Wanted == nil || *l.Wanted != n || l.Replicas != n {
				return fmt.Errorf("%s: %+v", name, l)
			}
		}
		return nil
	})
}

// replica is the process of a function that answers first.
func replica(t *testing.T, nc *nats.Conn, name string) (pid int, ok bool) {
	t.Helper()
	m, err := nc.Request("$SRV.INFO."+name, nil, time.Second)
	if err != nil {
		return 0, false
	}
	var info struct{ Metadata map[string]string }
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	pid, err = strconv.Atoi(info.Metadata["pid"])
	return pid, err == nil
}

// TestProcesses has functions come with the work and go without it, dies a
// little, and ends with nothing left.
func TestProcesses(t *testing.T) {
	s := newSystem(t)
	metrics := freePort(t)
	up := s.start("up --processes", "SCALE_COOL_DOWN=2s", "METRICS_LISTEN="+metrics).ready()
	nc := s.connect()
	consumers := []string{"payment", "orderview"}
	s.awaitReplicas(0, consumers...)
	s.awaitReplicas(1, "placeorder", "review", "orderquery", "saga") // which has a timer

	const orders = 40
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range orders / 4 {
				if _, err := place(nc, fmt.Sprintf("o%d-%d", w, i), "200"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for w := range 4 {
		for i := range orders / 4 {
			get(t, nc, fmt.Sprintf("o%d-%d", w, i), "Shipped")
		}
	}

	// One that is killed comes again, as another process.
	old, ok := replica(t, nc, "placeorder")
	if !ok {
		t.Fatal("placeorder does not answer")
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "start it again", func() error {
		if pid, ok := replica(t, nc, "placeorder"); !ok || pid == old {
			return fmt.Errorf("process %d answers, the old one was %d", pid, old)
		}
		return nil
	})
	s.awaitReplicas(0, consumers...)
	if _, err := place(nc, "again", "200"); err != nil {
		t.Fatal(err)
	}
	get(t, nc, "again", "Shipped")
	scrapeAll(t, metrics)

	// One that is needed for a replay alone comes for that.
	s.awaitReplicas(0, consumers...)
	outcome, err := host.Replayer(nc)(t.Context(), "payment", deadletter.Replay{Event: eventstore.Event{
		ID: "replayed", Stream: order.Stream, Aggregate: "again", Version: 1, Position: 1, Type: "created", Schema: 1, Data: []byte(`{}`),
	}})
	if err != nil {
		t.Errorf("no replica handles a dead letter: %+v, %v", outcome, err)
	}

	children := pids(t, up.cmd.Process.Pid)
	if len(children) < 2 {
		t.Fatalf("its processes are %v", children)
	}
	if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := up.ended(); code != 0 {
		t.Fatalf("ended with %d: %s", code, up.out.String())
	}
	allEnd(t, children)
	s.check(orders+1, "created", "paymentdebited", "approved", "shipped")
	for _, says := range []string{"msg=scaling function=payment from=0 to=1 reason=", "no event came for 2s", "Kubernetes with KEDA", "process ended, and is started again"} {
		if !strings.Contains(up.out.String(), says) {
			t.Errorf("its log does not say %q: %s", says, up.out.String())
		}
	}
}

// scrapeAll does as Prometheus does: it asks where the metrics are, and for these.
func scrapeAll(t *testing.T, supervisor string) {
	t.Helper()
	code, text := status(t, "http://"+supervisor+"/targets")
	var targets []struct {
		Targets []string
		Labels  map[string]string
	}
	if err := json.Unmarshal([]byte(text), &targets); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, text, err)
	}
	var told strings.Builder
	for _, one := range targets {
		code, text := status(t, "http://"+one.Targets[0]+"/metrics")
		if code != http.StatusOK {
			t.Errorf("%+v: %d %s", one, code, text)
		}
		told.WriteString(text)
	}
	for _, want := range []string{
		`waybill_requests_total{code="503",door="POST /api/orders",function="gateway"}`, `waybill_requests_total{code="503",door="orders.place",function="placeorder"}`,
		"waybill_relay_leading",
	} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("none of %+v tells %s", targets, want)
		}
	}
}

// TestProcessesEndWithTheirSupervisor kills it, and then nobody stops them.
func TestProcessesEndWithTheirSupervisor(t *testing.T) {
	if runtime.GOOS != "linux" {
		skip(t, "only Linux ends a process with the one that started it")
	}
	s := newSystem(t)
	up := s.start("up --processes").ready()
	children := pids(t, up.cmd.Process.Pid)
	if len(children) < 2 {
		t.Fatalf("its processes are %v", children)
	}
	up.kill()
	allEnd(t, children)
}

// TestProcessesThatDieAreTold: what can't start is tried ever more slowly, and ls
// says so.
func TestProcessesThatDieAreTold(t *testing.T) {
	s := newSystem(t)
	server := freePort(t)
	s.env = append(s.env, "EVENTSTORE_ADDR=%zz") // no address, for the functions alone
	up := s.start("up --processes", "METRICS_LISTEN="+server)
	eventually(t, "say that placeorder ends", func() error {
		all, err := s.ls()
		if err != nil {
			return err
		}
		if l := all["placeorder"]; !strings.Contains(fmt.Sprint(l.Problems), "exit status 1") || l.Starts == nil || *l.Starts < 3 {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
	if code, out := s.command("ls", "NATS_URL=nats://"+s.nats); code != 1 || !strings.Contains(out, "placeorder ends again and again: exit status ") {
		t.Errorf("ls ended with %d: %s", code, out)
	}
	if code, text := status(t, "http://"+server+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "starting") {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, _ := status(t, "http://"+server+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d", code)
	}
	if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := up.ended(); code != 0 {
		t.Fatalf("ended with %d: %s", code, up.out.String())
	}
}

// TestHealth: a function is ready while it can do its work.
func TestHealth(t *testing.T) {
	s := newSystem(t)
	listen := freePort(t)
	s.start("up", "METRICS_LISTEN="+listen).ready()
	eventually(t, "be ready", func() error {
		if code, text := status(t, "http://"+listen+"/readyz"); code != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})
	if code, _ := status(t, "http://"+listen+"/else"); code != http.StatusNotFound {
		t.Errorf("/else: %d", code)
	}
}

// TestAnEventStoreIsReady when it has reached NATS, and stays so: a bad deploy
// does not replace good ones, and an outage takes away none.
func TestAnEventStoreIsReady(t *testing.T) {
	s := newSystem(t)
	listen, grpcListen := freePort(t), freePort(t)
	store := s.start("run eventstore", "NATS_URL=nats://"+s.nats, "METRICS_LISTEN="+listen, "GRPC_LISTEN="+grpcListen)
	conn, err := grpc.NewClient(grpcListen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	is := func(httpCode int, serving healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		eventually(t, "be as ready as it is", func() error {
			health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil || health.GetStatus() != serving {
				return fmt.Errorf("gRPC: %v, %w", health, err)
			}
			if code, text := status(t, "http://"+listen+"/readyz"); code != httpCode {
				return fmt.Errorf("readyz: %d %s", code, text)
			}
			return nil
		})
	}
	eventually(t, "say what it waits for", func() error {
		if out := store.out.String(); !strings.Contains(out, "not ready yet") || !strings.Contains(out, "not connected to NATS") {
			return errors.New(out)
		}
		return nil
	})
	is(http.StatusServiceUnavailable, healthpb.HealthCheckResponse_NOT_SERVING)
	if strings.Contains(store.out.String(), "msg=ready") {
		t.Error(store.out.String())
	}
	server, err := natsserver.Start(t.Context(), natsserver.Options{Listen: s.nats, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	store.ready()
	is(http.StatusOK, healthpb.HealthCheckResponse_SERVING)
	server.Stop()
	eventually(t, "lose NATS", func() error {
		if out := store.out.String(); !strings.Contains(out, "lost connection to NATS") {
			return errors.New(out)
		}
		return nil
	})
	is(http.StatusOK, healthpb.HealthCheckResponse_SERVING)
}

func status(t *testing.T, url string) (code int, text string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// skip skips a test that needs Linux; CI has that.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// pids are the processes that a process has started.
func pids(t *testing.T, parent int) (all []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		skip(t, "this system has no /proc")
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // state, parent, ...
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			all = append(all, pid)
		}
	}
	return all
}

func allEnd(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, "leave no process", func() error {
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("process %d still runs", pid)
			}
		}
		return nil
	})
}
