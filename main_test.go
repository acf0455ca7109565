package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/rpc/tlstest"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

const childArgs = "WAYBILL_TEST_ARGS"

// TestMain lets the test binary be waybill itself, for tests that need it as a
// process of its own.
func TestMain(m *testing.M) {
	if args := os.Getenv(childArgs); args != "" {
		if len(os.Args) == 1 { // else a supervisor said what to run
			os.Args = append([]string{"waybill"}, strings.Fields(args)...)
		}
		main()
		return
	}
	pgtest.Main(m)
}

// system is where one test's processes run.
type system struct {
	t    *testing.T
	dir  string
	env  []string
	nats string
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
	s := &system{t: t, dir: t.TempDir(), nats: freePort(t)}
	s.env = append(os.Environ(), "DATA_DIR="+s.dir, "NATS_LISTEN="+s.nats, "GRPC_LISTEN="+freePort(t))
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
	ID      string          `json:"order_id"`
	Status  string          `json:"status"`
	Reason  string          `json:"reason"`
	Amount  json.RawMessage `json:"amount"`
	Version int             `json:"version"`
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

func TestAnOrderInOneProcess(t *testing.T) {
	s := newSystem(t)
	up := s.start("up").ready()
	nc := s.connect()
	m, err := place(nc, "o1", "200")
	if err != nil {
		t.Fatal(err)
	}
	var first placed
	if err := json.Unmarshal(m.Data, &first); err != nil || first.Status != "Pending" || string(first.Amount) != "400" || first.Version != 1 {
		t.Fatalf("placed %s", m.Data)
	}
	get(t, nc, "o1", "Approved")
	again, err := place(nc, "o1", "200.00")
	if err != nil || !bytes.Equal(again.Data, m.Data) {
		t.Fatalf("the same again: %s, %v", again.Data, err)
	}
	other, err := nc.Request("orders.place", []byte(`{"order_id":"o1","customer_id":"x","restaurant_id":"cgh","order_items":[{"code":"vm","name":"V","unit_price":1,"quantity":2}]}`), 2*time.Second)
	if err != nil || other.Header.Get(micro.ErrorCodeHeader) != "409" {
		t.Fatalf("another body: %v %s, %v", other.Header, other.Data, err)
	}
	if _, err := place(nc, "dear", "9999.99"); err != nil {
		t.Fatal(err)
	}
	if o := get(t, nc, "dear", "Rejected"); !strings.Contains(o.Reason, "limit") {
		t.Fatalf("rejected for %q", o.Reason)
	}
	h, err := nc.Request("orders.history", []byte(`{"order_id":"o1"}`), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var history struct {
		Events []struct {
			Version, Position int
			Type, ID, Cause   string
		}
	}
	if err := json.Unmarshal(h.Data, &history); err != nil || len(history.Events) != 3 || history.Events[2].Cause != history.Events[1].ID {
		t.Fatalf("history %s, %v", h.Data, err)
	}
	if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := up.ended(); code != 0 {
		t.Fatalf("ended with %d: %s", code, up.out.String())
	}
}

// TestOverTLS has the event store take calls with certificate and token only. A
// payment with another token takes nothing, and says so.
func TestOverTLS(t *testing.T) {
	s := newSystem(t)
	server := natstest.Start(t)
	cert, key, ca := tlstest.New(t).Files("eventstore.test")
	s.env = append(s.env, "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0",
		"GRPC_CERT="+cert, "GRPC_KEY="+key, "GRPC_CA="+ca, "GRPC_SERVER_NAME=eventstore.test", "GRPC_TOKEN=right")
	s.start("run eventstore").ready()
	wrong := s.start("run payment", "GRPC_TOKEN=wrong")
	s.start("run placeorder review orderview orderquery").ready()
	nc := server.Connect()
	if _, err := place(nc, "o1", "200"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "say that the token is wrong", func() error {
		if !strings.Contains(wrong.out.String(), "check GRPC_TOKEN") {
			return errors.New(wrong.out.String())
		}
		return nil
	})
	get(t, nc, "o1", "Pending")
	s.start("run payment").ready()
	get(t, nc, "o1", "Approved")
}

// TestRefill spoils the stream with a stray message in the feed, so that nothing
// is relayed; ls says so, and refill mends it while everything runs.
func TestRefill(t *testing.T) {
	s := newSystem(t)
	s.start("up").ready()
	nc := s.connect()
	if _, err := place(nc, "before", "200"); err != nil {
		t.Fatal(err)
	}
	get(t, nc, "before", "Approved")
	if err := nc.Publish("feed.ORDERS.created", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := place(nc, "after", "200"); err != nil { // it is accepted, and waits
		t.Fatal(err)
	}
	url := "NATS_URL=nats://" + s.nats
	eventually(t, "say what is wrong", func() error {
		ls := s.start("ls", url)
		if code := ls.ended(); code != 1 || !strings.Contains(ls.out.String(), "waybill refill ORDERS") {
			return fmt.Errorf("%d: %s", code, ls.out.String())
		}
		return nil
	})
	if no := s.start("refill ORDERS --from 99", url); no.ended() != 1 || !strings.Contains(no.out.String(), "from: is 99") {
		t.Fatalf("refilled from beyond: %s", no.out.String())
	}
	if yes := s.start("refill ORDERS", url); yes.ended() != 0 || !strings.Contains(yes.out.String(), "holds the positions") {
		t.Fatalf("refill: %s", yes.out.String())
	}
	get(t, nc, "after", "Approved")
}

// TestKilledProcessesLoseNothing kills every process in turn while orders come,
// and the NATS server too.
func TestKilledProcessesLoseNothing(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { killEach(t, newSystem(t), "eventstore", "payment", "payment") })
	t.Run("postgres", func(t *testing.T) {
		s := newSystem(t)
		s.db = pgtest.Database(t)
		s.env = append(s.env, "EVENTSTORE_DB="+s.db, "ORDERS_DB="+pgtest.Database(t), "GRPC_LISTEN=127.0.0.1:0")
		killEach(t, s, "eventstore", "eventstore", "eventstore", "payment")
	})
}

func killEach(t *testing.T, s *system, names ...string) {
	names = append(names, "placeorder", "review", "orderview orderquery")
	server := natstest.Start(t)
	url := "NATS_URL=" + server.URL()
	processes := make([]*process, len(names))
	for i, n := range names {
		processes[i] = s.start("run "+n, url)
	}
	for _, p := range processes {
		p.ready()
	}
	nc := server.Connect()
	const orders = 240
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range orders / 8 {
				if _, err := place(nc, fmt.Sprintf("o%d-%d", w, i), "200"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i, n := range names {
		time.Sleep(60 * time.Millisecond) // any moment will do
		processes[i].kill()
		processes[i] = s.start("run "+n, url)
	}
	server.Restart()
	wg.Wait()
	for w := range 8 {
		for i := range orders / 8 {
			get(t, nc, fmt.Sprintf("o%d-%d", w, i), "Approved")
		}
	}
	stored := messages(t, nc, 3*orders)
	for _, p := range processes {
		p.kill()
	}
	for i, e := range s.check(orders, "created", "paymentdebited", "approved") {
		if stored[i] != e.ID {
			t.Fatalf("sequence %d is event %s, position %d is %s", i+1, stored[i], e.Position, e.ID)
		}
	}
}

// TestASecondOneHarmsNothing starts another system on the same data.
func TestASecondOneHarmsNothing(t *testing.T) {
	s := newSystem(t)
	s.start("up").ready()
	second := s.start("up", "NATS_LISTEN="+freePort(t), "GRPC_LISTEN="+freePort(t))
	if code := second.ended(); code != 1 || !strings.Contains(second.out.String(), "DATA_DIR") {
		t.Fatalf("%d: %s", code, second.out.String())
	}
	nc := s.connect()
	if _, err := place(nc, "o1", "200"); err != nil {
		t.Fatal(err)
	}
	get(t, nc, "o1", "Approved")
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	s := newSystem(t)
	taken, err := net.Listen("tcp", s.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, c := range []struct {
		args, env string
		code      int
		says      []string
	}{
		{"up", "", 1, []string{"NATS_LISTEN", s.nats, "NATS_URL"}},
		{"up", "DRAIN_TIMEOUT=fast", 2, []string{`DRAIN_TIMEOUT="fast"`, "2s"}},
		{"up", "FEED_REPLICAS=9", 2, []string{`FEED_REPLICAS="9"`, "5"}},
		{"run payment", "PAYMENT_LIMIT=much", 2, []string{`PAYMENT_LIMIT="much"`, "two decimal places"}},
		{"up", "DATA_DIR=/dev/null", 2, []string{`DATA_DIR="/dev/null"`, "not a directory"}},
		{"run payment", "NATS_CREDS=/nowhere", 2, []string{`NATS_CREDS="/nowhere"`, "no such file"}},
		{"run payment", "NATS_NKEY=/dev/null", 2, []string{"NATS_NKEY", "seed"}},
		{"run payment", "NATS_INBOX_PREFIX=a.>", 2, []string{"NATS_INBOX_PREFIX", "wildcards"}},
		{"provision", "NATS_URL=nats://127.0.0.1:1", 1, []string{"NATS_URL"}},
		{"run eventstore", "EVENTSTORE_DB=mysql://u:secret@h/d", 1, []string{"EVENTSTORE_DB", `"mysql"`, "postgres://"}},
		{"run eventstore", "GRPC_LISTEN=0.0.0.0:0", 2, []string{"GRPC_LISTEN", "plaintext", "GRPC_CERT"}},
		{"run eventstore", "GRPC_TOKEN=hidden", 2, []string{"GRPC_TOKEN", "TLS"}},
		{"run payment", "GRPC_TOKEN=hidden", 2, []string{"GRPC_TOKEN", "GRPC_CA"}},
		{"run payment", "GRPC_CA=/nowhere GRPC_SERVER_NAME=x", 2, []string{"GRPC_CA", "no such file"}},
		{"run eventstore", "GRPC_CERT=/nowhere", 2, []string{"GRPC_CERT", "no such file"}},
		{"--version", "", 0, []string{"0.1.0"}},
		{"run nobody", "", 1, []string{`"nobody"`, "payment"}},
		{"up --log-level=loud", "", 2, []string{`LOG_LEVEL="loud"`, "debug,info,warn,error"}},
		{"fly", "", 2, []string{"fly", "--help"}},
		{"ls", "NATS_URL=nats://u:secret@127.0.0.1:1", 1, []string{"NATS_URL", "...@127.0.0.1:1"}},
	} {
		p := s.start(c.args, strings.Fields(c.env)...)
		if code := p.ended(); code != c.code {
			t.Errorf("%s %s ended with %d", c.env, c.args, code)
		}
		for _, word := range c.says {
			if !strings.Contains(p.out.String(), word) || strings.Contains(p.out.String(), "secret") {
				t.Errorf("%s %s does not say %s: %s", c.env, c.args, word, p.out.String())
			}
		}
	}
}

func TestHelpHasExamples(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"up", "--help"}, {"run", "--help"}, {"ls", "--help"}, {"provision", "--help"}, {"nkeys", "--help"}, {"manifests", "--help"}, {"bench", "orders", "--help"}} {
		var out, errs bytes.Buffer
		code := waybill().Run(context.Background(), args, func(string) string { return "" }, &out, &errs)
		if code != 0 || len(args) > 1 && !strings.Contains(out.String(), "Example") || !strings.Contains(out.String(), "NATS_URL") {
			t.Errorf("%v: %d %s %s", args, code, out.String(), errs.String())
		}
	}
}
