package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestRebuildCommand makes the view anew, of nothing and of some orders,
// while everything runs; the first tries are killed.
func TestRebuildCommand(t *testing.T) {
	s := newSystem(t)
	s.start("up").ready()
	nc := s.connect()
	url := "NATS_URL=nats://" + s.nats
	rebuild := func(want int, says string) {
		t.Helper()
		p := s.start("rebuild orderview", url)
		if code := p.ended(); code != want || !strings.Contains(p.out.String(), says) {
			t.Fatalf("ended with %d: %s", code, p.out.String())
		}
	}
	rebuild(0, "0 events")
	const orders = 30
	for i := range orders {
		if _, err := place(nc, fmt.Sprintf("o%d", i), "200"); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		p := s.start("rebuild orderview", url)
		time.AfterFunc(time.Duration(rand.IntN(300))*time.Millisecond, p.kill)
		p.ended()
	}
	rebuild(0, "orderview is made anew of ORDERS up to position")
	for i := range orders {
		get(t, nc, fmt.Sprintf("o%d", i), "Shipped")
	}
	m, err := nc.Request("orders.list", []byte(`{"status":"Shipped","created_from":"2020-01-01T00:00:00Z","limit":500}`), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Orders []placed }
	if err := json.Unmarshal(m.Data, &list); err != nil || len(list.Orders) != orders {
		t.Fatalf("listed %s, %v", m.Data, err)
	}
	if p := s.start("rebuild payment", url); p.ended() != 1 || !strings.Contains(p.out.String(), "there are orderview") {
		t.Fatalf("rebuilt payment: %s", p.out.String())
	}
}
