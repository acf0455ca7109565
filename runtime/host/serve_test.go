package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

// front is a server that serves nobody: a test is its caller.
type front struct {
	function.Port
	problem error
	stopped int
}

func (f *front) Ready() error               { return f.problem }
func (f *front) Stop(context.Context) error { f.stopped++; return nil }

// serve runs f as a function, with room for so many calls.
func (f *front) serve(w *world, concurrency int) *host.Host {
	w.t.Helper()
	return w.start(function.Function{
		Name: "front", Concurrency: concurrency, Deadline: 300 * time.Millisecond,
		Doors: []function.Door{function.Serve("test", func(p function.Port) (function.Serving, error) {
			f.Port = p
			return f, nil
		})},
	})
}

// TestAServerAsks has what others answer, and that they don't, come as it is.
func TestAServerAsks(t *testing.T) {
	w, f, seen := newWorld(t), &front{}, &watcher{}
	w.observer = seen
	f.serve(w, 4)
	var header nats.Header
	answered := make(chan struct{}) // by then the caller has given up
	defer close(answered)
	w.start(function.Function{Name: "counters", Doors: []function.Door{
		function.Create("counters.open", open),
		function.Endpoint("counters.slow", func(ctx context.Context, _ addRequest) (int, error) { <-answered; return 0, ctx.Err() }),
		function.Endpoint("counters.broken", func(context.Context, addRequest) (int, error) { return 0, errors.New("secret") }),
	}})
	for subject, code := range map[string]string{"foreign.error": "404", "foreign.nonsense": "teapot"} {
		if _, err := w.nc.Subscribe(subject, func(m *nats.Msg) {
			header = m.Header
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {"not here"}}})
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		subject, request, reply string
		want                    function.Refusal
	}{
		{"counters.open", `{"id":"a"}`, `{"id":"a","value":0,"version":1}`, function.Refusal{}},
		{"counters.open", `{"id":"a.b"}`, "", function.Refusal{Code: function.CodeInvalid, Field: "id", Reason: "is no id"}},
		{"counters.broken", `{}`, "", function.Refusal{Code: function.CodeInternal, Reason: "internal error "}},
		{"counters.slow", `{}`, "", function.Refusal{Code: function.CodeUnavailable, Reason: "counters.slow did not answer in time"}},
		{"counters.none", `{}`, "", function.Refusal{Code: function.CodeUnavailable, Reason: "nobody answers counters.none"}},
		{"foreign.error", `{}`, "", function.Refusal{Code: function.CodeNotFound, Reason: "not here"}},
		{"foreign.nonsense", `{}`, "", function.Refusal{Code: function.CodeInternal, Reason: "internal error "}},
		{"counters.open", `"` + strings.Repeat("x", 2<<20) + `"`, "", function.Refusal{Code: function.CodeInvalid, Field: "body", Reason: "is larger than the"}},
	} {
		call := f.Operation("ask", "ASK "+c.subject)
		reply := []byte(nil)
		ctx := function.WithCause(t.Context(), function.Cause{ID: "req-1", Traceparent: "00-trace"})
		no := call(ctx, func(ctx context.Context) (err error) {
			reply, err = f.Ask(ctx, c.subject, []byte(c.request))
			return err
		})
		if no == nil {
			no = &function.Refusal{}
		}
		if string(reply) != c.reply || no.Code != c.want.Code || no.Field != c.want.Field || !strings.HasPrefix(no.Reason, c.want.Reason) || strings.Contains(no.Reason, "secret") {
			t.Errorf("%s %.80s: %s %+v", c.subject, c.request, reply, no)
		}
	}
	if header.Get(nats.MsgIdHdr) != "req-1" || header.Get("traceparent") != "00-trace-observed" || header.Get(host.TimeoutHeader) == "" {
		t.Errorf("the cause does not go along: %v", header)
	}
	if got := seen.outcomes("ASK counters.open"); !maps.Equal(got, map[string]int{"200": 1, "400": 2}) {
		t.Errorf("observed %v", got)
	}
	w.server.Stop()
	w.eventually("notice that NATS is away", func() error {
		if w.nc.IsConnected() {
			return errors.New("it is there")
		}
		return nil
	})
	if _, err := f.Ask(t.Context(), "counters.open", nil); !errors.Is(err, function.ErrUnavailable) {
		t.Errorf("without NATS: %v", err)
	}
	w.server.Restart()
}

// TestAServersCalls are counted as an endpoint's, and bounded; a panic is one that
// failed.
func TestAServersCalls(t *testing.T) {
	w, f := newWorld(t), &front{}
	h := f.serve(w, 1)
	call := f.Operation("do", "DO /it")
	if no := call(t.Context(), func(context.Context) error { panic("secret") }); no == nil || no.Code != function.CodeInternal || strings.Contains(no.Reason, "secret") {
		t.Errorf("a panic: %+v", no)
	}
	no := call(t.Context(), func(ctx context.Context) error {
		if no := call(ctx, func(context.Context) error { return nil }); no == nil || no.Code != function.CodeOverloaded {
			t.Errorf("one too many: %+v", no)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if no == nil || no.Code != function.CodeUnavailable {
		t.Errorf("one that takes too long: %+v", no)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if no := call(gone, func(ctx context.Context) error { return ctx.Err() }); no == nil {
		t.Error("one whose caller is gone went well")
	}
	if no := call(t.Context(), func(context.Context) error { return nil }); no != nil {
		t.Errorf("all is well: %+v", no)
	}
	found, err := discovery.Find(t.Context(), w.nc, "front")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	e, s := found[0].Endpoints[0], found[0].Stats[0]
	if e.Name != "do" || e.Subject != "DO /it" || e.Metadata[discovery.MetadataKind] != "test" || s.NumRequests != 5 || s.NumErrors != 4 || s.LastError != "499:the caller went away" {
		t.Errorf("it tells %+v, %+v", e, s)
	}
	if f.problem = errors.New("no door"); !errors.Is(h.Ready(), f.problem) {
		t.Errorf("it is ready: %v", h.Ready())
	}
	if w.stop(h); f.stopped != 1 {
		t.Errorf("it was stopped %d times", f.stopped)
	}
}

// TestAServerFollows is told of each aggregate that something happened to, of all
// when it may have missed something, and of nothing that is no event.
func TestAServerFollows(t *testing.T) {
	w, f := newWorld(t), &front{}
	f.serve(w, 1)
	told := make(chan string, 100)
	stop, err := f.Follow("COUNTERS", func(aggregate string) { told <- aggregate })
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told of %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not told of %q", want)
		}
	}
	if err := w.nc.Publish("COUNTERS.opened", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	w.append(2)
	expect("c0")
	expect("c1")
	w.server.Restart()
	expect("")
	stop()
	e := storetest.Event("opened", `{"ID":"c2"}`)
	if _, err := w.store.Append(t.Context(), eventstore.Append{Stream: "COUNTERS", Aggregate: "c2", Expected: eventstore.New, Events: []eventstore.Event{e}}); err != nil {
		t.Fatal(err)
	}
	watch, err := w.nc.SubscribeSync("COUNTERS.>")
	if err != nil {
		t.Fatal(err)
	}
	w.appendFrom(3, 4)
	if _, err := watch.NextMsg(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if len(told) > 0 {
		t.Errorf("still told of %q", <-told)
	}
}

func TestAServerThatCantServe(t *testing.T) {
	w := newWorld(t)
	no := errors.New("no door")
	_, err := host.Start(function.Function{Name: "front", Doors: []function.Door{
		function.Serve("test", func(function.Port) (function.Serving, error) { return nil, no }),
	}}, host.Options{Conn: w.nc, Store: w.store})
	if !errors.Is(err, no) || !strings.Contains(fmt.Sprint(err), "serve test") {
		t.Errorf("it says %v", err)
	}
}
