// Package bench loads a running Waybill with orders, and tells how fast it is:
// orders per second to their end, and how long it takes until one is accepted and
// until it is at its end. It checks that every accepted order comes to an end,
// and that the customers' money adds up.
package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/waybill-go/waybill/internal/scenario"
	"github.com/waybill-go/waybill/runtime/app"
)

// Command is the command bench, for app.Program.
func Command() app.Command {
	return app.Command{Name: "bench", Help: "Load what runs, and tell how fast it is.", Cmd: &command{}}
}

type command struct {
	Orders ordersCommand `cmd:"" help:"Place orders, wait until each is at its end, and check that money adds up."`
}

type ordersCommand struct {
	Scenario  string        `enum:"happy,mixed" default:"happy" help:"happy: all orders are shipped. mixed: of a hundred 5 are declined, 5 rejected by a person, 5 cancelled and 2 not taken by the carrier, if what runs is set to that: see below."`
	Door      string        `enum:"nats,http" default:"nats" help:"How orders are placed, cancelled and reviewed: nats or http. Their ends are told over NATS."`
	URL       string        `name:"url" default:"http://127.0.0.1:3000" help:"Where the gateway is, for --door http."`
	Clients   int           `default:"64" help:"How many place orders at once, each waiting for its own to be at its end."`
	Duration  time.Duration `default:"10s" help:"How long."`
	Orders    int64         `help:"Stop after so many orders, if that is sooner." default:"0"`
	Rate      float64       `help:"Place so many a second, whatever becomes of them (open loop): each once, and never again when it is refused." default:"0"`
	Customers int64         `default:"1000" help:"Spread the orders over so many customers, new ones for each run."`
	Settle    time.Duration `default:"30s" help:"How long to wait at the end for orders that are under way."`
	JSON      bool          `name:"json" help:"Print JSON."`
}

// Help is shown by bench orders --help.
func (ordersCommand) Help() string {
	return "The orders are real: they stay, and orders.list shows them. Use a DATA_DIR of its own where that matters.\n\n" +
		"It exits with 1 when an order is stuck or ended otherwise than it had to, when a customer's money does not add up, or when the scenario did not take place.\n\n" +
		"Example: 64 clients for ten seconds, against what `waybill up` runs:\n\n  $ waybill bench orders\n\n" +
		"Every way that an order can go, over HTTP. What it runs against needs these settings:\n\n" +
		"  $ " + strings.Join(scenario.Settings(), " ") + " waybill up\n  $ waybill bench orders --scenario mixed --door http\n\n" +
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
	case c.Customers < 1 || c.Customers > 1_000_000:
		return fmt.Errorf("--customers is %d; allowed are 1 to 1000000", c.Customers)
	case c.Orders < 0 || c.Settle < 0:
		return errors.New("--orders and --settle can't be below 0")
	}
	return nil
}

// Run places orders until the time is over, waits for them, judges the money, and
// prints the report. It fails when that shows that something is wrong.
func (c *ordersCommand) Run(ctx context.Context, client *app.Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	l, err := newLoad(ctx, c, nc)
	if err != nil {
		return err
	}
	stopWatch, err := l.watch()
	if err != nil {
		return err
	}
	defer stopWatch()
	if err := l.deposits(ctx); err != nil {
		return err
	}
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
				for loading.Err() == nil {
					n, ok := l.next()
					if !ok {
						return
					}
					l.one(ctx, n, time.Now())
				}
			})
		}
	}
	wg.Wait()
	took := time.Since(began)
	stopBar()
	if ctx.Err() != nil {
		return errors.Join(errors.New("interrupted: the money was not checked"), l.report(took, verdict{}).print(client.Stdout(), c.JSON))
	}
	money, err := l.judge(ctx)
	if err != nil {
		return err
	}
	return l.report(took, money).print(client.Stdout(), c.JSON)
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
				bar.Describe(fmt.Sprintf("%d orders at their end", l.done.Load()))
				_ = bar.Add(1) // a terminal that is gone shows nothing
			}
		}
	})
	return func() { cancel(); wg.Wait(); _ = bar.Finish() }
}
