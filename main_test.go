package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/rpc/tlstest"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

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
	pgtest.Main(m, natstest.Forgotten()...)
}

func TestAnOrderInOneProcess(t *testing.T) {
	s := newSystem(t)
	up := s.start("up", "PAYMENT_CREDIT=10000").ready()
	nc := s.connect()
	m, err := place(nc, "o1", "200")
	if err != nil {
		t.Fatal(err)
	}
	var first placed
	if err := json.Unmarshal(m.Data, &first); err != nil || first.Status != "Pending" || string(first.Amount) != "400" || first.Version != 1 {
		t.Fatalf("placed %s", m.Data)
	}
	get(t, nc, "o1", "Shipped")
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
	if o := get(t, nc, "dear", "Rejected"); !strings.Contains(o.Reason, "owe") {
		t.Fatalf("rejected for %q", o.Reason)
	}
	h, err := nc.Request("orders.history", []byte(`{"order_id":"o1"}`), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var history struct {
		Events []struct {
			Version, Position int
			Type, ID          string
			CausationID       string `json:"causation_id"`
		}
	}
	if err := json.Unmarshal(h.Data, &history); err != nil || len(history.Events) != 4 || history.Events[2].CausationID != history.Events[1].ID {
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
	s.start("run placeorder review shipping orderview orderquery").ready()
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
	get(t, nc, "o1", "Shipped")
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
	get(t, nc, "before", "Shipped")
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
	get(t, nc, "after", "Shipped")
}

// appendNonsense appends an order's first event that no function can read, and
// answers it.
func appendNonsense(t *testing.T, store eventstore.Store) eventstore.Event {
	t.Helper()
	done, err := store.Append(t.Context(), eventstore.Append{
		Stream: "ORDERS", Aggregate: "odd", Expected: eventstore.New, Events: []eventstore.Event{storetest.Event("created", `["odd"]`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return done.Events[0]
}

// dial reaches an event store in plaintext.
func dial(t *testing.T, address string) eventstore.Store {
	t.Helper()
	store, err := rpc.Dial(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// TestDeadLetters has functions give up on an event. What each is handed
// again is edited for one of them, and dropped for the other.
func TestDeadLetters(t *testing.T) {
	s := newSystem(t)
	up := s.start("up").ready()
	nc := s.connect()
	for _, v := range s.env {
		if address, ok := strings.CutPrefix(v, "GRPC_LISTEN="); ok {
			appendNonsense(t, dial(t, address))
		}
	}
	deadletters := func(args string, want int) string {
		t.Helper()
		code, out := s.command("deadletters "+args, "EDITOR="+editor(t))
		if code != want {
			t.Fatalf("%s ended with %d: %s", args, code, out)
		}
		return out
	}
	letters := map[string]deadletter.Summary{}
	list := func(args string, want int) {
		t.Helper()
		eventually(t, "list", func() error {
			var all []deadletter.Summary
			if out := deadletters("ls --json "+args, 0); json.Unmarshal([]byte(out), &all) != nil || len(all) != want {
				return errors.New(out)
			}
			for _, l := range all {
				letters[l.Function] = l
			}
			return nil
		})
	}
	counted := func(want string) {
		t.Helper()
		eventually(t, "count", func() error {
			_, out := s.command("ls --json")
			var lines []struct {
				Name        string
				DeadLetters *int `json:"dead_letters"`
			}
			if err := json.Unmarshal([]byte(out), &lines); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			var got []string
			for _, l := range lines {
				if l.DeadLetters != nil {
					got = append(got, fmt.Sprintf("%s:%d", l.Name, *l.DeadLetters))
				}
			}
			if got := strings.Join(got, " "); got != want {
				return fmt.Errorf("ls counts %s, want %s", got, want)
			}
			return nil
		})
	}
	list("", 3)
	counted("orderview:1 payment:1 review:0 saga:1 shipping:0")
	deadletters("drop --reason nonsense "+letters["saga"].ID, 0)
	list("--function payment --reason decode --since 1h", 1)
	payment, view := letters["payment"].ID, letters["orderview"].ID
	for _, says := range []string{payment, "ORDERS.created, position 1", "decode", "[\n  \"odd\"\n]"} {
		if out := deadletters("show "+payment[:8], 0); !strings.Contains(out, says) {
			t.Errorf("show does not say %s: %s", says, out)
		}
	}
	if out := deadletters("replay --all --function payment --reason rejected", 0); out != "" {
		t.Errorf("replay of others: %s", out)
	}
	if out := deadletters("replay --all --function payment --reason decode", 1); !strings.Contains(out, "failed again") || !strings.Contains(out, "1 of 1") {
		t.Errorf("replay: %s", out)
	}
	deadletters("edit "+view, 0) // the editor writes a whole order
	if out := deadletters("replay "+view, 0); !strings.Contains(out, "replayed") {
		t.Errorf("replay: %s", out)
	}
	get(t, nc, "odd", "Pending")
	counted("orderview:0 payment:1 review:0 saga:0 shipping:0")
	list("--status failed", 1)
	list("--status replayed", 1)

	_ = up.cmd.Process.Signal(os.Interrupt)
	up.ended()
	if err := os.RemoveAll(filepath.Join(s.dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	s.start("up").ready()
	list("", 1)
	if out := deadletters("drop "+payment+" --by ann --reason nonsense", 0); !strings.Contains(out, "dropped") {
		t.Errorf("drop: %s", out)
	}
	if out := deadletters("show "+payment, 0); !strings.Contains(out, "dropped by ann") || !strings.Contains(out, "replayed by ") {
		t.Errorf("show: %s", out)
	}
	list("", 0)
	counted("orderview:0 payment:0 review:0 saga:0 shipping:0")
}

// editor is a program that writes a whole order into the file that it is given.
func editor(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "editor")
	script := "#!/bin/sh\necho '" + `{"order_id":"odd","customer_id":"c","restaurant_id":"r","created_on":"2026-01-02T03:04:05Z","currency":"USD","amount":2,"order_items":[{"code":"a","name":"A","unit_price":1,"quantity":2}]}` + "' > \"$1\"\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
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
	names = append(names, "placeorder", "review shipping", "orderview orderquery")
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
			get(t, nc, fmt.Sprintf("o%d-%d", w, i), "Shipped")
		}
	}
	stored := messages(t, nc, 4*orders)
	for _, p := range processes {
		p.kill()
	}
	for i, e := range s.check(orders, "created", "paymentdebited", "approved", "shipped") {
		if stored[i] != e.ID {
			t.Fatalf("sequence %d is event %s, position %d is %s", i+1, stored[i], e.Position, e.ID)
		}
	}
}

// TestExportAndImport exports a system that runs, and has another go on with a
// copy of its events: with a JetStream and a read model that are empty.
func TestExportAndImport(t *testing.T) {
	s := newSystem(t)
	up := s.start("up").ready()
	nc := s.connect()
	if _, err := place(nc, "o1", "200"); err != nil {
		t.Fatal(err)
	}
	get(t, nc, "o1", "Shipped")
	eventually(t, "save how far the functions are", func() error {
		out := s.start("export ORDERS")
		if code := out.ended(); code != 0 || strings.Count(out.out.String(), `"floor":4}`) != 5 {
			return fmt.Errorf("%d: %s", code, out.out.String())
		}
		return nil
	})
	file, again := filepath.Join(s.dir, "orders.jsonl"), filepath.Join(s.dir, "again.jsonl")
	if out := s.start("export ORDERS --output " + file); out.ended() != 0 || !strings.Contains(out.out.String(), ": 4 events, sha256:") {
		t.Fatalf("export: %s", out.out.String())
	}
	for args, word := range map[string]string{
		"export ORDERS --output " + file: "file exists",
		"export orders":                  `stream: is "orders"`,
		"import " + file:                 "stop that one",
		"import " + file + ".none":       "no such file",
	} {
		if no := s.start(args); no.ended() != 1 || !strings.Contains(no.out.String(), word) {
			t.Errorf("%s: %s", args, no.out.String())
		}
	}
	if no := s.start("export ORDERS", "EVENTSTORE_DB=sqlite:"+file+".db"); no.ended() != 1 || !strings.Contains(no.out.String(), "EVENTSTORE_DB") {
		t.Errorf("export of nothing: %s", no.out.String())
	}
	up.kill()

	server := natstest.Start(t)
	other := newSystem(t)
	other.env = append(other.env, "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0")
	for _, want := range []string{": 4 events, sha256:", ": 4 events (4 were there), sha256:"} {
		if in := other.start("import " + file); in.ended() != 0 || !strings.Contains(in.out.String(), want) {
			t.Fatalf("import: %s", in.out.String())
		}
	}
	if out := other.start("export ORDERS --output " + again); out.ended() != 0 {
		t.Fatalf("export of the copy: %s", out.out.String())
	}
	first, err1 := os.ReadFile(file)
	second, err2 := os.ReadFile(again)
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%v, %s\nis not\n%s", err, second, first)
	}
	other.start("run eventstore").ready()
	for _, args := range []string{"forget ORDERS orderview", "refill ORDERS --from 1"} { // the read model is empty
		if p := other.start(args); p.ended() != 0 {
			t.Fatalf("%s: %s", args, p.out.String())
		}
	}
	other.start("run placeorder payment review shipping orderview orderquery").ready()
	nc = server.Connect()
	get(t, nc, "o1", "Shipped")
	if _, err := place(nc, "o2", "200"); err != nil {
		t.Fatal(err)
	}
	get(t, nc, "o2", "Shipped")
	messages(t, nc, 8)
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
	get(t, nc, "o1", "Shipped")
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
		{"run payment", "PAYMENT_CREDIT=much", 2, []string{`PAYMENT_CREDIT="much"`, "two decimal places"}},
		{"up", "DATA_DIR=/dev/null", 2, []string{`DATA_DIR="/dev/null"`, "not a directory"}},
		{"run payment", "NATS_CREDS=/nowhere", 2, []string{`NATS_CREDS="/nowhere"`, "no such file"}},
		{"run payment", "NATS_NKEY=/dev/null", 2, []string{"NATS_NKEY", "seed"}},
		{"run payment", "NATS_INBOX_PREFIX=a.>", 2, []string{"NATS_INBOX_PREFIX", "wildcards"}},
		{"provision", "NATS_URL=nats://127.0.0.1:1", 1, []string{"NATS_URL"}},
		{"run eventstore", "EVENTSTORE_DB=mysql://u:secret@h/d", 1, []string{"EVENTSTORE_DB", `"mysql"`, "postgres://"}},
		{"run eventstore", "GRPC_LISTEN=0.0.0.0:0", 2, []string{"GRPC_LISTEN", "plaintext", "GRPC_CERT"}},
		{"run gateway", "HTTP_LISTEN=" + s.nats, 1, []string{"HTTP_LISTEN", s.nats, "another address"}},
		{"run eventstore", "GRPC_TOKEN=hidden", 2, []string{"GRPC_TOKEN", "TLS"}},
		{"run payment", "GRPC_TOKEN=hidden", 2, []string{"GRPC_TOKEN", "GRPC_CA"}},
		{"run payment", "GRPC_CA=/nowhere GRPC_SERVER_NAME=x", 2, []string{"GRPC_CA", "no such file"}},
		{"run eventstore", "GRPC_CERT=/nowhere", 2, []string{"GRPC_CERT", "no such file"}},
		{"--version", "", 0, []string{"0.1.0"}},
		{"run nobody", "", 1, []string{`"nobody"`, "payment"}},
		{"up --log-level=loud", "", 2, []string{`LOG_LEVEL="loud"`, "debug,info,warn,error"}},
		{"fly", "", 2, []string{"fly", "--help"}},
		{"deadletters ls --since yesterday", "", 1, []string{"since", `"yesterday"`, "24h"}},
		{"deadletters replay --all", "", 1, []string{"function: is missing"}},
		{"deadletters replay", "", 1, []string{"id: is missing"}},
		{"deadletters drop x", "", 2, []string{"--reason"}},
		{"trace o/1", "", 1, []string{"id: is", `"o/1"`}},
		{"trace o1 --limit 0", "", 1, []string{"limit: is 0"}},
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
	for _, args := range [][]string{{"--help"}, {"up", "--help"}, {"run", "--help"}, {"ls", "--help"}, {"trace", "--help"}, {"provision", "--help"}, {"deadletters", "ls", "--help"}, {"deadletters", "edit", "--help"}, {"deadletters", "replay", "--help"}, {"deadletters", "drop", "--help"}, {"nkeys", "--help"}, {"manifests", "--help"}, {"export", "--help"}, {"import", "--help"}, {"verify", "--help"}, {"bench", "orders", "--help"}} {
		var out, errs bytes.Buffer
		code := waybill().Run(context.Background(), args, func(string) string { return "" }, &out, &errs)
		if code != 0 || len(args) > 1 && !strings.Contains(out.String(), "Example") || !strings.Contains(out.String(), "NATS_URL") {
			t.Errorf("%v: %d %s %s", args, code, out.String(), errs.String())
		}
	}
}
