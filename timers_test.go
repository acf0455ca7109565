package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// overdue rejects what is pending, a moment after it was placed.
type overdue struct{}

func (overdue) Due(o order.Order) time.Time {
	if o.Status != order.Pending {
		return time.Time{}
	}
	return o.CreatedOn.Add(100 * time.Millisecond)
}
func (overdue) Waiting(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("o1", nil) }
}
func (overdue) Fire(context.Context, order.Order) ([]order.Event, error) {
	return []order.Event{order.WasRejected{Reason: "overdue"}}, nil
}

// TestATimerUnderItsOwnKey has a function with a timer use the rights that
// deploy/nats.conf gives the saga, and no others.
func TestATimerUnderItsOwnKey(t *testing.T) {
	p := newProduction(t)
	late := function.Function{Name: "saga", Doors: []function.Door{function.Timer(overdue{})}}
	log := slog.New(slog.DiscardHandler)
	store := memory.New()
	defer func() { _ = store.Close() }()
	leader, _ := p.as("eventstore")
	o := host.RelayOptions(1, late)
	o.Alone, o.Logger = true, log
	r, err := relay.New(store, leader, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	admin, _ := p.as("admin")
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range host.DurablesOf(late) { // as waybill provision does
		eventually(t, "make the durables", func() error {
			s, err := host.FindStream(t.Context(), js, d.Stream)
			if err == nil {
				_, _, err = d.Ensure(t.Context(), s)
			}
			return err
		})
	}
	own, _ := p.as("saga")
	h, err := host.Start(late, host.Options{Conn: own, APIPrefix: apiPrefix, Store: store, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	data, _, err := function.Encode(order.Created{ID: "o1", CreatedOn: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Append(t.Context(), eventstore.Append{
		Stream: order.Stream, Aggregate: "o1", Events: []eventstore.Event{{ID: "e1", Type: "created", Data: data}},
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "fire", func() error {
		events, err := eventstore.Collect(store.ReadAggregate(t.Context(), eventstore.AggregateRead{Stream: order.Stream, Aggregate: "o1"}))
		if err == nil && (len(events) != 2 || events[1].Type != "rejected") {
			err = errors.New("it is not rejected")
		}
		return err
	})
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "Violation") {
			t.Errorf("refused: %s", line)
		}
	}
}

// TestTimersOfTheSagaOutliveJetStream: all of it is lost while many orders wait for
// a decision, and each of them is rejected, once. WAYBILL_TEST_WAITING says how many
// orders; 200 if left out.
func TestTimersOfTheSagaOutliveJetStream(t *testing.T) {
	n := 200
	if v := os.Getenv("WAYBILL_TEST_WAITING"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	s := newSystem(t)
	server := natstest.Start(t)
	s.env = append(s.env, "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0", "REVIEW_LIMIT=100")
	all := []*process{s.start("run eventstore").ready(), s.start("run placeorder payment review accounts orderview orderquery").ready()}
	nc := server.Connect()
	began := time.Now()
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				if _, err := place(nc, fmt.Sprintf("o%d", i), "100"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	last := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("have %d events", want), func() error {
			orders, err := js.Stream(t.Context(), order.Stream)
			if err == nil && orders.CachedInfo().State.LastSeq != uint64(want) {
				err = fmt.Errorf("%d of %d", orders.CachedInfo().State.LastSeq, want)
			}
			return err
		})
	}
	waiting := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("have %d timers", want), func() error {
			timers, err := js.Stream(t.Context(), function.TimersStream)
			if err == nil && timers.CachedInfo().State.Msgs != uint64(want) {
				err = fmt.Errorf("%d of %d", timers.CachedInfo().State.Msgs, want)
			}
			return err
		})
	}
	last(2 * n)
	// The first was paid after it began: nothing is due before ten seconds from now.
	timeout := time.Since(began) + 10*time.Second
	saga := s.start("run saga", "REVIEW_TIMEOUT="+timeout.String(), "LOG_LEVEL=debug").ready()
	all = append(all, saga)
	waiting(n)
	eventually(t, "be done with arming", func() error { // else it would go on with it after the loss
		if out := saga.out.String(); !strings.Contains(out, "armed all timers") {
			return errors.New(out)
		}
		return nil
	})
	server.Stop()
	server.Wipe()
	server.Restart()
	last(4 * n)
	waiting(0)
	if reply, _ := ask(t, nc, "accounts.get", `{"customer_id":"shijuvar"}`); reply != `{"customer_id":"shijuvar","balances":{"USD":0}}` {
		t.Error(reply)
	}
	for _, p := range slices.Backward(all) {
		p.kill()
	}
	for _, e := range s.check(n, "created", "paymentdebited", "rejected", "paymentvoided") {
		if e.Type == "rejected" && !strings.Contains(string(e.Data), "nobody decided on it within") {
			t.Errorf("%s was rejected: %s", e.Aggregate, e.Data)
		}
	}
	t.Logf("%d orders: %v", n, time.Since(began))
}

// TestSchemasOfTheProgram are schemas, and small enough for one answer to
// nats micro info.
func TestSchemasOfTheProgram(t *testing.T) {
	const most = 16 << 10
	for _, f := range waybill().Functions {
		size := 0
		for _, d := range f.Doors {
			schemas, err := function.Schemas(d)
			if err != nil {
				t.Fatal(err)
			}
			for of, text := range schemas {
				size += len(text)
				s := &jsonschema.Schema{}
				if err := json.Unmarshal([]byte(text), s); err != nil {
					t.Fatalf("%s %s: %v", d.Subject(), of, err)
				}
				if _, err := s.Resolve(nil); err != nil {
					t.Errorf("%s %s: %v", d.Subject(), of, err)
				}
				if d.Subject() == "orders.place" && of == "request" && !slices.Contains(s.Required, "order_items") {
					t.Errorf("an order needs no items: %s", text)
				}
			}
		}
		if size > most {
			t.Errorf("the schemas of %s are %d bytes", f.Name, size)
		}
	}
}
