package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// What one caller, and all of them, may take.
const (
	maxBody        = 512 << 10 // what an event takes, and NATS carries for sure
	maxHeader      = 32 << 10
	maxConnections = 2048 // who comes then waits to be let in
	maxWatchers    = 1024
	// All who watch one order are woken at once, and orderquery refuses what is
	// more than it can have in hand: they take turns.
	maxReading = 32

	headerWait = 5 * time.Second
	idleWait   = time.Minute
)

// server serves HTTP; it implements function.Serving.
type server struct {
	http     *http.Server
	watches  *hub
	stopping atomic.Bool
	served   chan struct{}
	err      error // why it ended; set when served is closed
}

func start(l net.Listener, h http.Handler, watches *hub, p pace, log *slog.Logger) *server {
	s := &server{
		http: &http.Server{
			Handler: h, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
			ReadHeaderTimeout: min(headerWait, p.read), ReadTimeout: p.read, IdleTimeout: idleWait,
			WriteTimeout: p.read + deadline + p.write, // it runs from the end of the header; a watch sets its own
		},
		watches: watches, served: make(chan struct{}),
	}
	log.Info("serving HTTP", "address", l.Addr().String())
	go func() {
		defer close(s.served)
		s.err = s.http.Serve(netutil.LimitListener(l, maxConnections))
	}()
	return s
}

// Ready implements function.Serving.
func (s *server) Ready() error {
	select {
	case <-s.served:
		return fmt.Errorf("serve HTTP: %w", s.err)
	default:
	}
	if s.stopping.Load() {
		return errors.New("stopping")
	}
	return nil
}

// Stop closes the door, has the watchers come again elsewhere, and waits for the
// answers that are under way.
func (s *server) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.watches.drain()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop HTTP: %w", err), s.http.Close())
	}
	<-s.served
	return err
}
