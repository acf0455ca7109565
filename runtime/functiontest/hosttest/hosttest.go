// Package hosttest runs functions as a program does, for tests of their doors:
// on a NATS server of their own, with an event store in memory and its relay.
// A start takes tens of milliseconds; what needs no server is tested faster with
// package functiontest.
package hosttest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// Bounds of what a test waits for, so that one that hangs says where.
const (
	timeout = 30 * time.Second
	look    = 2 * time.Millisecond
	// pullExpiry is short, since a stop waits for it.
	pullExpiry = 100 * time.Millisecond
	floors     = 50 * time.Millisecond
)

// System is functions that run.
type System struct {
	// Server may be stopped, and started again.
	Server *natstest.Server
	Conn   *nats.Conn
	Store  eventstore.Backend

	t        testing.TB
	appended int
}

// Start runs the functions until the test ends, and returns when all of them
// are ready. What they need is open by then, or opened by the test: see
// functiontest.Open. The log goes to the test's, from Warn on.
func Start(t testing.TB, functions ...function.Function) *System {
	t.Helper()
	s := &System{t: t, Server: natstest.Start(t), Store: memory.New()}
	t.Cleanup(func() { _ = s.Store.Close() })
	s.Conn = s.Server.Connect()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.relay(functions, log)
	cache := function.NewCache()
	hosts := make([]*host.Host, len(functions))
	for i, f := range functions {
		h, err := host.Start(f, host.Options{Conn: s.Conn, Store: s.Store, Cache: cache, Logger: log, PullExpiry: pullExpiry})
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = h
		t.Cleanup(func() { s.stop(h) })
	}
	s.Eventually("functions are ready", func() error {
		for i, h := range hosts {
			if err := h.Ready(); err != nil {
				return fmt.Errorf("%s: %w", functions[i].Name, err)
			}
		}
		return nil
	})
	return s
}

// relay carries what is appended to JetStream until the test ends.
func (s *System) relay(functions []function.Function, log *slog.Logger) {
	s.t.Helper()
	o := host.RelayOptions(1, functions...)
	o.Floors, o.Alone, o.Logger = floors, true, log
	r, err := relay.New(s.Store, s.Conn, o)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil && ctx.Err() == nil {
			s.t.Errorf("relay: %v", err)
		}
	})
	s.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (s *System) stop(h *host.Host) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		s.t.Errorf("%v", err)
	}
}

// Request asks a function, and answers its reply's JSON, or why it was refused.
// A body that is a string or bytes is sent as it is; any other value as its
// JSON. No answer at all ends the test.
func (s *System) Request(subject string, body any) (reply []byte, refused *function.Refusal) {
	s.t.Helper()
	m, err := s.Conn.Request(subject, s.encode(body), timeout)
	if err != nil {
		s.t.Fatalf("ask %s: %v", subject, err)
	}
	if no := host.Refused(m); no != nil {
		return nil, no
	}
	return m.Data, nil
}

func (s *System) encode(v any) []byte {
	s.t.Helper()
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	data, err := jsonv2.Marshal(v, jsonv2.Deterministic(true))
	if err != nil {
		s.t.Fatalf("encode %T: %v", v, err)
	}
	return data
}

// Append has events happen to an aggregate, and answers them as they are stored.
func (s *System) Append(stream, aggregate string, events ...function.DomainEvent) []function.Message {
	s.t.Helper()
	a := eventstore.Append{Stream: stream, Aggregate: aggregate, Expected: eventstore.Any}
	for _, e := range events {
		data, schema, err := function.Encode(e)
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		s.appended++
		a.Events = append(a.Events, eventstore.Event{
			ID: fmt.Sprintf("appended%d", s.appended), Type: e.EventType(), Schema: schema, CorrelationID: aggregate, Data: data,
		})
	}
	done, err := s.Store.Append(s.t.Context(), a)
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return done.Events
}

// Events are what happened to an aggregate so far.
func (s *System) Events(stream, aggregate string) []function.Message {
	s.t.Helper()
	events, err := eventstore.Collect(s.Store.ReadAggregate(s.t.Context(), eventstore.AggregateRead{Stream: stream, Aggregate: aggregate}))
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return events
}

// Await waits until an aggregate has events of these types, in this order and
// no others, and answers them.
func (s *System) Await(stream, aggregate string, types ...string) (events []function.Message) {
	s.t.Helper()
	s.Eventually(fmt.Sprintf("%s %q has %v", stream, aggregate, types), func() error {
		events = s.Events(stream, aggregate)
		var got []string
		for _, e := range events {
			got = append(got, e.Type)
		}
		if !slices.Equal(got, types) {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
	return events
}

// Eventually waits until ok returns nil. When that takes longer than half a
// minute, the test ends with what should be, and the last error.
func (s *System) Eventually(what string, ok func() error) {
	s.t.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(look) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not after %v: %v", what, timeout, err)
		}
	}
}
