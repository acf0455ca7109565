package host_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// TestTimersAreArmedAgain every while: what went from TIMERS with its durable in
// place, which nobody notices, comes back while the function runs.
func TestTimersAreArmedAgain(t *testing.T) {
	const n = 10
	w := newWorld(t)
	w.append(n)
	d := waitUntil(w.store, time.Now().Add(time.Hour))
	all, calls := d.open, 0 // never two at once
	again, lost := make(chan struct{}), make(chan struct{})
	d.open = func(ctx context.Context) iter.Seq2[string, error] {
		if calls++; calls == 2 { // the first time is over, and all of it stored
			close(again)
			<-lost
		}
		return all(ctx)
	}
	h, err := host.Start(timed("late", d), host.Options{
		Conn: w.nc, Store: w.store, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond, ArmAgain: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop(h)
	goOn := sync.OnceFunc(func() { close(lost) })
	defer goOn()
	w.eventually("be ready", h.Ready)
	w.eventually("acknowledge all events", func() error {
		if c := w.consumer("late"); c.AckFloor.Stream != n {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	w.timers(n)
	select {
	case <-again:
	case <-time.After(30 * time.Second):
		t.Fatal("they are not armed again")
	}
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), function.TimersStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.timers(0)
	goOn()
	w.timers(n)
}
