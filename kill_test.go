package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// TestKilledProcessesLoseNothing kills every process in turn while orders come,
// and the NATS server too.
func TestKilledProcessesLoseNothing(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel() // most of it is waiting for what the killed had in hand
		s := newSystem(t)
		s.env = append(s.env, "GRPC_LISTEN=127.0.0.1:0") // the other's processes might take one that is chosen now
		killEach(t, s, "eventstore", "payment", "payment")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
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
