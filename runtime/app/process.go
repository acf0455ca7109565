package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver"
	"github.com/waybill-go/waybill/runtime/telemetry"
)

// process holds the parts that run, and how to stop each.
type process struct {
	*session
	natsURL string
	// embedded says that the NATS server is this process's own.
	embedded bool
	nc       *nats.Conn
	// connected is nc, for who may ask before it is there.
	connected atomic.Pointer[nats.Conn]
	store     eventstore.Store

	health    health
	telemetry *telemetry.Telemetry
	// metricsAddress is where the metrics are; empty if nowhere.
	metricsAddress string

	// stops are called in the reverse order of starting.
	stops []func(context.Context) error
	// failed tells of a part that ended by itself.
	failed chan error
}

func (p *process) onStop(f func(context.Context) error) { p.stops = append(p.stops, f) }

// stop stops the parts that started, the last one first.
func (p *process) stop(ctx context.Context) error {
	var errs []error
	for i := len(p.stops) - 1; i >= 0; i-- {
		errs = append(errs, p.stops[i](ctx))
	}
	return errors.Join(errs...)
}

// work is what a process does.
type work struct {
	functions []function.Function
	// processes says that the functions are processes of their own, under a
	// supervisor, and not in this one.
	processes bool
	// store and server say that it has an event store and a NATS server.
	store, server bool
}

func (p *process) start(ctx context.Context, w work) error {
	p.failed = make(chan error, 1)
	functions := w.functions
	if err := p.startTelemetry(ctx, w); err != nil {
		return err
	}
	if err := p.startMetrics(ctx, w.processes); err != nil {
		return err
	}
	if err := p.startNATS(ctx, functions, w.server); err != nil {
		return err
	}
	if err := p.startStore(ctx, w.store, len(functions) > 0); err != nil {
		return err
	}
	if w.processes {
		return p.startSupervisor(ctx, functions)
	}
	for _, r := range p.program.resources(functions) {
		if err := r.Open(ctx); err != nil {
			return err
		}
		p.onStop(func(context.Context) error { return r.Close() })
	}
	return p.startFunctions(ctx, functions)
}

func (p *process) startNATS(ctx context.Context, functions []function.Function, embedded bool) error {
	name := p.program.Name
	if len(functions) > 0 {
		name += " " + strings.Join(names(functions), ",")
	}
	options := []nats.Option{nats.Name(name)}
	if embedded {
		if err := p.lockJetStream(); err != nil {
			return err
		}
		server, err := natsserver.Start(ctx, natsserver.Options{
			Config: p.program.NATSConfig, Listen: p.settings.NATSListen,
			StoreDir: filepath.Join(p.settings.DataDir, "jetstream"), Logger: p.log,
		})
		if err != nil {
			return err
		}
		p.onStop(func(context.Context) error { server.Stop(); return nil })
		options = append(options, server.InProcess())
		p.natsURL, p.embedded = server.URL(), true
	}
	nc, err := p.connect(ctx, options...)
	if err != nil {
		return err
	}
	p.nc = nc
	p.connected.Store(nc)
	p.telemetry.Connected(nc.IsConnected)
	if !embedded {
		p.natsURL = p.natsTarget()
	}
	p.onStop(func(context.Context) error { nc.Close(); return nil })
	return nil
}

// lockJetStream keeps a second server from the files of one that runs: it would
// destroy them.
func (p *process) lockJetStream() error {
	lock := flock.New(filepath.Join(p.settings.DataDir, "jetstream.lock"))
	ok, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("start NATS server: %w", err)
	}
	if !ok {
		return fmt.Errorf("start NATS server: another %s runs with DATA_DIR=%q: stop it, or set another DATA_DIR", p.program.Name, p.settings.DataDir)
	}
	p.onStop(func(context.Context) error { return lock.Close() })
	return nil
}

// startStore opens the event store in this process, or a way to it.
func (p *process) startStore(ctx context.Context, own, needed bool) error {
	if !own {
		if !needed {
			return nil
		}
		options, err := p.dialOptions()
		if err != nil {
			return err
		}
		options = append(append(options, resolvers(p.nc)...), p.telemetry.DialOptions()...)
		client, err := rpc.Dial(p.settings.EventStoreAddr, options...)
		if err != nil {
			return err
		}
		p.store = p.telemetry.Client(client)
		p.onStop(func(context.Context) error { return client.Close() })
		return nil
	}
	slow := time.AfterFunc(sayWaiting/2, func() {
		p.log.Warn("still opening the event store", "EVENTSTORE_DB", redacted(p.settings.EventStoreDB))
	})
	backend, alone, err := openBackend(ctx, p.settings.EventStoreDB)
	slow.Stop()
	if err != nil {
		return fmt.Errorf("EVENTSTORE_DB: %w", err)
	}
	p.onStop(func(context.Context) error { return backend.Close() })
	var reports []host.Report
	if b, ok := backend.(interface{ Stats() groupcommit.Stats }); ok {
		p.telemetry.Commits(b.Stats)
		reports = append(reports, storeReport(b.Stats))
	}
	backend = p.telemetry.Backend(backend)
	p.telemetry.Types(p.program.Functions...)
	p.store = backend
	r, err := p.startRelay(backend, alone)
	if err != nil {
		return err
	}
	return p.startFacade(ctx, backend, r, append(reports, relayReport(r)))
}

func (p *process) startRelay(backend eventstore.Backend, alone bool) (*relay.Relay, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find this machine's name: %w", err)
	}
	o := host.RelayOptions(p.settings.FeedReplicas, p.program.Functions...)
	o.MaxAge, o.Logger, o.Alone, o.Relayed = p.settings.FeedMaxAge, p.log, alone, p.telemetry.Relayed()
	o.Name = fmt.Sprintf("%s:%d", hostname, os.Getpid())
	r, err := relay.New(backend, p.nc, o)
	if err != nil {
		return nil, err
	}
	p.telemetry.Relay(relayed(r))
	p.background(r.Run)
	return r, nil
}

// background runs a part until the process stops.
func (p *process) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			p.fail(err)
		}
	})
	p.onStop(func(context.Context) error { cancel(); wg.Wait(); return nil })
}

func (p *process) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// startFacade serves the event store over gRPC, and makes it known as a
// service, with reports of its parts; the dead letters beside it.
func (p *process) startFacade(ctx context.Context, store eventstore.Backend, r *relay.Relay, reports []host.Report) error {
	access, err := p.access()
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.settings.GRPCListen)
	if err != nil {
		return fmt.Errorf("serve event store: GRPC_LISTEN=%q: %w; set GRPC_LISTEN to another address", p.settings.GRPCListen, err)
	}
	address := l.Addr().String()
	if p.settings.GRPCAdvertise != "" {
		address = p.settings.GRPCAdvertise
	}
	if h, _, err := net.SplitHostPort(address); err != nil || net.ParseIP(h).IsUnspecified() && h != "" || h == "" {
		return errors.Join(l.Close(), fmt.Errorf(
			"serve event store: nobody can reach %s: set GRPC_ADVERTISE to the host:port that functions reach it at", address))
	}
	server := rpc.NewServer(store, access, p.log, p.telemetry.ServerOptions()...)
	p.onStop(func(ctx context.Context) error { server.Stop(ctx); return nil })
	go func() {
		if err := server.Serve(l); err != nil {
			p.fail(err)
		}
	}()
	known, err := p.startHost(function.Function{
		Name: EventStore, Description: "The event store, over gRPC.", Doors: []function.Door{refillDoor(r), forgetDoor(r)},
	}, host.Options{
		Store:    store,
		Metadata: map[string]string{discovery.MetadataGRPC: address}, Reports: reports,
	})
	if err != nil {
		return err
	}
	p.onStop(known.Stop)
	if err := p.startDeadLetters(store); err != nil {
		return err
	}
	if err := p.await(ctx, func() error { return p.reachable(ctx, store) }); err != nil {
		return err
	}
	server.Ready() // an outage later does not take that back
	return nil
}

// startHost starts a function as all of this process are.
func (p *process) startHost(f function.Function, o host.Options) (*host.Host, error) {
	o.Metadata = p.withMetrics(o.Metadata)
	o.Conn, o.Logger, o.Release, o.Observer = p.nc, p.log, p.program.Release, p.telemetry.Observer()
	p.telemetry.Doors(f)
	h, err := host.Start(f, o)
	if err == nil {
		p.telemetry.Consumer(f.Name, h.Problems)
	}
	return h, err
}

// startDeadLetters runs the service that answers for what functions gave up on.
func (p *process) startDeadLetters(store deadletter.Store) error {
	office := deadletter.New(deadletter.Options{
		Store: store, Replay: host.Replayer(p.nc), Deadlines: p.program.deadlines(), Logger: p.log,
	})
	p.telemetry.DeadLetters(office.Unresolved)
	p.background(office.Run)
	h, err := p.startHost(office.Function(), host.Options{Store: store})
	if err != nil {
		return err
	}
	p.onStop(h.Stop)
	return nil
}

// relayReport tells how many events of all streams are relayed, and of each
// stream what is wrong.
func relayReport(r *relay.Relay) host.Report {
	return host.Report{
		Name: "relay", Subject: "feed.>", Metadata: map[string]string{discovery.MetadataKind: discovery.KindRelay},
		Now: func() (relayed int, problem string) {
			var problems []string
			for _, s := range r.Status() {
				relayed += int(s.Relayed) //nolint:gosec // a position
				if s.Problem != "" {
					problems = append(problems, s.Stream+": "+s.Problem)
				}
			}
			return relayed, strings.Join(problems, "; ")
		},
	}
}

// storeReport tells how much was appended, and why nothing is stored.
func storeReport(stats func() groupcommit.Stats) host.Report {
	return host.Report{
		Name: "store", Subject: "append", Metadata: map[string]string{discovery.MetadataKind: discovery.KindStore},
		Now: func() (appended int, problem string) {
			s := stats()
			return int(s.Appends), s.Problem //nolint:gosec // a count
		},
	}
}

// stopAll closes all doors at once, since each may wait for what runs; those
// that ask the others before.
func stopAll(ctx context.Context, hosts []*host.Host) error {
	errs := make([]error, len(hosts))
	for _, serves := range []bool{true, false} {
		var wg sync.WaitGroup
		for i, h := range hosts {
			if h.Serves() == serves {
				wg.Go(func() { errs[i] = h.Stop(ctx) })
			}
		}
		wg.Wait()
	}
	return errors.Join(errs...)
}

// startFunctions opens the doors, until a stop.
func (p *process) startFunctions(ctx context.Context, functions []function.Function) error {
	var hosts []*host.Host
	p.onStop(func(ctx context.Context) error { return stopAll(ctx, hosts) })
	cache, alone := function.NewCache(), host.NewAlone()
	for _, f := range functions {
		h, err := p.startHost(f, host.Options{APIPrefix: p.settings.NATSJSAPIPrefix, Store: p.store, Cache: cache, Alone: alone})
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	p.health.watch(hosts)
	return p.awaitReady(ctx, hosts)
}
