package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// TestTrace traces an order, and one that two functions gave up on; then with
// nothing left but the event store.
func TestTrace(t *testing.T) {
	server := natstest.Start(t)
	s := newSystem(t)
	address := freePort(t)
	s.env = append(s.env, "NATS_URL="+server.URL(), "GRPC_LISTEN="+address)
	s.start("run eventstore").ready()
	functions := s.start("run placeorder payment review shipping orderview orderquery").ready()
	nc := server.Connect()
	if _, err := place(nc, "o1", "200"); err != nil {
		t.Fatal(err)
	}
	get(t, nc, "o1", "Shipped")
	appendNonsense(t, dial(t, address))
	eventually(t, "show both dead letters of one event", func() error {
		code, out := s.command("trace odd")
		for _, by := range []string{"payment", "orderview"} {
			if code != 0 || strings.Count(out, "dead letter") != 2 || !strings.Contains(out, "buried   "+by) {
				return errors.New(out)
			}
		}
		return nil
	})
	if code, out := s.command("trace nobody"); code != 1 || !strings.Contains(out, `there is no such aggregate in ORDERS`) {
		t.Errorf("unknown: %d, %s", code, out)
	}
	functions.kill()
	server.Stop()
	code, out := s.command("trace o1 --json", "EVENTSTORE_ADDR="+address)
	type event struct {
		Type, Source string
		Children     []event
	}
	var tree struct{ Roots []event }
	if err := json.Unmarshal([]byte(out), &tree); code != 0 || err != nil {
		t.Fatalf("%d, %v: %s", code, err, out)
	}
	var all []string
	var walk func(events []event)
	walk = func(events []event) {
		for _, e := range events {
			all = append(all, e.Source, e.Type)
			walk(e.Children)
		}
	}
	walk(tree.Roots)
	if got := strings.Join(all, " "); got != "placeorder created payment debited payment paymentdebited review approved shipping shipped" {
		t.Errorf("got %s", got)
	}
}
