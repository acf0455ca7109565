package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/host"
)

// health answers whether the process lives, and whether it can do its work.
type health struct {
	mu    sync.Mutex
	hosts []*host.Host
	ready bool
}

// began says that everything has started.
func (h *health) began() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = true
}

// watch has the functions' readiness be the process's.
func (h *health) watch(hosts []*host.Host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts = hosts
}

// problem says why it can't do its work at present.
func (h *health) problem() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ready {
		return errors.New("starting")
	}
	var errs []error
	for _, one := range h.hosts {
		errs = append(errs, one.Ready())
	}
	return errors.Join(errs...)
}

// paths answers /healthz with 200, and /readyz with 200 or with 503 and the
// reason. What is away is no reason to start a process again: so /healthz
// says no more than that it is there.
func (h *health) paths(metrics http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.problem(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("/metrics", metrics)
	return mux
}

// startMetrics answers over HTTP, where METRICS_LISTEN says so, from the start on
// until everything else has stopped.
func (p *process) startMetrics(ctx context.Context, processes bool) error {
	if p.settings.MetricsListen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.settings.MetricsListen)
	if err != nil {
		return fmt.Errorf("serve metrics and health: METRICS_LISTEN=%q: %w", p.settings.MetricsListen, err)
	}
	p.metricsAddress = l.Addr().String()
	paths := p.health.paths(p.telemetry.Handler())
	if processes {
		paths.HandleFunc("/targets", p.answerTargets)
	}
	server := &http.Server{Handler: paths, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.fail(err)
		}
	}()
	p.onStop(func(context.Context) error { return server.Close() })
	return nil
}

// reachTimeout is how long the database may take to answer at a start.
const reachTimeout = 2 * time.Second

// reachable says what keeps an event store that starts from its work, so that a
// bad deploy does not replace good ones. It is not asked again later: an outage
// of NATS is no reason to take away a store that still takes appends.
func (p *process) reachable(ctx context.Context, store eventstore.Backend) error {
	if !p.nc.IsConnected() {
		return fmt.Errorf("event store is not connected to NATS: %w", p.natsProblem())
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if _, err := store.Head(ctx, deadletter.Stream); err != nil {
		return fmt.Errorf("read the event store's database: %w", err)
	}
	return nil
}

// natsProblem is what NATS said last.
func (p *process) natsProblem() error {
	if err := p.nc.LastError(); err != nil {
		return hinted(err)
	}
	return nats.ErrNoServers
}

// sayWaiting is how often the log says what a start waits for.
const sayWaiting = 5 * time.Second

// awaitReady waits until every function can do its work.
func (p *process) awaitReady(ctx context.Context, hosts []*host.Host) error {
	return p.await(ctx, func() error {
		for _, h := range hosts {
			if err := h.Ready(); err != nil {
				return err
			}
		}
		return nil
	})
}

// await waits until there is no problem any more. The log says what it waits for.
func (p *process) await(ctx context.Context, problem func() error) error {
	said := time.Now().Add(time.Second - sayWaiting)
	for err := problem(); err != nil; err = problem() {
		if time.Since(said) > sayWaiting {
			said = time.Now()
			p.log.Warn("not ready yet", "nats", p.natsTarget(), "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.failed:
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
