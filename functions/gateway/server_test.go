package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// TestDrain stops a gateway that answers one request and is watched: the answer
// comes, the watcher is told to come again, and nobody is let in.
func TestDrain(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	slow := function.Endpoint("orders.place", func(context.Context, struct{}) (order.Order, error) {
		close(began)
		<-finish
		return order.Order{ID: "o2", Version: 1}, nil
	})
	w := begin(t, &gateway{pace: calm}, history(), function.Function{Name: "slow", Doors: []function.Door{slow}})
	w.placeHere("o1")
	f := w.watch("o1", "")
	f.expect("1 created")
	var wg sync.WaitGroup
	wg.Go(func() {
		if a := w.do("POST", "/api/orders", "{}"); a.status != 201 {
			t.Errorf("what ran is answered with %+v", a)
		}
	})
	<-began
	stopped := make(chan struct{})
	wg.Go(func() { w.stop(); close(stopped) })
	f.expect(": stopping; come again with Last-Event-ID", "")
	w.Eventually("the door is closed", func() error {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err == nil {
			return c.Close()
		}
		return nil
	})
	if err := w.host.Ready(); err == nil {
		t.Error("it is ready while it stops")
	}
	select {
	case <-stopped:
		t.Error("it stopped before the answer was out")
	default:
	}
	close(finish)
	wg.Wait()
}

// TestDrainRunsOutOfTime breaks off what does not end.
func TestDrainRunsOutOfTime(t *testing.T) {
	began := make(chan struct{})
	w := begin(t, &gateway{pace: calm})
	sub, err := w.Conn.SubscribeSync("orders.place") // and never answers
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		close(began)
		resp, err := http.Post(w.url+"/api/orders", "application/json", strings.NewReader("{}"))
		if err == nil {
			_ = resp.Body.Close()
		}
	})
	<-began
	if _, err := sub.NextMsg(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := w.host.Stop(ctx); err == nil {
		t.Error("it says that all is finished")
	}
	wg.Wait()
	w.host = nil // it is stopped
}

// TestTimes has a request take longer than it may take to arrive, which is nothing
// against it; one that does not arrive; and one whose caller goes away.
func TestTimes(t *testing.T) {
	p := calm
	p.read = 100 * time.Millisecond
	asking, gone := make(chan struct{}), make(chan struct{})
	slow := function.Endpoint("orders.place", func(ctx context.Context, _ struct{}) (order.Order, error) {
		<-time.After(3 * p.read) // that long, and no more
		return order.Order{ID: "o1", Version: 1}, ctx.Err()
	})
	never := function.Endpoint("orders.list", func(context.Context, struct{}) (List, error) {
		close(asking)
		<-gone
		return List{}, nil
	})
	w := begin(t, &gateway{pace: p}, function.Function{Name: "slow", Doors: []function.Door{slow, never}})
	if a := w.do("POST", "/api/orders", "{}"); a.status != 201 {
		t.Errorf("a request that takes its time: %+v", a)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("half a request: %q, %v", answer, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/api/orders", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
			t.Error("it was answered")
		}
	})
	<-asking
	cancel()
	wg.Wait()
	w.Eventually("nobody waits for the answer", func() error {
		if n, last := w.asked("list"); n != 1 || last != "499:the caller went away" {
			return fmt.Errorf("%d were answered, the last with %q", n, last)
		}
		return nil
	})
	if n, last := w.asked("place"); n != 1 || last != "" {
		t.Errorf("%d were placed, the last with %q", n, last)
	}
	close(gone)
}

// asked is how many requests an endpoint of the gateway has had, and its last error,
// as nats micro stats tells it.
func (w *world) asked(endpoint string) (n int, last string) {
	w.t.Helper()
	reply, err := w.Conn.Request("$SRV.STATS.gateway", nil, 10*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	var stats micro.Stats
	if err := json.Unmarshal(reply.Data, &stats); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range stats.Endpoints {
		if e.Name == endpoint {
			return e.NumRequests, e.LastError
		}
	}
	w.t.Fatalf("no endpoint %s in %s", endpoint, reply.Data)
	return 0, ""
}
