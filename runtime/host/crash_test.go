package host_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// serve has the store answer to other processes, until the test ends.
func (w *world) serve() (address string) {
	w.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	server := rpc.NewServer(w.store, rpc.Access{}, slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	w.t.Cleanup(func() { server.Stop(context.WithoutCancel(w.t.Context())); wg.Wait() })
	return l.Addr().String()
}

const (
	childNATS  = "HOST_TEST_NATS"
	childStore = "HOST_TEST_STORE"
	childBusy  = "HOST_TEST_BUSY"  // the name of a function that takes 5 ms for everything
	childSlow  = "HOST_TEST_SLOW"  // c0 takes its time, and so is under way when c7 ends the process
	childSame  = "HOST_TEST_SAME"  // so does the function neighbour in the same process
	childTimer = "HOST_TEST_TIMER" // it ends when a timer fires
)

// child is a process of its own that ends when it handles the event of c7.
func child() error {
	nc, err := nats.Connect(os.Getenv(childNATS))
	if err != nil {
		return err
	}
	store, err := rpc.Dial(os.Getenv(childStore))
	if err != nil {
		return err
	}
	f := step("poisoned", func(ctx context.Context, c counter, e opened) ([]event, error) {
		if c.ID == "c0" && os.Getenv(childSlow) != "" {
			time.Sleep(400 * time.Millisecond)
		}
		if c.ID == "c7" {
			if os.Getenv(childSame) != "" {
				time.Sleep(200 * time.Millisecond) // the neighbour begins
			}
			os.Exit(7)
		}
		return countOnce(ctx, c, e)
	})
	if os.Getenv(childTimer) != "" {
		d := waitUntil(store, time.Now())
		d.fire = func(context.Context, counter) ([]event, error) { os.Exit(7); return nil, nil }
		f = timed("late", d)
	}
	f.Attempts, f.Concurrency = 2, 8
	if name := os.Getenv(childBusy); name != "" {
		f = step(name, func(context.Context, counter, opened) ([]event, error) {
			time.Sleep(5 * time.Millisecond)
			return nil, nil
		})
	}
	functions, alone := []function.Function{f}, host.NewAlone()
	if os.Getenv(childSame) != "" {
		other := step("neighbour", func(_ context.Context, c counter, _ opened) ([]event, error) {
			if c.ID == "c0" {
				time.Sleep(400 * time.Millisecond)
			}
			return nil, nil
		})
		other.Attempts = 2
		functions = append(functions, other)
	}
	for _, f := range functions {
		if _, err := host.Start(f, host.Options{
			Conn: nc, Store: store, Alone: alone, Logger: slog.New(slog.DiscardHandler), PullExpiry: 100 * time.Millisecond,
		}); err != nil {
			return err
		}
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test ends
	return nil
}

// TestTimersOfAKilledReplica fire in another, when its lease has ended.
func TestTimersOfAKilledReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(3)
	due := time.Now()
	var exit *exec.ExitError
	if err := w.child(t.Context(), w.serve(), childTimer+"=1"); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Fatal(err)
	}
	d := waitUntil(w.store, due)
	d.open = func(context.Context) iter.Seq2[string, error] { // those that were armed are enough
		return func(func(string, error) bool) {}
	}
	w.start(timed("late", d))
	w.once(3, due)
}

// TestACrashLoopBuriesWhatCausesIt, and none of its neighbours.
func TestACrashLoopBuriesWhatCausesIt(t *testing.T) {
	w := newWorld(t)
	w.durable("poisoned")
	w.append(20)
	w.crashLoop(19)
}

// TestASuspectIsNotHandledBesideAnother: one that many deliveries made suspect is
// under way whenever a fresh one ends the process, and must not be taken for it.
func TestASuspectIsNotHandledBesideAnother(t *testing.T) {
	t.Setenv(childSlow, "1")
	w := newWorld(t)
	c := w.durable("poisoned")
	w.append(1)
	w.suspect(c, 1)
	w.appendFrom(1, 12)
	w.crashLoop(11)
}

// TestASuspectIsNotHandledBesideAnotherFunction of its process.
func TestASuspectIsNotHandledBesideAnotherFunction(t *testing.T) {
	t.Setenv(childSame, "1")
	w := newWorld(t)
	w.durable("poisoned")
	c := w.durable("neighbour")
	w.append(1)
	w.suspect(c, 1)
	w.appendFrom(1, 12)
	w.crashLoop(11)
	for _, e := range storetest.Consistent(t, t.Context(), w.store, deadletter.Stream) {
		if containsText(e.Data, `"function":"neighbour"`) {
			t.Errorf("an innocent was buried: %s", e.Data)
		}
	}
}

// crashLoop runs child again and again, until so many are counted and one is
// buried.
func (w *world) crashLoop(counted int) {
	t := w.t
	t.Helper()
	address := w.serve()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	var crashes atomic.Int32
	wg.Go(func() {
		for ctx.Err() == nil {
			var exit *exec.ExitError
			if errors.As(w.child(ctx, address), &exit) && exit.ExitCode() == 7 {
				crashes.Add(1)
			}
		}
	})
	w.eventually("handle all but one", func() error {
		got, buried := w.count("COUNTERS", "counted"), w.count(deadletter.Stream, deadletter.TypeBuried)
		if got != counted || buried != 1 {
			return fmt.Errorf("%d of %d counted, %d buried, %d crashes", got, counted, buried, crashes.Load())
		}
		return nil
	})
	cancel()
}
