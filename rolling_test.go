package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// rollings is how often every process is started again; more by WAYBILL_ROLLINGS.
func rollings(t *testing.T) int {
	t.Helper()
	n := 1
	if v := os.Getenv("WAYBILL_ROLLINGS"); v != "" {
		if _, err := fmt.Sscan(v, &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// orderLoad places orders, each with one request, until it is stopped.
type orderLoad struct {
	t               *testing.T
	nc              *nats.Conn
	placed, shipped atomic.Int64
	gap             atomic.Int64 // the longest time between two approvals
	end             chan struct{}
	wg              sync.WaitGroup
}

func startLoad(t *testing.T, nc *nats.Conn, clients int) *orderLoad {
	t.Helper()
	l := &orderLoad{t: t, nc: nc, end: make(chan struct{})}
	var last time.Time
	_, err := nc.Subscribe("ORDERS.shipped", func(*nats.Msg) { // one at a time
		l.shipped.Add(1)
		if now := time.Now(); last.IsZero() {
			last = now
		} else {
			l.gap.Store(max(l.gap.Load(), int64(now.Sub(last))))
			last = now
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for c := range clients {
		l.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.end:
					return
				default:
				}
				l.place(fmt.Sprintf("r%d-%d", c, n))
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// place asks once: nobody may notice that processes come and go.
func (l *orderLoad) place(id string) {
	body := fmt.Sprintf(`{"order_id":%q,"customer_id":"c","restaurant_id":"cgh","order_items":[{"code":"vm","name":"V","unit_price":1,"quantity":2}]}`, id)
	began := time.Now()
	m, err := l.nc.Request("orders.place", []byte(body), 10*time.Second)
	switch {
	case err != nil:
		l.t.Errorf("order %s after %v: %v", id, time.Since(began), err)
	case m.Header.Get(micro.ErrorCodeHeader) != "":
		l.t.Errorf("order %s after %v: %s", id, time.Since(began), m.Data)
	default:
		l.placed.Add(1)
	}
}

// stop ends the load, and answers how many orders were placed.
func (l *orderLoad) stop() int {
	select {
	case <-l.end:
	default:
		close(l.end)
	}
	l.wg.Wait()
	return int(l.placed.Load())
}

// TestRollingRestart stops and starts every process, one after the other, while
// orders are placed: no request fails, and each order is shipped once.
func TestRollingRestart(t *testing.T) {
	s := newSystem(t)
	s.db = pgtest.Database(t)
	server := natstest.Start(t)
	s.env = append(s.env, "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0", "EVENTSTORE_DB="+s.db, "ORDERS_DB="+pgtest.Database(t))
	const functions = "run placeorder payment review shipping orderview orderquery"
	commands := []string{"run eventstore", "run eventstore", functions, functions}
	processes := make([]*process, len(commands))
	for i, args := range commands {
		processes[i] = s.start(args).ready()
	}
	load := startLoad(t, server.Connect(), 8)
	for range rollings(t) {
		for i, args := range commands {
			before := load.placed.Load()
			if err := processes[i].cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := processes[i].ended(); code != 0 {
				t.Errorf("%s ended with %d: %s", args, code, processes[i].out.String())
			}
			processes[i] = s.start(args).ready()
			eventually(t, "place orders meanwhile", func() error {
				if n := load.placed.Load(); n < before+20 {
					return fmt.Errorf("%d since it was stopped", n-before)
				}
				return nil
			})
		}
	}
	orders := load.stop()
	eventually(t, "approve all", func() error {
		if n := int(load.shipped.Load()); n < orders {
			return fmt.Errorf("%d of %d", n, orders)
		}
		return nil
	})
	for _, p := range processes {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range processes {
		p.ended()
	}
	s.check(orders, "created", "paymentdebited", "approved", "shipped")
	longest := time.Duration(load.gap.Load())
	t.Logf("%d orders, the longest time between two approvals was %v", orders, longest)
	if longest > 15*time.Second {
		t.Errorf("nothing was shipped for %v: a delivery waited for its lease to end", longest)
	}
}
