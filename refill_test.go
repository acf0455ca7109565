package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

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
		if code := ls.ended(); code != 1 || !strings.Contains(ls.out.String(), "the command refill ORDERS") {
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

// TestExportAndImport exports a system that runs, and has another go on with a
// copy of its events: with a JetStream and a view that are empty.
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
	for _, args := range []string{"forget ORDERS orderview", "refill ORDERS --from 1"} { // the view is empty
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
