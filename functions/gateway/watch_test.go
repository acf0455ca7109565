package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/functions/orderquery"
	"github.com/waybill-go/waybill/runtime/function"
)

// follower is one who watches an order.
type follower struct {
	t      *testing.T
	status int
	body   io.Closer
	lines  *bufio.Scanner
}

// watch begins to watch; last is a Last-Event-ID, or empty.
func (w *world) watch(id, last string) *follower {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/api/orders/"+id+"/watch", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	if last != "" {
		r.Header.Set(lastHeader, last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	return &follower{w.t, resp.StatusCode, resp.Body, bufio.NewScanner(resp.Body)}
}

// next is the next event, "3 approved", or comment; empty at the end.
func (f *follower) next() (what, data string) {
	id := ""
	for f.lines.Scan() {
		field, value, _ := strings.Cut(f.lines.Text(), ": ")
		switch field {
		case "":
			if value != "" {
				return ": " + value, ""
			}
			if what != "" {
				return strings.TrimSpace(id + " " + what), data
			}
		case "id":
			id = value
		case "event":
			what = value
		case "data":
			data = value
		}
	}
	return "", ""
}

func (f *follower) expect(want ...string) {
	f.t.Helper()
	for _, one := range want {
		if got, _ := f.next(); got != one {
			f.t.Errorf("told %q, want %q of %q", got, one, want)
			return
		}
	}
}

// history is orderquery without its view: it answers for what happened.
func history() function.Function { return orderquery.New(orderdb.New()) }

// placeHere has an order happen, with no function to go on with it.
func (w *world) placeHere(id string) {
	w.t.Helper()
	created, err := order.Place(id, "c", "r", "", []order.Item{{Code: "a", Name: "A", UnitPrice: 1, Quantity: 1}}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	w.Append(order.Stream, id, created)
}

func (w *world) pay(id string)     { w.Append(order.Stream, id, order.PaymentDebited{}) }
func (w *world) decline(id string) { w.Append(order.Stream, id, order.PaymentDeclined{Reason: "no"}) }

// TestWatch follows orders to their end, from the beginning and from in between.
func TestWatch(t *testing.T) {
	w := begin(t, &gateway{pace: calm}, everyone(t)...)
	w.do("POST", "/api/orders", body(`"order_id":"o1",`))
	f := w.watch("o1", "")
	var told []string
	for range 4 {
		_, data := f.next()
		told = append(told, data)
	}
	if a := w.do("POST", "/api/orders/o1/deliver", ""); a.status != 200 {
		t.Errorf("delivered: %+v", a)
	}
	_, last := f.next()
	told = append(told, last)
	what, data := f.next()
	if what != "end" || data != `{"status":"Delivered","version":5}` {
		t.Errorf("at the end: %s %s", what, data)
	}
	f.expect("")
	if all := w.do("GET", "/api/orders/o1/events", ""); all.body != `{"events":[`+strings.Join(told, ",")+`]}` {
		t.Errorf("told %s, and the events are %s", told, all.body)
	}
	w.watch("o1", "").expect("1 created", "2 paymentdebited", "3 approved", "4 shipped", "5 delivered", "end", "")
	w.watch("o1", "4").expect("5 delivered", "end", "")
	if again := w.watch("o1", "5"); again.status != http.StatusNoContent {
		t.Errorf("one who has all is told %d", again.status)
	}
}

// TestTheUndoIsWatched: an order that ended unshipped is told of until it is undone.
func TestTheUndoIsWatched(t *testing.T) {
	w := begin(t, &gateway{pace: calm}, history())
	w.placeHere("o1")
	f := w.watch("o1", "")
	w.decline("o1")
	f.expect("1 created", "2 paymentdeclined")
	w.Append(order.Stream, "o1", order.PaymentVoided{})
	f.expect("3 paymentvoided", "end", "")
}

// TestWhoAsksForTheHeadOfAWatch is answered, and watches nothing.
func TestWhoAsksForTheHeadOfAWatch(t *testing.T) {
	w := begin(t, &gateway{pace: calm, maxWatchers: 1}, history())
	w.placeHere("o1")
	for range 2 {
		if a := w.do("HEAD", "/api/orders/o1/watch", ""); a.status != http.StatusOK || a.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%+v", a)
		}
	}
}

// TestManyWatchers has 500 watch, half of them one order, with one subscription.
func TestManyWatchers(t *testing.T) {
	const many = 500
	w := begin(t, &gateway{pace: calm, maxWatchers: many + 1}, history())
	for i := range many / 2 {
		w.placeHere(fmt.Sprintf("o%d", i))
	}
	w.placeHere("first")
	first := w.watch("first", "")
	first.expect("1 created")
	w.pay("first")
	first.expect("2 paymentdebited") // all that there is to subscribe to is by now
	one := w.Server.Subscriptions()
	followers := make([]*follower, many)
	for i := range followers {
		followers[i] = w.watch(fmt.Sprintf("o%d", i%(many/2)*(i*2/many)), "") // half of them o0
		followers[i].expect("1 created")
	}
	if now := w.Server.Subscriptions(); now != one {
		t.Errorf("%d watchers have %d subscriptions more than one has", many, now-one)
	}
	if full := w.do("GET", "/api/orders/o0/watch", ""); full.status != 503 || full.header.Get("Retry-After") == "" {
		t.Errorf("one too many: %+v", full)
	}
	for i := range many / 2 {
		w.pay(fmt.Sprintf("o%d", i))
		w.decline(fmt.Sprintf("o%d", i)) // too late, and told all the same
	}
	for _, f := range followers {
		f.expect("2 paymentdebited", "3 paymentdeclined")
		_ = f.body.Close()
	}
	_ = first.body.Close()
	w.Eventually("nobody watches", func() error {
		if now := w.Server.Subscriptions(); now != one-1 {
			return fmt.Errorf("there are %d subscriptions, and were %d with one", now, one)
		}
		return nil
	})
}

// TestWatchHeals has the feed stop while something happens.
func TestWatchHeals(t *testing.T) {
	p := calm
	p.beat = 20 * time.Millisecond
	w := begin(t, &gateway{pace: p}, history())
	w.placeHere("o1")
	f := w.watch("o1", "")
	f.expect("1 created", ": still here", ": still here")
	w.Server.Stop()
	w.pay("o1")
	f.expect(": still here", ": still here")
	w.Server.Restart()
	what := ": still here"
	for what == ": still here" {
		what, _ = f.next()
	}
	if what != "2 paymentdebited" {
		t.Errorf("told %s", what)
	}
}

// pipes is a network without a buffer: what nobody reads is not sent.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial() net.Conn {
	mine, its := net.Pipe()
	p.incoming <- its
	return mine
}

// TestASlowWatcher is sent away when it accepts nothing; others are told at once.
func TestASlowWatcher(t *testing.T) {
	p, net := calm, &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})}
	p.write = 50 * time.Millisecond
	g := &gateway{pace: p, listener: net, maxWatchers: 2}
	w := begin(t, g, history())
	w.placeHere("o1")
	const get = "GET /api/orders/o1/watch HTTP/1.1\r\nHost: x\r\n\r\n"
	slow, quick := net.dial(), net.dial()
	defer func() { _, _ = slow.Close(), quick.Close() }()
	if _, err := io.WriteString(slow, get); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(quick, get); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(quick)
	await := func(want string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == want {
				return
			}
		}
		t.Fatalf("not told %q: %v", want, lines.Err())
	}
	await("event: created")
	w.pay("o1")
	await("event: paymentdebited")
	w.Eventually("the place of the slow one is free", func() error {
		third := net.dial()
		defer func() { _ = third.Close() }()
		if _, err := io.WriteString(third, get); err != nil {
			return err
		}
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(third, status); err != nil || string(status) != "HTTP/1.1 200" {
			return fmt.Errorf("%s, %w", status, err)
		}
		return nil
	})
	w.decline("o1")
	await("event: paymentdeclined")
}
