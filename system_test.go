package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

const childArgs = "WAYBILL_TEST_ARGS"

// system is where one test's processes run.
type system struct {
	t    *testing.T
	dir  string
	env  []string
	nats string
	http string
	db   string // URL of a PostgreSQL database; empty: SQLite
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir(), nats: freePort(t), http: freePort(t)}
	s.env = append(os.Environ(), "DATA_DIR="+s.dir, "NATS_LISTEN="+s.nats, "GRPC_LISTEN="+freePort(t), "HTTP_LISTEN="+s.http)
	return s
}

// process is waybill with some arguments.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    lockedBuffer
	exited chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (s *system) start(args string, env ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, cmd: exec.CommandContext(s.t.Context(), os.Args[0]), exited: make(chan struct{})}
	p.cmd.Env = append(append(s.env, childArgs+"="+args), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	s.t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.exited
}

// ready waits until the log says so.
func (p *process) ready() *process {
	p.t.Helper()
	eventually(p.t, "be ready", func() error {
		if !strings.Contains(p.out.String(), "msg=ready") {
			return fmt.Errorf("its log: %s", p.out.String())
		}
		return nil
	})
	return p
}

// ended waits for the process, and answers its exit code.
func (p *process) ended() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		p.t.Fatalf("still runs: %s", p.out.String())
		return -1
	}
}

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *system) connect() *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect("nats://"+s.nats, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// place places an order, asking again until it is accepted.
func place(nc *nats.Conn, id, price string) (*nats.Msg, error) {
	body := fmt.Sprintf(`{"order_id":%q,"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":%s,"quantity":2}]}`, id, price)
	var err error
	for range 200 {
		var m *nats.Msg
		if m, err = nc.Request("orders.place", []byte(body), 2*time.Second); err == nil && m.Header.Get(micro.ErrorCodeHeader) == "" {
			return m, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("place order %s: %w", id, err)
}

type placed struct {
	ID       string          `json:"order_id"`
	Status   string          `json:"status"`
	Reason   string          `json:"reason"`
	Tracking string          `json:"tracking_number"`
	Amount   json.RawMessage `json:"amount"`
	Version  int             `json:"version"`
}

func get(t *testing.T, nc *nats.Conn, id, status string) placed {
	t.Helper()
	var o placed
	eventually(t, "see order "+id+" "+status, func() error {
		m, err := nc.Request("orders.get", fmt.Appendf(nil, `{"order_id":%q}`, id), 2*time.Second)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(m.Data, &o); err != nil {
			return fmt.Errorf("%w: %s", err, m.Data)
		}
		if o.Status != status {
			return fmt.Errorf("it is %q and not %q: %s", o.Status, status, m.Data)
		}
		return nil
	})
	return o
}

// messages are the ids of the first n events in JetStream.
func messages(t *testing.T, nc *nats.Conn, n int) []string {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.OrderedConsumer(t.Context(), "ORDERS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for len(ids) < n {
		m, err := c.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(ids), n, err)
		}
		ids = append(ids, m.Headers().Get("ce-id"))
	}
	return ids
}

func (s *system) open() (eventstore.Backend, error) {
	if s.db != "" {
		return postgres.Open(s.t.Context(), s.db)
	}
	return sqlite.Open(s.t.Context(), filepath.Join(s.dir, "events.db"))
}

// check opens the store of a system that has ended, and counts its orders'
// events: each order has one of each type. It answers all of them.
func (s *system) check(orders int, types ...string) []eventstore.Event {
	s.t.Helper()
	store, err := s.open()
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	count := map[string]map[string]int{}
	all := storetest.Consistent(s.t, s.t.Context(), store, "ORDERS")
	for _, e := range all {
		if count[e.Type] == nil {
			count[e.Type] = map[string]int{}
		}
		if count[e.Type][e.Aggregate]++; count[e.Type][e.Aggregate] > 1 {
			s.t.Errorf("order %s has %s twice", e.Aggregate, e.Type)
		}
	}
	for _, typ := range types {
		if len(count[typ]) != orders {
			s.t.Errorf("%d orders have %s, want %d", len(count[typ]), typ, orders)
		}
	}
	if head, err := store.Head(s.t.Context(), "DEADLETTERS"); err != nil || head != 0 {
		s.t.Errorf("%d dead letters (%v)", head, err)
	}
	return all
}
