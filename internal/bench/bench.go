// Package bench loads a running Waybill with orders, and tells how fast it is:
// orders per second, and how long it takes until one is accepted and until it
// is shipped. It checks that every accepted order is shipped in the end.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/app"
)

// Command is the command bench, for app.Program.
func Command() app.Command {
	return app.Command{Name: "bench", Help: "Load what runs, and tell how fast it is.", Cmd: &command{}}
}

type command struct {
	Orders ordersCommand `cmd:"" help:"Place orders and wait until they are shipped."`
}

type ordersCommand struct {
	Clients   int           `default:"64" help:"How many place orders at once, each waiting for its own to be shipped."`
	Duration  time.Duration `default:"10s" help:"How long."`
	Orders    int           `help:"Stop after so many orders, if that is sooner." default:"0"`
	Rate      float64       `help:"Place so many a second, whatever becomes of them (open loop): each once, and never again when it is refused." default:"0"`
	Customers int           `default:"1000" help:"Spread the orders over so many customers."`
	Settle    time.Duration `default:"30s" help:"How long to wait at the end for orders that are under way."`
	JSON      bool          `name:"json" help:"Print JSON."`
}

// Help is shown by bench orders --help.
func (ordersCommand) Help() string {
	return "The orders are real: they stay, and orders.list shows them. Use a DATA_DIR of its own where that matters.\n\nExample: 64 clients for ten seconds, against what `waybill up` runs:\n\n  $ waybill bench orders\n\n" +
		"Open loop, 500 orders a second; a rate that is too high shows how overload is refused:\n\n  $ waybill bench orders --rate 500"
}

// Validate bounds the flags; kong calls it.
func (c *ordersCommand) Validate() error {
	switch {
	case c.Clients < 1 || c.Clients > 10_000:
		return fmt.Errorf("--clients is %d; allowed are 1 to 10000", c.Clients)
	case c.Duration < 100*time.Millisecond || c.Duration > 24*time.Hour:
		return fmt.Errorf("--duration is %v; allowed are 100ms to 24h", c.Duration)
	case c.Rate < 0 || c.Rate > 1e6:
		return fmt.Errorf("--rate is %v; allowed are 0 to 1000000", c.Rate)
	case c.Customers < 1 || c.Orders < 0 || c.Settle < 0:
		return errors.New("--customers, --orders and --settle can't be below their least")
	}
	return nil
}

// Report is what a run found.
type Report struct {
	Clients  int     `json:"clients"`
	Rate     float64 `json:"rate,omitempty"`
	Seconds  float64 `json:"seconds"`
	Accepted int     `json:"accepted"`
	Shipped  int     `json:"shipped"`
	// Waiting were accepted and not shipped when the run gave up on them.
	Waiting int `json:"waiting"`
	// Retried counts requests that got no good answer and were made again
	// under the same order id.
	Retried int `json:"retried"`
	// Refused were told 429 or 503, of an open loop, which does not ask again;
	// Unanswered got no answer, or another error.
	Refused    int `json:"refused"`
	Unanswered int `json:"unanswered"`
	// Skipped are those an open loop could not begin, because as many as it
	// may hold were under way.
	Skipped    int         `json:"skipped"`
	PerSecond  float64     `json:"shipped_per_second"`
	ToAccepted Percentiles `json:"to_accepted_ms"`
	ToShipped  Percentiles `json:"to_shipped_ms"`
	ToRefused  Percentiles `json:"to_refused_ms"`
}

// Percentiles are in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// maxOpen is how many orders an open loop has under way at the most.
const maxOpen = 20_000

// load is one run.
type load struct {
	c  *ordersCommand
	nc *nats.Conn

	mu       sync.Mutex
	pending  map[string]chan struct{} // orders that are not shipped yet
	accepted *hdrhistogram.Histogram  // microseconds
	shipped  *hdrhistogram.Histogram
	refused  *hdrhistogram.Histogram

	begun, done, waiting, retried, skipped, unanswered atomic.Int64
}

// Run places orders until the time is over, waits for them, and prints the
// report. It fails when an accepted order was not shipped.
func (c *ordersCommand) Run(ctx context.Context, client *app.Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	const longest = int64(10 * time.Minute / time.Microsecond)
	l := &load{
		c: c, nc: nc, pending: map[string]chan struct{}{},
		accepted: hdrhistogram.New(1, longest, 3), shipped: hdrhistogram.New(1, longest, 3), refused: hdrhistogram.New(1, longest, 3),
	}
	sub, err := nc.Subscribe("ORDERS.shipped", func(m *nats.Msg) { l.finish(envelope.Aggregate(m.Header)) })
	if err != nil {
		return fmt.Errorf("watch orders: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("watch orders: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	began := time.Now()
	loading, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	stopBar := l.progress(loading)
	var wg sync.WaitGroup
	if c.Rate > 0 {
		l.open(ctx, loading, &wg)
	} else {
		for range c.Clients {
			wg.Go(func() {
				for loading.Err() == nil && l.mayBegin() {
					l.one(ctx)
				}
			})
		}
	}
	wg.Wait()
	took := time.Since(began)
	stopBar()
	return l.report(took, client.Stdout())
}

func (l *load) mayBegin() bool {
	n := l.begun.Add(1)
	return l.c.Orders == 0 || n <= int64(l.c.Orders)
}

// open begins orders at their times, late or not, so that a slow server does
// not slow down its own measuring.
func (l *load) open(ctx, loading context.Context, wg *sync.WaitGroup) {
	every := time.Duration(float64(time.Second) / l.c.Rate)
	slots := make(chan struct{}, maxOpen)
	for next := time.Now(); loading.Err() == nil && l.mayBegin(); next = next.Add(every) {
		select {
		case <-time.After(time.Until(next)):
		case <-loading.Done():
			return
		}
		select {
		case slots <- struct{}{}:
			at := next
			wg.Go(func() { l.place(ctx, at); <-slots })
		default:
			l.skipped.Add(1)
		}
	}
}

func (l *load) one(ctx context.Context) { l.place(ctx, time.Now()) }

// place places one order and waits until it is shipped. Times run from when
// it was meant to begin.
func (l *load) place(ctx context.Context, began time.Time) {
	id := uuid.NewString()
	shipped := make(chan struct{})
	l.mu.Lock()
	l.pending[id] = shipped
	l.mu.Unlock()
	body := fmt.Appendf(nil, `{"order_id":%q,"customer_id":"c%d","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`,
		id, l.begun.Load()%int64(l.c.Customers))
	accept := l.accept
	if l.c.Rate > 0 {
		accept = func(ctx context.Context, body []byte) bool { return l.ask(ctx, body, began) }
	}
	if !accept(ctx, body) {
		l.finish(id)
		return
	}
	l.record(l.accepted, time.Since(began))
	if l.await(ctx, id, shipped) {
		l.record(l.shipped, time.Since(began))
		l.done.Add(1)
	} else {
		l.waiting.Add(1)
	}
}

// accept asks until the order is accepted: asking again is safe under its id.
func (l *load) accept(ctx context.Context, body []byte) bool {
	for deadline := time.Now().Add(l.c.Settle); time.Now().Before(deadline) && ctx.Err() == nil; {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		reply, err := l.nc.RequestWithContext(asking, "orders.place", body)
		cancel()
		if err == nil && reply.Header.Get(micro.ErrorCodeHeader) == "" {
			return true
		}
		l.retried.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

// ask asks once, and notes a refusal and how long it took to be told.
func (l *load) ask(ctx context.Context, body []byte, began time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reply, err := l.nc.RequestWithContext(ctx, "orders.place", body)
	if err != nil {
		l.unanswered.Add(1)
		return false
	}
	switch reply.Header.Get(micro.ErrorCodeHeader) {
	case "":
		return true
	case "429", "503":
		l.record(l.refused, time.Since(began))
	default:
		l.unanswered.Add(1)
	}
	return false
}

// await waits for that. One that nobody told of, because the
// connection was away, is found by asking.
func (l *load) await(ctx context.Context, id string, shipped <-chan struct{}) bool {
	deadline := time.NewTimer(l.c.Settle)
	defer deadline.Stop()
	ask := time.NewTicker(2 * time.Second)
	defer ask.Stop()
	for {
		select {
		case <-shipped:
			return true
		case <-ctx.Done():
			return false
		case <-deadline.C:
			return l.isShipped(ctx, id)
		case <-ask.C:
			if l.isShipped(ctx, id) {
				l.finish(id)
				return true
			}
		}
	}
}

func (l *load) isShipped(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	reply, err := l.nc.RequestWithContext(ctx, "orders.get", fmt.Appendf(nil, `{"order_id":%q}`, id))
	var o struct{ Status string }
	return err == nil && json.Unmarshal(reply.Data, &o) == nil && (o.Status == "Shipped" || o.Status == "Delivered")
}

func (l *load) finish(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done, ok := l.pending[id]; ok {
		close(done)
		delete(l.pending, id)
	}
}

func (l *load) record(h *hdrhistogram.Histogram, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What is longer than the histogram holds counts as its longest.
	_ = h.RecordValue(min(took.Microseconds(), h.HighestTrackableValue()))
}

// progress shows how far the run is; the answer ends it.
func (l *load) progress(ctx context.Context) func() {
	bar := app.Progress(int64(l.c.Duration/(100*time.Millisecond)), "0 orders")
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				bar.Describe(fmt.Sprintf("%d orders shipped", l.done.Load()))
				_ = bar.Add(1) // a terminal that is gone shows nothing
			}
		}
	})
	return func() { cancel(); wg.Wait(); _ = bar.Finish() }
}

// report prints what was found.
func (l *load) report(took time.Duration, w io.Writer) error {
	r := Report{
		Clients: l.c.Clients, Rate: l.c.Rate, Seconds: took.Seconds(),
		Accepted: int(l.accepted.TotalCount()), Shipped: int(l.done.Load()), Waiting: int(l.waiting.Load()),
		Retried: int(l.retried.Load()), Skipped: int(l.skipped.Load()),
		Refused: int(l.refused.TotalCount()), Unanswered: int(l.unanswered.Load()),
		PerSecond:  float64(l.done.Load()) / took.Seconds(),
		ToAccepted: percentiles(l.accepted), ToShipped: percentiles(l.shipped), ToRefused: percentiles(l.refused),
	}
	if l.c.JSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
	} else {
		fmt.Fprintf(w, "%d orders accepted and %d shipped in %.1f s: %.0f orders/s (%d not shipped yet, %d retried, %d refused, %d unanswered, %d skipped)\n",
			r.Accepted, r.Shipped, r.Seconds, r.PerSecond, r.Waiting, r.Retried, r.Refused, r.Unanswered, r.Skipped)
		fmt.Fprintf(w, "%-20s %9s %9s %9s %9s %9s\n", "milliseconds", "p50", "p90", "p99", "p99.9", "max")
		for _, row := range []struct {
			name string
			p    Percentiles
		}{{"placed to accepted", r.ToAccepted}, {"placed to shipped", r.ToShipped}, {"placed to refused", r.ToRefused}} {
			fmt.Fprintf(w, "%-20s %9.2f %9.2f %9.2f %9.2f %9.2f\n", row.name, row.p.P50, row.p.P90, row.p.P99, row.p.P999, row.p.Max)
		}
	}
	switch {
	case r.Waiting > 0:
		return fmt.Errorf("%d accepted orders are not shipped yet; look again with orders.get, and for dead letters", r.Waiting)
	case r.Shipped == 0:
		return errors.New("no order was shipped; is everything running? see waybill ls")
	}
	return nil
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1000 }
	return Percentiles{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}
