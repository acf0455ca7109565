package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"slices"
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
