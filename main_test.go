package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/rpc/tlstest"
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

func TestWhatIsWrongIsNamed(t *testing.T) {
	s := newSystem(t)
	taken, err := net.Listen("tcp", s.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	var judge []func()
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
		p := s.start(c.args, append([]string{"DATA_DIR=" + t.TempDir()}, strings.Fields(c.env)...)...)
		judge = append(judge, func() { // some wait for who is not there: all at once
			if code := p.ended(); code != c.code {
				t.Errorf("%s %s ended with %d", c.env, c.args, code)
			}
			for _, word := range c.says {
				if !strings.Contains(p.out.String(), word) || strings.Contains(p.out.String(), "secret") {
					t.Errorf("%s %s does not say %s: %s", c.env, c.args, word, p.out.String())
				}
			}
		})
	}
	for _, end := range judge {
		end()
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
