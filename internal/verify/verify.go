// Package verify is the command that gives evidence: it runs a whole system as
// processes, loads it, kills what it can find, and then proves that nothing was
// lost, doubled or left half done.
package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"

	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/runtime/app"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/natsserver"
)

// Commands are verify, and the NATS server that it runs as a process of its own.
func Commands() []app.Command {
	return []app.Command{
		{Name: "verify", Help: "Kill everything again and again under load, then prove that nothing is lost.", Cmd: &command{}},
		{Name: "verify-nats", Help: "A NATS server for verify.", Cmd: &natsCommand{}, Hidden: true},
	}
}

type command struct {
	Duration    time.Duration `default:"30s" help:"How long harm is done."`
	Seed        uint64        `help:"Choose the harm by this; a new one each time if left out." default:"0"`
	NATSCluster int           `name:"nats-cluster" default:"1" help:"How many NATS servers; with 3 each stream has three replicas."`
	Postgres    string        `placeholder:"URL" help:"Keep events and view in new databases of this server, dropped at the end. SQLite if left out."`
	EventStores int           `name:"event-stores" default:"0" help:"How many event stores; 1 on SQLite, 3 on PostgreSQL if left out."`
	Orders      int           `default:"8" help:"How many callers place orders."`
	Writers     int           `default:"32" help:"How many callers append to hot aggregates, and read them."`
	Settle      time.Duration `default:"2m" help:"How long all may take to come to its end after the last harm."`
	Dir         string        `help:"Where data and logs are; a temporary folder if left out, which goes when all was well." type:"path"`
	Previous    string        `placeholder:"PATH" help:"The program of another build, which part of the processes run: whatever is killed comes back as one or the other." type:"existingfile"`
	SelfTest    bool          `name:"self-test" help:"Break each promise in what a short run left, and show that it is noticed."`
	JSON        bool          `name:"json" help:"Print JSON."`
}

// Help is shown by verify --help.
func (command) Help() string {
	return "It starts its own NATS servers, event stores and functions on free ports of loopback; what runs already is left alone. " +
		"It exits with 1 when a promise was broken, and says which.\n\nExample: ten minutes, on PostgreSQL, with three NATS servers:\n\n" +
		"  $ waybill verify --duration 10m --nats-cluster 3 --postgres postgres://postgres@127.0.0.1:5432/postgres\n\n" +
		"An upgrade, and the way back, under load:\n\n  $ waybill verify --previous ./waybill-0.1.0"
}

// Validate bounds the flags; kong calls it.
func (c *command) Validate() error {
	switch {
	case c.Duration < time.Second || c.Duration > 24*time.Hour:
		return fmt.Errorf("--duration is %v; allowed are 1s to 24h", c.Duration)
	case c.NATSCluster != 1 && c.NATSCluster != 3 && c.NATSCluster != 5:
		return fmt.Errorf("--nats-cluster is %d; allowed are 1, 3 and 5", c.NATSCluster)
	case c.EventStores < 0 || c.EventStores > 10 || c.EventStores > 1 && c.Postgres == "":
		return fmt.Errorf("--event-stores is %d; allowed are 1 on SQLite, and 1 to 10 with --postgres", c.EventStores)
	case c.Orders < 1 || c.Orders > 1000 || c.Writers < 1 || c.Writers > 1000:
		return errors.New("--orders and --writers are 1 to 1000")
	}
	return nil
}

// Report is what a run found.
type Report struct {
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"` // of harm
	Settled float64 `json:"settled"` // seconds from the last harm until all was at its end

	Orders    int64 `json:"orders"`
	Deposits  int64 `json:"deposits"`
	Appends   int64 `json:"appends"`
	Conflicts int64 `json:"conflicts"`
	Repeats   int64 `json:"repeats"`
	Reads     int64 `json:"reads"`
	Unknown   int64 `json:"unknown"` // appends that were never answered
	Events    int   `json:"events"`

	Ends        map[string]int `json:"ends"` // of orders
	Faults      map[string]int `json:"faults"`
	CrashPoints map[string]int `json:"crash_points"`
	Checks      []result       `json:"checks"`
	Logs        string         `json:"logs,omitempty"` // kept when something is wrong
}

func (r *Report) violations() (all []violation) {
	for _, c := range r.Checks {
		all = append(all, c.Violations...)
	}
	return all
}

// Run does it.
func (c *command) Run(ctx context.Context, client *app.Client) (err error) {
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	if c.EventStores == 0 {
		if c.EventStores = 1; c.Postgres != "" {
			c.EventStores = 3
		}
	}
	dir, own := c.Dir, false
	if dir == "" {
		if dir, err = os.MkdirTemp("", "waybill-verify-*"); err != nil {
			return err
		}
		own = true
	} else if err := makeEmpty(dir); err != nil {
		return err
	}
	report, e, err := c.verify(ctx, dir)
	if ctx.Err() != nil {
		if own {
			_ = os.RemoveAll(dir) // in the folder for such files
		}
		return errors.New("interrupted: nothing was proven")
	}
	if own && report == nil {
		_ = os.Remove(dir) // only if nothing is in it
	}
	good := err == nil && len(report.violations()) == 0
	if own && good {
		err = os.RemoveAll(dir)
	}
	if report != nil {
		if !good || !own {
			report.Logs = dir
		}
		if c.SelfTest && good {
			return errors.Join(err, selfTest(e, client.Stdout()))
		}
		if printed := c.print(client.Stdout(), report); printed != nil {
			return printed
		}
		if n := len(report.violations()); n > 0 {
			return fmt.Errorf("%d promises were broken; logs and data are in %s", n, dir)
		}
	}
	if err != nil {
		return fmt.Errorf("%w; logs and data are in %s", err, dir)
	}
	return nil
}

// makeEmpty makes the folder of a run. What another one left would be taken for
// this one's.
func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	has, err := os.ReadDir(dir)
	if err == nil && len(has) > 0 {
		err = fmt.Errorf("--dir=%s is not empty", dir)
	}
	return err
}

// verify runs the system and answers what was found, and by what.
func (c *command) verify(ctx context.Context, dir string) (_ *Report, _ *evidence, err error) {
	t := topology{
		servers: c.NATSCluster, stores: c.EventStores,
		eventsDB: "sqlite:" + filepath.Join(dir, "events.db"), ordersDB: "sqlite:" + filepath.Join(dir, "orders.db"),
	}
	var pg *databases
	if c.Postgres != "" {
		if pg, err = makeDatabases(ctx, c.Postgres, fmt.Sprintf("waybill_verify_%d", os.Getpid())); err != nil {
			return nil, nil, err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, pg.drop(ctx))
		}()
		if t.eventsDB, err = pg.url(pg.events); err != nil {
			return nil, nil, err
		}
		if t.ordersDB, err = pg.url(pg.orders); err != nil {
			return nil, nil, err
		}
	}
	f, err := newFleet(dir, c.Seed, t)
	if err == nil && c.Previous != "" {
		f.previous, err = filepath.Abs(c.Previous)
	}
	if err != nil {
		return nil, nil, err
	}
	f.start()
	defer f.stop()
	nc, err := nats.Connect(f.natsURL, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	store, err := rpc.Dial("nats:///"+app.EventStore, grpc.WithResolvers(discovery.Resolver(nc)))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = store.Close() }() // nothing is under way
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	l := &load{nc: nc, store: store, began: time.Now(), orders: map[string]ack{}, paidIn: map[string]paidIn{}}
	return c.run(ctx, f, l, js, pg)
}

// run loads the fleet, harms it, lets it settle, and judges what is left.
func (c *command) run(ctx context.Context, f *fleet, l *load, js jetstream.JetStream, pg *databases) (*Report, *evidence, error) {
	following, stopFollowing := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer stopFollowing()
	var followers []*follower
	for _, stream := range streams {
		one := &follower{store: l.store, stream: stream}
		followers = append(followers, one)
		background.Go(func() { one.run(following) })
	}
	began := time.Now()
	loading, stopLoad := context.WithTimeout(ctx, c.Duration)
	defer stopLoad()
	answers, stopAnswers := context.WithTimeout(ctx, c.Duration+c.Settle)
	defer stopAnswers()
	stopBar := c.progress(loading, f, l)
	var callers, harm sync.WaitGroup
	for i := range c.Orders {
		callers.Go(func() { l.placeOrders(answers, func() bool { return loading.Err() == nil }, i, c.Seed) })
	}
	for i := range c.Writers {
		callers.Go(func() { l.writeRaw(loading, answers, i, c.Seed) })
	}
	f.setArming(true)
	harm.Go(func() {
		s := &saboteur{f: f, js: js, pg: pg, rand: rand.New(rand.NewPCG(c.Seed, 2))} //nolint:gosec // no secret
		s.run(loading)
	})
	harm.Go(func() { f.absences(loading, rand.New(rand.NewPCG(c.Seed, 4))) }) //nolint:gosec // no secret
	harm.Go(func() { f.rebuilds(loading, rand.New(rand.NewPCG(c.Seed, 3))) }) //nolint:gosec // no secret
	for loading.Err() == nil && f.err() == nil {
		sleep(loading, 100*time.Millisecond)
	}
	stopLoad()
	harm.Wait()
	f.calm()
	calmed := time.Now()
	callers.Wait()
	// All ways once more, in peace: so each was gone in every run.
	all := l.placed.Load() + int64(len(ways))
	for i := range c.Orders {
		callers.Go(func() {
			l.placeOrders(answers, func() bool { return l.placed.Load() < all && answers.Err() == nil }, c.Orders+i, c.Seed)
		})
	}
	callers.Wait()
	stopBar()
	if err := errors.Join(f.err(), ctx.Err()); err != nil {
		return nil, nil, err
	}
	unsettled := settled(ctx, l, js, followers[0], c.Settle)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	took := time.Since(calmed)
	e, err := gather(ctx, l, js, followers)
	if err != nil {
		return nil, nil, errors.Join(unsettled, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e.wrong = append(e.wrong, f.wrong...)
	return &Report{
		Seed: c.Seed, Seconds: calmed.Sub(began).Seconds(), Settled: took.Seconds(),
		Orders: l.accepted.Load(), Deposits: l.deposits.Load(), Ends: e.howMany(), Appends: l.appended.Load(), Conflicts: l.conflicts.Load(), Repeats: l.repeats.Load(),
		Reads: l.reads.Load(), Unknown: l.unknown.Load(), Events: len(e.events[ordersStream]) + len(e.events[accountsStream]) + len(e.events[rawStream]),
		Faults: f.counts, CrashPoints: f.hits, Checks: e.judge(),
	}, e, unsettled
}

// progress shows how far the run is; the answer ends it.
func (c *command) progress(ctx context.Context, f *fleet, l *load) func() {
	const tick = 100 * time.Millisecond
	bar := app.Progress(int64(c.Duration/tick), "")
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			sleep(ctx, tick)
			bar.Describe(fmt.Sprintf("%d orders, %d appends, %d faults", l.accepted.Load(), l.appended.Load(), f.faults()))
			_ = bar.Add(1) // a terminal that is gone shows nothing
		}
	})
	return func() { cancel(); wg.Wait(); _ = bar.Finish() }
}

// print prints the report.
func (c *command) print(w io.Writer, r *Report) error {
	if c.JSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	fmt.Fprintf(w, "seed %d, %.0f s of harm, all at its end %.1f s later\n", r.Seed, r.Seconds, r.Settled)
	fmt.Fprintf(w, "%d orders, %d deposits, %d appends, %d conflicts, %d repeats, %d reads, %d never answered: %d events\n\n",
		r.Orders, r.Deposits, r.Appends, r.Conflicts, r.Repeats, r.Reads, r.Unknown, r.Events)
	for _, name := range slices.Sorted(maps.Keys(r.Ends)) {
		fmt.Fprintf(w, "%6d  orders %s\n", r.Ends[name], name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(w, "%6d  %s\n", r.Faults[name], name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.CrashPoints)) {
		fmt.Fprintf(w, "%6d  crash %s\n", r.CrashPoints[name], name)
	}
	fmt.Fprintln(w)
	for _, check := range r.Checks {
		verdict := "holds"
		if n := len(check.Violations); n > 0 {
			verdict = fmt.Sprintf("BROKEN %d times", n)
		}
		fmt.Fprintf(w, "%s: %s (%d looked at)\n", check.Name, verdict, check.Looked)
		for _, v := range check.Violations[:min(3, len(check.Violations))] {
			fmt.Fprintf(w, "  %s\n", v.What)
		}
	}
	return nil
}

// natsCommand runs a NATS server until it is killed.
type natsCommand struct {
	Config string `arg:"" type:"existingfile" help:"Its configuration."`
}

// Run runs the server until ctx ends.
func (c *natsCommand) Run(ctx context.Context) error {
	config, err := os.ReadFile(c.Config)
	if err != nil {
		return err
	}
	s, err := natsserver.Start(ctx, natsserver.Options{Config: config, Logger: slog.Default()})
	if err != nil {
		return err
	}
	<-ctx.Done()
	s.Stop()
	return nil
}
