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

// ServeHTTP answers /healthz with 200, and /readyz with 200 or with 503 and the
// reason. What is away is no reason to start a process again: so /healthz
// says no more than that it is there.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		fmt.Fprintln(w, "ok")
	case "/readyz":
		if err := h.problem(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	default:
		http.NotFound(w, r)
	}
}

// startHealth answers over HTTP, where HEALTH_LISTEN says so, from the start on
// until everything else has stopped.
func (p *process) startHealth(ctx context.Context) error {
	if p.settings.HealthListen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.settings.HealthListen)
	if err != nil {
		return fmt.Errorf("serve health: HEALTH_LISTEN=%q: %w", p.settings.HealthListen, err)
	}
	server := &http.Server{Handler: &p.health, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.fail(err)
		}
	}()
	p.onStop(func(context.Context) error { return server.Close() })
	return nil
}
