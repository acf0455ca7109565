package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

var benchOrders = flag.Int("orders", 20_000, "how many orders BenchmarkRebuild has")

// BenchmarkRebuild rebuilds the view through the façade, beside a plain replay of
// the same stream and while a reader asks and a replica applies, and then lists
// the orders:
//
//	go test -run '^$' -bench Rebuild -benchtime 1x . -orders 1000000
func BenchmarkRebuild(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "events.db"))
		if err != nil {
			b.Fatal(err)
		}
		benchmarkRebuild(b, store, "sqlite:"+filepath.Join(b.TempDir(), "orders.db"))
	})
	b.Run("postgres", func(b *testing.B) {
		store, err := postgres.Open(b.Context(), pgtest.Database(b))
		if err != nil {
			b.Fatal(err)
		}
		benchmarkRebuild(b, store, pgtest.Database(b))
	})
}

func benchmarkRebuild(b *testing.B, store eventstore.Backend, url string) {
	defer func() { _ = store.Close() }()
	events := fill(b, store, *benchOrders)
	server := rpc.NewServer(store, rpc.Access{}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Stop(context.Background())
	client, err := rpc.Dial(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	db, reader, replica := orderdb.New(), orderdb.New(), orderdb.New()
	for _, one := range []*orderdb.DB{db, reader, replica} {
		functiontest.Open(b, one, "ORDERS_DB="+url)
	}
	for b.Loop() {
		raw := replay(b, client)
		began := time.Now()
		asked, applied := askView(b, reader), applyNew(b, replica, function.HistoryOf(client, order.Stream))
		err := db.Rebuild(b.Context(), function.HistoryOf(client, order.Stream), func(m function.Message, err error) { b.Errorf("%+v: %v", m, err) })
		took := time.Since(began)
		asked.stop()
		applied.stop()
		if err != nil {
			b.Fatal(err)
		}
		raw = (raw + replay(b, client)) / 2
		b.ReportMetric(float64(events)/took.Seconds(), "events/s")
		b.ReportMetric(float64(events)/raw.Seconds(), "replayed/s")
		b.ReportMetric(raw.Seconds()/took.Seconds(), "of-replay")
		asked.report(b, "read")
		applied.report(b, "apply")
	}
	listAll(b, reader)
}

// fill stores the histories of n orders, interleaved as they happen, and answers
// how many events they have.
func fill(b *testing.B, store eventstore.Backend, n int) (position int) {
	b.Helper()
	var batch []eventstore.Event
	flush := func() {
		if len(batch) == 0 {
			return
		}
		if err := store.Restore(b.Context(), order.Stream, batch); err != nil {
			b.Fatal(err)
		}
		batch = nil
	}
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	happen := func(i int, version uint64, e order.Event) {
		data, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		position++
		batch = append(batch, eventstore.Event{
			Stream: order.Stream, Position: uint64(position), Aggregate: orderID(i), Version: version,
			ID: fmt.Sprintf("e%d", position), Type: e.EventType(), Time: began.Add(time.Duration(i) * time.Second), Schema: 1,
			Source: "bench", CorrelationID: orderID(i), Data: data,
		})
		if len(batch) == eventstore.MaxRestoreEvents {
			flush()
		}
	}
	for i := range n + 2*100 {
		if i < n {
			c, err := order.Place(orderID(i), customer(i), "cgh", "", []order.Item{{Code: "vm", Name: "Veg Meals", UnitPrice: 20000, Quantity: 2}}, began.Add(time.Duration(i)*time.Second))
			if err != nil {
				b.Fatal(err)
			}
			happen(i, 1, c)
		}
		if k := i - 100; k >= 0 && k < n {
			happen(k, 2, order.PaymentDebited{Amount: 40000, Currency: "USD"})
		}
		if k := i - 200; k >= 0 && k%100 != 0 {
			happen(k, 3, order.WasApproved{})
		}
	}
	flush()
	return position
}

// orderID is scattered over the index of ids, as real ones are.
func orderID(i int) string { return function.DeriveID("bench", fmt.Sprint(i)) }

// customer is one of 10,000, or the one that has every tenth order.
func customer(i int) string {
	if i%10 == 0 {
		return "large"
	}
	return fmt.Sprintf("c%d", i%10_000)
}

func replay(b *testing.B, store eventstore.Store) time.Duration {
	b.Helper()
	began := time.Now()
	for _, err := range store.ReadStream(b.Context(), eventstore.StreamRead{Stream: order.Stream}) {
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

// latencies are of something that is done every 5 ms until stop is called.
type latencies struct {
	stop func()
	took []time.Duration
}

func every5ms(b *testing.B, do func(ctx context.Context, i int) error) *latencies {
	ctx, cancel := context.WithCancel(b.Context())
	l := &latencies{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			began := time.Now()
			if err := do(ctx, i); err != nil && ctx.Err() == nil {
				b.Errorf("while it was rebuilt: %v", err)
			}
			l.took = append(l.took, time.Since(began))
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	l.stop = func() { cancel(); wg.Wait() }
	return l
}

func (l *latencies) report(b *testing.B, what string) {
	slices.Sort(l.took)
	for name, at := range map[string]int{"p50": 50, "p99": 99} {
		b.ReportMetric(l.took[len(l.took)*at/100].Seconds()*1000, what+"-"+name+"-ms")
	}
	b.ReportMetric(l.took[len(l.took)-1].Seconds()*1000, what+"-max-ms")
}

// askView gets an order and a page.
func askView(b *testing.B, db *orderdb.DB) *latencies {
	return every5ms(b, func(ctx context.Context, i int) error {
		_, err := db.Get(ctx, orderID(i))
		if err == nil {
			_, _, err = db.List(ctx, orderdb.Filter{Customer: customer(i)}, "", 50)
		}
		return err
	})
}

// applyNew applies one new order as a replica does, of no stream.
func applyNew(b *testing.B, db *orderdb.DB, log function.Log) *latencies {
	return every5ms(b, func(ctx context.Context, i int) error {
		id := fmt.Sprintf("new%d", i)
		return db.Apply(ctx, log, []function.Message{{
			Stream: order.Stream, Position: uint64(1_000_000_000 + i), Aggregate: id, Version: 1, Type: "created", Schema: 1,
			Data: []byte(`{"order_id":"` + id + `","customer_id":"c"}`),
		}})
	})
}

// listAll times the first page and one from the middle of each form of a list.
func listAll(b *testing.B, db *orderdb.DB) {
	b.Helper()
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	middle := began.Add(time.Duration(*benchOrders/2) * time.Second)
	for i := range 16 {
		var f orderdb.Filter
		if i&1 > 0 {
			f.Customer = "large"
		}
		if i&2 > 0 {
			f.Status = order.Paid // one of a hundred
		}
		if i&4 > 0 {
			f.CreatedFrom = middle.Add(-time.Hour)
		}
		if i&8 > 0 {
			f.CreatedBefore = middle
		}
		from := time.Now()
		const times = 20
		n := 0
		for range times {
			page, _, err := db.List(b.Context(), f, "", 50)
			if err != nil {
				b.Fatal(err)
			}
			n = len(page)
		}
		b.Logf("%+v: %d orders in %v", f, n, time.Since(from)/times)
	}
}
