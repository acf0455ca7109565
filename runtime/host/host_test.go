package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childNATS) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	natstest.Main(m)
}

func TestRequests(t *testing.T) {
	w := newWorld(t)
	boom := func(context.Context, addRequest) (int, error) { panic("secret") }
	broken := func(context.Context, addRequest) (int, error) { return 0, errors.New("secret") }
	w.start(function.Function{Name: "counters", Doors: []function.Door{
		function.Create("counters.open", open), function.Command("counters.add", add),
		function.Endpoint("counters.panic", boom), function.Endpoint("counters.broken", broken),
	}})
	for _, c := range []struct{ subject, body, code, want string }{
		{"counters.open", `{"id":"a"}`, "", `{"id":"a","value":0,"version":1}`},
		{"counters.add", `{"id":"a","by":2}`, "", `{"id":"a","value":2,"version":2}`},
		{"counters.add", `{"id":"a","by":3}`, "", `{"id":"a","value":5,"version":3}`},
		{"counters.open", `{"id":"a"}`, "", `{"id":"a","value":0,"version":1}`}, // as it was first made
		{"counters.add", `{"id":"b","by":3}`, "404", `{"code":404,"error":"id: there is no \"b\" in COUNTERS","field":"id"}`},
		{"counters.open", `{"id":"a.b"}`, "400", `{"code":400,"error":"id: is no id","field":"id"}`},
		{"counters.open", `{"id":"a","x":1}`, "400", `{"code":400,"error":"x: is not a field of this request","field":"x"}`},
		{"counters.open", `nonsense`, "400", ""},
		{"counters.panic", `{}`, "500", ""},
		{"counters.broken", `{}`, "500", ""},
	} {
		m := w.request(c.subject, c.body)
		if got := m.Header.Get(micro.ErrorCodeHeader); got != c.code || c.want != "" && string(m.Data) != c.want {
			t.Errorf("%s %s: %s %s, want %s %s", c.subject, c.body, got, m.Data, c.code, c.want)
		}
		if c.code != "" && (m.Header.Get(micro.ErrorHeader) == "" || json.Valid(m.Data) == false) {
			t.Errorf("%s %s: %v %s", c.subject, c.body, m.Header, m.Data)
		}
		if c.code == "500" && (len(m.Data) == 0 || containsSecret(m)) {
			t.Errorf("%s tells too much: %s", c.subject, m.Data)
		}
	}
	found, err := discovery.Find(t.Context(), w.nc, "counters")
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	done, failed := 0, 0
	for _, s := range found[0].Stats {
		done, failed = done+s.NumRequests, failed+s.NumErrors
	}
	if done != 10 || failed != 6 || found[0].Version != "1.2.3" {
		t.Fatalf("stats say %d requests and %d errors", done, failed)
	}
}

func containsSecret(m *nats.Msg) bool {
	return strings.Contains(string(m.Data)+m.Header.Get(micro.ErrorHeader), "secret")
}

func TestRequestsRunAtOnceAndDrain(t *testing.T) {
	w := newWorld(t)
	var running, most atomic.Int32
	release := make(chan struct{})
	slow := func(ctx context.Context, _ addRequest) (int, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-release:
			return 1, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	h := w.start(function.Function{Name: "slow", Concurrency: 8, Doors: []function.Door{function.Endpoint("slow.do", slow)}})
	var wg sync.WaitGroup
	var answered atomic.Int32
	for range 16 {
		wg.Go(func() {
			if m, err := w.nc.Request("slow.do", []byte(`{}`), 20*time.Second); err == nil && string(m.Data) == "1" {
				answered.Add(1)
			}
		})
	}
	w.eventually("fill all slots", func() error {
		if running.Load() != 8 {
			return fmt.Errorf("%d run", running.Load())
		}
		return nil
	})
	// All sixteen are in hand: a stop waits for every one of them.
	w.eventually("take all", func() error { return w.nc.Flush() })
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	w.stop(h)
	wg.Wait()
	if answered.Load() != 16 || most.Load() != 8 {
		t.Fatalf("%d of 16 answered, %d at once", answered.Load(), most.Load())
	}
}

// TestWhoWaitedTooLongIsNotBegun: the second of one aggregate waits longer than
// it may take.
func TestWhoWaitedTooLongIsNotBegun(t *testing.T) {
	const deadline = 500 * time.Millisecond // more than a busy machine takes to begin
	w := newWorld(t)
	var begun atomic.Int32
	release := make(chan struct{})
	slow := func(_ context.Context, c counter, _ addRequest) ([]event, error) { // a handler that does not look at its context
		if c.ID == "a" {
			begun.Add(1)
			<-release
		}
		return nil, nil
	}
	w.start(function.Function{
		Name: "slow", Deadline: deadline,
		Doors: []function.Door{function.Command("slow.do", slow), function.Create("slow.open", open)},
	})
	w.request("slow.open", `{"id":"a"}`)
	w.request("slow.open", `{"id":"b"}`)
	answers, err := w.nc.SubscribeSync(w.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		if err := w.nc.PublishRequest("slow.do", answers.Subject, []byte(`{"id":"a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	w.eventually("begin the first", func() error {
		if begun.Load() == 0 {
			return errors.New("it was not begun")
		}
		return nil
	})
	ask()
	w.request("slow.do", `{"id":"b"}`) // they are taken in order: so the second waits now
	<-time.After(2 * deadline)         // for longer than it may
	close(release)
	var codes []string
	for range 2 {
		m, err := answers.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, m.Header.Get(micro.ErrorCodeHeader))
	}
	if begun.Load() != 1 || !slices.Contains(codes, "429") {
		t.Fatalf("%d were begun, answered %q", begun.Load(), codes)
	}
}

func TestEventsAreHandledOnce(t *testing.T) {
	w := newWorld(t)
	const n = 300
	w.append(n / 2)
	w.start(step("one", countOnce))
	w.start(step("one", countOnce)) // a second replica shares the work
	w.appendFrom(n/2, n)
	w.eventually("handle all", func() error {
		if got := w.count("COUNTERS", "counted"); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	found, err := discovery.Find(t.Context(), w.nc, "one")
	if err != nil || len(found) != 2 {
		t.Fatalf("found %+v, %v", found, err)
	}
}

func TestSurvivesLossOfItsDurableAndOfNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(step("one", countOnce))
	handled := func(n int) {
		t.Helper()
		w.eventually(fmt.Sprintf("handle %d", n), func() error {
			if got := w.count("COUNTERS", "counted"); got != n {
				return fmt.Errorf("%d of %d", got, n)
			}
			return nil
		})
	}
	w.appendFrom(0, 10)
	handled(10)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), "COUNTERS", "one"); err != nil {
		t.Fatal(err)
	}
	w.appendFrom(10, 20)
	handled(20)
	w.server.Restart()
	w.appendFrom(20, 30)
	handled(30)
	w.server.Stop()
	w.server.Wipe()
	w.appendFrom(30, 40)
	w.server.Restart()
	w.appendFrom(40, 50)
	handled(50)
}

func TestProjectionGetsEverythingInBatches(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	seen := map[uint64]int{}
	failed := false
	w.start(function.Function{Name: "view", Doors: []function.Door{
		function.Project("COUNTERS", func(_ context.Context, _ function.Log, batch []function.Message) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range batch {
				if e.Position == 77 && !failed {
					failed = true
					return errors.New("once")
				}
			}
			for _, e := range batch {
				seen[e.Position]++
			}
			return nil
		}),
	}})
	w.append(200)
	w.eventually("see all", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) != 200 {
			return fmt.Errorf("%d of 200", len(seen))
		}
		return nil
	})
}

func TestStopGivesBackWhatHasNotBegun(t *testing.T) {
	w := newWorld(t)
	seen := &watcher{}
	w.observer = seen
	block := make(chan struct{})
	first := w.start(function.Function{Name: "one", Concurrency: 2, Doors: []function.Door{
		function.On(func(ctx context.Context, c counter, e opened) ([]event, error) {
			<-block
			return countOnce(ctx, c, e)
		}),
	}})
	w.append(12)
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("be in hand", func() error {
		c, err := js.Consumer(t.Context(), "COUNTERS", "one")
		if err == nil && c.CachedInfo().NumAckPending < 4 {
			return fmt.Errorf("%d in hand", c.CachedInfo().NumAckPending)
		}
		return err
	})
	time.AfterFunc(20*time.Millisecond, func() { close(block) })
	w.stop(first)
	back := 0
	for _, o := range seen.all {
		if o.ended != 1 || o.settled != o.begun {
			t.Errorf("observed %+v", o)
		}
		back += 1 - o.settled
	}
	if back == 0 {
		t.Error("the observer was not told of what was given back")
	}
	began := time.Now()
	w.start(step("one", countOnce))
	w.eventually("handle the rest", func() error {
		if got := w.count("COUNTERS", "counted"); got != 12 {
			return fmt.Errorf("%d of 12", got)
		}
		return nil
	})
	if took := time.Since(began); took > 15*time.Second {
		t.Fatalf("took %v: the rest waited for its lease to end", took)
	}
}
