package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// A domain of its own: a counter that is opened, and counted up by each event.
type (
	counter struct {
		ID      string `json:"id"`
		Value   int    `json:"value"`
		Version int    `json:"version"`
	}
	opened  struct{ ID string }
	counted struct{ By int }
	event   interface{ EventType() string }
)

func (opened) EventType() string  { return "opened" }
func (counted) EventType() string { return "counted" }
func (counter) Stream() string    { return "COUNTERS" }

func (counter) Decode(typ string, _ int, data []byte) (event, error) {
	switch typ {
	case "opened":
		var e opened
		err := json.Unmarshal(data, &e)
		return e, err
	default:
		var e counted
		err := json.Unmarshal(data, &e)
		return e, err
	}
}

func (c counter) Evolve(e event) counter {
	c.Version++
	switch e := e.(type) {
	case opened:
		c.ID = e.ID
	case counted:
		c.Value += e.By
	}
	return c
}

type openRequest struct {
	ID string `json:"id"`
}

func (r openRequest) AggregateID() string { return r.ID }
func (r *openRequest) Check() error {
	if !eventstore.IsID(r.ID) {
		return function.Invalid("id", "is no id")
	}
	return nil
}

type addRequest struct {
	ID string `json:"id"`
	By int    `json:"by"`
}

func (r addRequest) AggregateID() string { return r.ID }

func open(_ context.Context, c counter, r openRequest) ([]event, error) {
	if c.Version > 0 {
		return nil, nil
	}
	return []event{opened(r)}, nil
}

func add(_ context.Context, _ counter, r addRequest) ([]event, error) {
	return []event{counted{r.By}}, nil
}

// world is a server, a store and a relay.
type world struct {
	t      testing.TB
	server *natstest.Server
	nc     *nats.Conn
	store  *sqlite.Store
	// observer is that of the functions that start; may be nil.
	observer host.Observer
}

// newWorld makes one, whose relay makes the durables of the functions' timers too,
// as a process with an event store does.
func newWorld(t testing.TB, functions ...function.Function) *world {
	t.Helper()
	w := &world{t: t, server: natstest.Start(t)}
	w.nc = w.server.Connect()
	var err error
	if w.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	timers, durables := host.Timers(1, functions...)
	r, err := relay.New(w.store, w.nc, relay.Options{
		Others:  []relay.Other{{Config: timers, Durables: durables}},
		Streams: []string{"COUNTERS"}, Floors: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

func (w *world) start(f function.Function) *host.Host {
	w.t.Helper()
	if f.Backoff == 0 {
		f.Backoff = 10 * time.Millisecond
	}
	h, err := host.Start(f, host.Options{
		Conn: w.nc, Store: w.store, Logger: slog.New(slog.DiscardHandler), Release: "1.2.3", PullExpiry: 100 * time.Millisecond,
		Observer: w.observer,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.stop(h) })
	return h
}

func (w *world) stop(h *host.Host) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		w.t.Error(err)
	}
}

func (w *world) eventually(what string, ok func() error) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// append adds the first event of n counters.
func (w *world) append(n int) {
	w.t.Helper()
	w.appendFrom(0, n)
}

func (w *world) appendFrom(from, to int) {
	w.t.Helper()
	for i := from; i < to; i++ {
		id := fmt.Sprintf("c%d", i)
		e := storetest.Event("opened", fmt.Sprintf(`{"ID":%q}`, id))
		_, err := w.store.Append(w.t.Context(), eventstore.Append{Stream: "COUNTERS", Aggregate: id, Expected: eventstore.New, Events: []eventstore.Event{e}})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) count(stream, typ string) int {
	w.t.Helper()
	n := 0
	for _, e := range storetest.Consistent(w.t, w.t.Context(), w.store, stream) {
		if e.Type == typ {
			n++
		}
	}
	return n
}

func (w *world) request(subject, body string) *nats.Msg {
	w.t.Helper()
	m, err := w.nc.Request(subject, []byte(body), 10*time.Second)
	if err != nil {
		w.t.Fatalf("%s %s: %v", subject, body, err)
	}
	return m
}

// step makes a function that counts each opened counter once.
func step(name string, handle func(context.Context, counter, opened) ([]event, error)) function.Function {
	return function.Function{Name: name, Doors: []function.Door{function.On(handle)}}
}

func countOnce(_ context.Context, c counter, _ opened) ([]event, error) {
	if c.Value > 0 {
		return nil, nil
	}
	return []event{counted{1}}, nil
}

func containsText(data []byte, want string) bool { return strings.Contains(string(data), want) }
