package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
)

// maxOpen is how many orders an open loop has under way at the most.
const maxOpen = 20_000

// askTimeout is how long one request may take.
const askTimeout = 5 * time.Second

// load is one run.
type load struct {
	c    *ordersCommand
	run  string // what all ids of the run begin with
	mix  scenario.Mix
	nc   *nats.Conn
	door door
	book *book

	mu       sync.Mutex
	accepted *hdrhistogram.Histogram // microseconds
	ended    *hdrhistogram.Histogram
	refused  *hdrhistogram.Histogram
	ends     map[scenario.Way]map[string]int // of accepted orders: by way, by type of the event

	begun, done, waiting, retried, skipped, unanswered atomic.Int64
}

func newLoad(ctx context.Context, c *ordersCommand, nc *nats.Conn) (*load, error) {
	const longest = int64(10 * time.Minute / time.Microsecond)
	l := &load{
		c: c, run: "bench-" + uuid.NewString()[:8], mix: scenario.NewMix(), nc: nc, door: natsDoor{nc},
		accepted: hdrhistogram.New(1, longest, 3), ended: hdrhistogram.New(1, longest, 3), refused: hdrhistogram.New(1, longest, 3),
		ends: map[scenario.Way]map[string]int{},
	}
	if c.Scenario == "mixed" {
		l.mix = scenario.NewMix(scenario.Mixed()...)
	}
	l.book = newBook(l.run, l.order)
	if c.Door == "http" {
		d, err := newHTTPDoor(ctx, c)
		if err != nil {
			return nil, err
		}
		l.door = d
	}
	return l, nil
}

// order is order n: all of it follows from that.
func (l *load) order(n int64) (scenario.Way, scenario.Order) {
	const price = order.Money(200_00)
	way := l.mix.Way(n)
	// Each customer goes all ways, also where there are a hundred of them.
	return way, way.New(id(l.run, n), l.customer((n+n/100)%l.customers()), price)
}

// customer is customer n of this run, whose account was empty before it.
func (l *load) customer(n int64) string { return id(l.run, n) }

func id(run string, n int64) string { return fmt.Sprintf("%s-%d", run, n) }

// next is the number of the next order, if there is to be one.
func (l *load) next() (n int64, ok bool) {
	n = l.begun.Add(1) - 1
	return n, l.c.Orders == 0 || n < l.c.Orders
}

// open begins orders at their times, late or not, so that a slow server does
// not slow down its own measuring.
func (l *load) open(ctx, loading context.Context, wg *sync.WaitGroup) {
	every := time.Duration(float64(time.Second) / l.c.Rate)
	slots := make(chan struct{}, maxOpen)
	for at := time.Now(); loading.Err() == nil; at = at.Add(every) {
		n, ok := l.next()
		if !ok {
			return
		}
		select {
		case <-time.After(time.Until(at)):
		case <-loading.Done():
			return
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() { l.one(ctx, n, at); <-slots })
		default:
			l.skipped.Add(1)
		}
	}
}

// one places order n, has happen to it what is to, and waits for its end. Times run
// from when it was meant to begin.
func (l *load) one(ctx context.Context, n int64, began time.Time) {
	way, o := l.order(n)
	t := l.book.begin(n)
	accept := l.accept
	if l.c.Rate > 0 {
		accept = func(ctx context.Context, o scenario.Order) bool { return l.ask(ctx, o, began) }
	}
	if !accept(ctx, o) {
		l.book.giveUp(n)
		return
	}
	l.record(l.accepted, time.Since(began))
	if way == scenario.Cancel {
		l.change(ctx, t, "cancel", `"reason":"cancelled by bench"`)
	}
	end := l.await(ctx, n, t)
	if end == "" {
		l.waiting.Add(1)
		return
	}
	l.record(l.ended, time.Since(began))
	l.done.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends[way] == nil {
		l.ends[way] = map[string]int{}
	}
	l.ends[way][end]++
}

// accept asks until the order is accepted: asking again is safe under its id.
func (l *load) accept(ctx context.Context, o scenario.Order) bool {
	for deadline := time.Now().Add(l.c.Settle); time.Now().Before(deadline) && ctx.Err() == nil; {
		if code, err := l.door.ask(ctx, "place", o.ID, o.Fields()); err == nil && code < http.StatusMultipleChoices {
			return true
		}
		l.retried.Add(1)
		sleep(ctx, retryPause)
	}
	return false
}

const retryPause = 20 * time.Millisecond

// ask asks once, and notes a refusal and how long it took to be told.
func (l *load) ask(ctx context.Context, o scenario.Order, began time.Time) bool {
	code, err := l.door.ask(ctx, "place", o.ID, o.Fields())
	switch {
	case err == nil && code < http.StatusMultipleChoices:
		return true
	case err == nil && (code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable):
		l.record(l.refused, time.Since(began))
	default:
		l.unanswered.Add(1)
	}
	return false
}

// change asks for a change of an order until it is made, or it is too late for it.
func (l *load) change(ctx context.Context, t *tracked, what, fields string) {
	// A conflict says that it is too late, or that the order is being changed at
	// this moment.
	const mostConflicts = 10
	conflicts := 0
	for deadline := time.Now().Add(l.c.Settle); time.Now().Before(deadline) && ctx.Err() == nil; {
		code, err := l.door.ask(ctx, what, t.order.ID, fields)
		switch {
		case err == nil && code < http.StatusMultipleChoices:
			return
		case err == nil && code == http.StatusConflict:
			if conflicts++; conflicts == mostConflicts {
				return
			}
		default:
			l.retried.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-t.done:
			return
		case <-time.After(retryPause):
		}
	}
}

// await waits for an order's end, and answers the type of the event that it ended
// with; empty if it did not. What nobody told, because the connection was away, is
// found by asking. An order that a person has to decide on is rejected on the way.
func (l *load) await(ctx context.Context, n int64, t *tracked) string {
	deadline := time.NewTimer(l.c.Settle)
	defer deadline.Stop()
	look := time.NewTicker(2 * time.Second)
	defer look.Stop()
	paid := t.paid
	if t.order.Amount() <= scenario.ReviewLimit*100 {
		paid = nil // nobody has to
	}
	for {
		select {
		case <-t.done:
			return l.book.end(t)
		case <-paid:
			paid = nil
			l.change(ctx, t, "review", `"decision":"reject","reason":"rejected by bench","by":"bench"`)
		case <-ctx.Done():
			return ""
		case <-deadline.C:
			l.look(ctx, n)
			return l.book.end(t)
		case <-look.C:
			l.look(ctx, n)
		}
	}
}

func (l *load) record(h *hdrhistogram.Histogram, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What is longer than the histogram holds counts as its longest.
	_ = h.RecordValue(min(took.Microseconds(), h.HighestTrackableValue()))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
