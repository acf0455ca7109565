package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// send makes a request with headers.
func (w *world) send(subject, body string, header nats.Header) *nats.Msg {
	w.t.Helper()
	m, err := w.nc.RequestMsg(&nats.Msg{Subject: subject, Data: []byte(body), Header: header}, 10*time.Second)
	if err != nil {
		w.t.Fatalf("%s %s: %v", subject, body, err)
	}
	return m
}

// TestARepeatedCommandIsDoneOnce: its message id gives the events their ids, also
// for a replica that knows nothing of the first time.
func TestARepeatedCommandIsDoneOnce(t *testing.T) {
	w := newWorld(t)
	f := function.Function{Name: "counters", Doors: []function.Door{
		function.Create("counters.open", open), function.Command("counters.add", add),
	}}
	h := w.start(f)
	w.request("counters.open", `{"id":"a"}`)
	first := w.send("counters.add", `{"id":"a","by":2}`, nats.Header{nats.MsgIdHdr: {"m1"}})
	for range 2 {
		again := w.send("counters.add", `{"id":"a","by":2}`, nats.Header{nats.MsgIdHdr: {"m1"}})
		if string(again.Data) != string(first.Data) || again.Header.Get(micro.ErrorCodeHeader) != "" {
			t.Errorf("answered %s, and before %s", again.Data, first.Data)
		}
		w.stop(h)
		h = w.start(f)
	}
	w.send("counters.add", `{"id":"a","by":2}`, nats.Header{nats.MsgIdHdr: {"m2"}})
	if n := w.count("COUNTERS", "counted"); n != 2 {
		t.Errorf("%d were counted, of two commands", n)
	}
}

// TestIDsThatNoEventCanHave are as good as any other: each is its own request's.
func TestIDsThatNoEventCanHave(t *testing.T) {
	w := newWorld(t)
	w.start(function.Function{Name: "counters", Doors: []function.Door{
		function.Create("counters.open", open), function.Command("counters.add", add),
	}})
	w.request("counters.open", `{"id":"a"}`)
	ids := []string{"cancel order 1", "cancel order 2", "größe", strings.Repeat("x", 201), strings.Repeat("x", 202)}
	for range 2 {
		for _, id := range ids {
			m := w.send("counters.add", `{"id":"a","by":1}`, nats.Header{nats.MsgIdHdr: {id}})
			if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
				t.Errorf("%q is answered %s: %s", id, code, m.Data)
			}
		}
	}
	if n := w.count("COUNTERS", "counted"); n != len(ids) {
		t.Errorf("%d were counted, of %d commands", n, len(ids))
	}
}

// TestOverload: what is beyond slots and queue is refused at once, what is within
// is done, and stats tell both.
func TestOverload(t *testing.T) {
	const slots, extra = 4, 50
	w := newWorld(t)
	release := make(chan struct{})
	var begun atomic.Int32
	w.start(function.Function{Name: "busy", Concurrency: slots, Doors: []function.Door{
		function.Endpoint("busy.do", func(context.Context, nothing) (nothing, error) {
			begun.Add(1)
			<-release
			return nothing{}, nil
		}),
	}})
	var wg sync.WaitGroup
	var done, refused atomic.Int32
	for range 2*slots + extra {
		wg.Go(func() {
			m := w.send("busy.do", `{}`, nil)
			switch m.Header.Get(micro.ErrorCodeHeader) {
			case "":
				done.Add(1)
			case "429":
				if refused.Add(1); m.Header.Get("Retry-After") == "" {
					t.Error("refused without Retry-After")
				}
			}
		})
	}
	w.eventually("refuse while the others still run", func() error {
		if n := refused.Load(); n != extra {
			return fmt.Errorf("%d of %d", n, extra)
		}
		return nil
	})
	if n := begun.Load(); n != slots {
		t.Errorf("%d run at once", n)
	}
	close(release)
	wg.Wait()
	found, err := discovery.Find(t.Context(), w.nc, "busy")
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	if s := found[0].Stats[0]; done.Load() != 2*slots || s.NumRequests != 2*slots+extra || s.NumErrors != extra {
		t.Errorf("%d done, %d counted, %d as errors", done.Load(), s.NumRequests, s.NumErrors)
	}
}

// TestSlowAnswersAreTooManyRequests: an endpoint that takes much longer than it did
// refuses, though it has places left, and lets some in; when it is quick again it
// refuses none.
func TestSlowAnswersAreTooManyRequests(t *testing.T) {
	const slots = 16
	w := newWorld(t)
	var takes, begun atomic.Int64
	w.start(function.Function{Name: "slow", Concurrency: slots, Doors: []function.Door{
		function.Endpoint("slow.do", func(context.Context, nothing) (nothing, error) {
			begun.Add(1)
			time.Sleep(time.Duration(takes.Load()))
			return nothing{}, nil
		}),
	}})
	for began := time.Now(); time.Since(began) < 300*time.Millisecond; { // so it learns what is usual
		w.send("slow.do", `{}`, nil)
	}
	refused := func() (n int64) {
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range slots { // half of the places
			wg.Go(func() {
				if w.send("slow.do", `{}`, nil).Header.Get(micro.ErrorCodeHeader) == "429" {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		return refused.Load()
	}
	takes.Store(int64(300 * time.Millisecond))
	w.eventually("refuse some", func() error {
		if refused() == 0 {
			return errors.New("all are let in")
		}
		return nil
	})
	if before := begun.Load(); refused() == slots || begun.Load() == before {
		t.Error("none is let in")
	}
	takes.Store(0)
	w.eventually("let all in", func() error {
		if n := refused(); n > 0 {
			return fmt.Errorf("%d are refused", n)
		}
		return nil
	})
}

// TestABusyAggregateLeavesTheEndpointToOthers: many commands to one that is slow
// are refused, and those to others are done.
func TestABusyAggregateLeavesTheEndpointToOthers(t *testing.T) {
	const slots, asked, done = 8, 20, 1 + 8/4
	w := newWorld(t)
	w.append(20)
	release := make(chan struct{})
	w.start(function.Function{Name: "hot", Concurrency: slots, Doors: []function.Door{
		function.Command("hot.add", func(_ context.Context, c counter, _ addRequest) ([]event, error) {
			if c.ID == "c0" {
				<-release
			}
			return nil, nil
		}),
	}})
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range asked {
		wg.Go(func() {
			m := w.send("hot.add", `{"id":"c0"}`, nil)
			if m.Header.Get(micro.ErrorCodeHeader) == "429" && containsText(m.Data, "too many requests for this one") {
				refused.Add(1)
			}
		})
	}
	w.eventually("refuse what does not fit", func() error {
		if n := refused.Load(); n != asked-done {
			return fmt.Errorf("%d of %d", n, asked-done)
		}
		return nil
	})
	for i := 1; i < 20; i++ {
		if m := w.send("hot.add", fmt.Sprintf(`{"id":"c%d"}`, i), nil); m.Header.Get(micro.ErrorCodeHeader) != "" {
			t.Errorf("c%d: %s", i, m.Data)
		}
	}
	close(release)
	wg.Wait()
	if n := refused.Load(); n != asked-done {
		t.Errorf("%d of %d were refused", n, asked)
	}
}

// TestWhoHasGivenUpIsNotBegun, and a handler's context ends when its caller gives
// up.
func TestWhoHasGivenUpIsNotBegun(t *testing.T) {
	w := newWorld(t)
	var begun atomic.Int32
	w.start(function.Function{Name: "slow", Concurrency: 1, Doors: []function.Door{
		function.Endpoint("slow.do", func(ctx context.Context, _ nothing) (nothing, error) {
			begun.Add(1)
			<-ctx.Done()
			return nothing{}, ctx.Err()
		}),
	}})
	ask := func(patience string) string {
		return w.send("slow.do", `{}`, nats.Header{host.TimeoutHeader: {patience}}).Header.Get(micro.ErrorCodeHeader)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if code := ask("1s"); code != "503" {
			t.Errorf("who gave up was answered %q", code)
		}
	})
	w.eventually("begin the first", func() error {
		if begun.Load() == 0 {
			return errors.New("it was not begun")
		}
		return nil
	})
	if code := ask("10ms"); code != "429" || begun.Load() != 1 {
		t.Errorf("who gave up before was answered %q; %d were begun", code, begun.Load())
	}
	wg.Wait()
	if m := w.send("slow.do", `{}`, nats.Header{host.TimeoutHeader: {"soon"}}); m.Header.Get(micro.ErrorCodeHeader) != "400" {
		t.Errorf("answered %v %s", m.Header, m.Data)
	}
}
