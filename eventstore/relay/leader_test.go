package relay_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// facade is one of several processes on one database, as it were.
type facade struct {
	store *postgres.Store
	relay *relay.Relay
	nc    *nats.Conn
	stop  func()
}

func newFacade(t *testing.T, url string, nc *nats.Conn) *facade {
	t.Helper()
	s, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r, err := relay.New(s, nc, relay.Options{Streams: []string{stream}, Floors: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	f := &facade{store: s, relay: r, nc: nc, stop: func() { cancel(); wg.Wait() }}
	t.Cleanup(f.stop)
	return f
}

func leaders(all []*facade) (n, last int) {
	for i, f := range all {
		if f.relay.Status() != nil {
			n, last = n+1, i
		}
	}
	return n, last
}

// TestOneLeads has several façades on one database: whoever appends, the one
// that leads relays it at once; when that one goes, by itself or by losing
// NATS, another takes over.
func TestOneLeads(t *testing.T) {
	server, url := natstest.Start(t), pgtest.Database(t)
	var all []*facade
	for range 3 {
		all = append(all, newFacade(t, url, server.Connect()))
	}
	one := func() int {
		t.Helper()
		at := 0
		eventually(t, "have one leader", func() error {
			n, i := leaders(all)
			if at = i; n != 1 {
				return context.DeadlineExceeded
			}
			return nil
		})
		return at
	}
	for round, goes := range []func(*facade){func(f *facade) { f.stop() }, func(f *facade) { f.nc.Close() }, nil} {
		leader := one()
		var wg sync.WaitGroup
		for _, f := range all {
			wg.Go(func() { add(t, f.store, 500) })
		}
		wg.Wait()
		caughtUp(t, all[leader].store, server.Connect(), 1)
		if goes == nil {
			break
		}
		goes(all[leader])
		gone := time.Now()
		all = slices.Delete(all, leader, leader+1)
		add(t, all[0].store, 10) // told to nobody
		one()
		t.Logf("round %d: another leads after %v", round, time.Since(gone).Round(time.Millisecond))
	}
}

// TestStrayHeads has somebody tell of commits that never were.
func TestStrayHeads(t *testing.T) {
	nc, url := natstest.Start(t).Connect(), pgtest.Database(t)
	f := newFacade(t, url, nc)
	for range 20 {
		for _, body := range []string{"9007199254740991", "18446744073709551615", "-1", "x", ""} {
			if err := nc.Publish("head."+stream, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		add(t, f.store, 20)
	}
	caughtUp(t, f.store, nc, 1)
}
