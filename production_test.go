package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/runtime/app"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/natsserver"
)

// production is a system on a server with deploy/nats.conf.
type production struct {
	*system
	keys   string
	server *natsserver.Server
	log    *lockedBuffer
}

// newProduction starts one; edits are pairs of what is replaced in deploy/nats.conf
// and by what.
func newProduction(t *testing.T, edits ...string) *production {
	t.Helper()
	p := &production{system: newSystem(t), log: &lockedBuffer{}}
	p.keys = filepath.Join(p.dir, "keys")
	if code, out := p.command("nkeys " + p.keys); code != 0 {
		t.Fatal(out)
	}
	list, err := os.Open(filepath.Join(p.keys, "nkeys.env"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = list.Close() }()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		t.Setenv(name, value)
	}
	conf, err := os.ReadFile("deploy/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	p.server, err = natsserver.Start(t.Context(), natsserver.Options{
		Config: []byte(strings.NewReplacer(edits...).Replace(string(conf))),
		Listen: "127.0.0.1:-1", StoreDir: filepath.Join(p.dir, "jetstream"), Logger: slog.New(slog.NewTextHandler(p.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.server.Stop)
	p.env = append(p.env, "NATS_URL="+p.server.URL(), "GRPC_LISTEN=127.0.0.1:0")
	return p
}

func (p *production) identity(name string) []string {
	env := []string{"NATS_URL=" + p.server.URL(), "NATS_NKEY=" + filepath.Join(p.keys, name+".nk"), "NATS_INBOX_PREFIX=_INBOX_" + name}
	if slices.Contains(functions, name) {
		env = append(env, "NATS_JS_API_PREFIX="+apiPrefix)
	}
	return env
}

func (p *production) run(name string) *process {
	p.t.Helper()
	started := p.start("run "+name, p.identity(name)...)
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("%s: %s", name, started.out.String())
		}
	})
	return started
}

// as connects with a key; refused gets the permissions that were missing.
func (p *production) as(name string) (nc *nats.Conn, refused chan error) {
	p.t.Helper()
	nkey, err := nats.NkeyOptionFromSeed(filepath.Join(p.keys, name+".nk"))
	if err != nil {
		p.t.Fatal(err)
	}
	refused = make(chan error, 100)
	nc, err = nats.Connect(p.server.URL(), nkey, nats.CustomInboxPrefix("_INBOX_"+name), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(nc.Close)
	return nc, refused
}

// apiPrefix is where deploy/nats.conf has JetStream for functions.
const apiPrefix = "STORE.JS"

var functions = []string{"placeorder", "payment", "review", "shipping", "cancelorder", "saga", "accounts", "orderview", "orderquery", "gateway"}

// TestProduction runs every part under its own key, on durables that were
// provisioned, and then has each try what it may not.
func TestProduction(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		p := newProduction(t)
		p.run("eventstore").ready()
		p.startFunctions()
		p.placeOrders("o1")
		p.admin("ls")
		p.admin("refill ORDERS") // which makes the durables anew
		p.admin("rebuild orderview")
		p.placeOrders("o2")
		p.asksWhatOthersMayNot("o2")
		p.nothingRefused()
		p.countsFailures()
		p.replaysDeadLetters()
		p.nothingRefused()
		p.triesWhatItMayNot()
		p.placeOrders("o3")
	})
	t.Run("postgres", func(t *testing.T) {
		p := newProduction(t)
		p.env = append(p.env, "EVENTSTORE_DB="+pgtest.Database(t), "ORDERS_DB="+pgtest.Database(t))
		first := p.run("eventstore").ready()
		p.run("eventstore").ready()
		p.startFunctions()
		p.placeOrders("o1")
		first.kill() // the other takes over
		p.placeOrders("o2")
		p.nothingRefused()
	})
}

// startFunctions starts all functions, of which one waits for its durable before
// it is provisioned.
func (p *production) startFunctions() {
	p.t.Helper()
	review := p.run("review")
	eventually(p.t, "say who makes the durable", func() error {
		if out := review.out.String(); !strings.Contains(out, "make durable review of ORDERS") || !strings.Contains(out, "the command provision") {
			return errors.New(out)
		}
		return nil
	})
	if out := p.admin("provision"); strings.Count(out, ": made") != 5 {
		p.t.Fatalf("provision: %s", out)
	}
	all := []*process{review}
	for _, f := range functions {
		if f != "review" {
			all = append(all, p.run(f))
		}
	}
	for _, f := range all {
		f.ready()
	}
}

// admin runs a command under the operator's key, and answers what it said.
func (p *production) admin(args string) string {
	p.t.Helper()
	code, out := p.command(args, p.identity("admin")...)
	if code != 0 {
		p.t.Fatalf("%s ended with %d: %s", args, code, out)
	}
	return out
}

func (p *production) placeOrders(id string) {
	p.t.Helper()
	nc, _ := p.as("client")
	if _, err := place(nc, id, "200"); err != nil {
		p.t.Fatal(err)
	}
	get(p.t, nc, id, "Shipped")
	over := httpClient{p.t, p.http}
	over.place(id + "-over-http")
	over.deliver(id + "-over-http")
	over.watch(id + "-over-http")
}

// asksWhatOthersMayNot has clients and the operator each ask what is theirs to
// say: about an order that is shipped.
func (p *production) asksWhatOthersMayNot(id string) {
	p.t.Helper()
	for _, c := range []struct{ who, subject, body, code string }{
		{"client", "accounts.get", `{"customer_id":"shijuvar"}`, ""},
		{"client", "orders.cancel", `{"order_id":"` + id + `","reason":"ill"}`, "409"},
		{"admin", "accounts.deposit", `{"customer_id":"shijuvar","amount":10,"deposit_id":"d1"}`, ""},
		{"admin", "orders.review", `{"order_id":"` + id + `","decision":"approve","by":"ann"}`, "409"},
		{"admin", "orders.deliver", `{"order_id":"` + id + `"}`, ""},
	} {
		nc, _ := p.as(c.who)
		if reply, code := ask(p.t, nc, c.subject, c.body); code != c.code {
			p.t.Errorf("%s asks %s: %s %s", c.who, c.subject, code, reply)
		}
	}
}

// nothingRefused looks into the server's log: nobody tried what it may not, but
// for the one function that tried to make its durable.
func (p *production) nothingRefused() {
	p.t.Helper()
	tried := false
	for line := range strings.Lines(p.log.String()) {
		switch {
		case !strings.Contains(line, "Violation"):
		case strings.Contains(line, "CONSUMER.CREATE.ORDERS.review"):
			tried = true
		default:
			p.t.Errorf("refused: %s", line)
		}
	}
	if !tried {
		p.t.Errorf("the log does not tell what is refused: %s", p.log)
	}
}

// countsFailures writes and reads a count as a function does whose event failed.
func (p *production) countsFailures() {
	p.t.Helper()
	nc, refused := p.as("payment")
	js, err := jetstream.NewWithAPIPrefix(nc, apiPrefix)
	if err != nil {
		p.t.Fatal(err)
	}
	kv, err := js.KeyValue(p.t.Context(), "FAILURES")
	if err != nil {
		p.t.Fatal(err)
	}
	const key = "payment.ORDERS.began.1"
	if _, err := kv.Put(p.t.Context(), key, []byte("1")); err != nil {
		p.t.Fatal(err)
	}
	if e, err := kv.Get(p.t.Context(), key); err != nil || string(e.Value()) != "1" {
		p.t.Fatal(e, err)
	}
	if err := kv.Purge(p.t.Context(), key); err != nil || len(refused) > 0 {
		p.t.Fatal(err, len(refused))
	}
}

// replaysDeadLetters has functions give up on an event, and the operator see
// to it.
func (p *production) replaysDeadLetters() {
	p.t.Helper()
	nc, _ := p.as("admin")
	found, err := discovery.Find(p.t.Context(), nc, app.EventStore)
	if err != nil || len(found) != 1 {
		p.t.Fatal(found, err)
	}
	store := dial(p.t, found[0].Metadata[discovery.MetadataGRPC])
	e := appendNonsense(p.t, store)
	if err := deadletter.Bury(p.t.Context(), store, deadletter.Letter{
		Function: "nobody", Stream: e.Stream, Subject: "ORDERS.created", Position: e.Position, EventID: e.ID,
	}); err != nil {
		p.t.Fatal(err)
	}
	letters := map[string]string{}
	eventually(p.t, "be buried", func() error {
		var all []deadletter.Summary
		if out := p.admin("deadletters ls --json"); json.Unmarshal([]byte(out), &all) != nil || len(all) != 4 {
			return errors.New(out)
		}
		for _, l := range all {
			letters[l.Function] = l.ID
		}
		return nil
	})
	if code, out := p.command("deadletters replay "+letters["payment"], p.identity("admin")...); code != 1 || !strings.Contains(out, "failed again") {
		p.t.Errorf("replay ended with %d: %s", code, out)
	}
	if code, out := p.command("deadletters replay "+letters["nobody"], p.identity("admin")...); code != 1 || !strings.Contains(out, "no replica of nobody runs") {
		p.t.Errorf("replay ended with %d: %s", code, out)
	}
	p.admin("deadletters show " + letters["payment"])
	if out := p.admin("ls"); !strings.Contains(out, "DEAD LETTERS") || !strings.Contains(out, deadletter.Name) {
		p.t.Errorf("ls: %s", out)
	}
	p.admin("deadletters drop --reason test " + letters["payment"] + " " + letters["orderview"] + " " + letters["saga"] + " " + letters["nobody"])
}
