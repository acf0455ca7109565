package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

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
func (h *health) paths(metrics http.Handler) http.Handler {
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
func (p *process) startMetrics(ctx context.Context) error {
	if p.settings.MetricsListen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.settings.MetricsListen)
	if err != nil {
		return fmt.Errorf("serve metrics and health: METRICS_LISTEN=%q: %w", p.settings.MetricsListen, err)
	}
	server := &http.Server{Handler: p.health.paths(p.telemetry.Handler()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.fail(err)
		}
	}()
	p.onStop(func(context.Context) error { return server.Close() })
	return nil
}
