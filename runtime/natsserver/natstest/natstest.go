// Package natstest runs NATS servers for tests: on a free port of the loopback
// interface, in a folder of the test's own.
package natstest

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/runtime/natsserver"
)

// Main runs a package's tests, and fails when they leave goroutines behind.
func Main(m *testing.M) { goleak.VerifyTestMain(m, Forgotten()...) }

// Forgotten are the goroutines that a server leaves behind when it stops while it
// makes a stream.
func Forgotten() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
	}
}

// Server is a server that a test may stop, wipe and start again where it was.
type Server struct {
	t      testing.TB
	dir    string
	listen string
	s      *natsserver.Server
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: filepath.Join(t.TempDir(), "jetstream"), listen: "127.0.0.1:-1"}
	s.Restart()
	u, err := url.Parse(s.s.URL())
	if err != nil {
		t.Fatal(err)
	}
	s.listen = u.Host
	t.Cleanup(s.Stop)
	return s
}

// URL is where clients connect; the same after a restart.
func (s *Server) URL() string { return "nats://" + s.listen }

// Subscriptions is how many the server has, of all clients and its own.
func (s *Server) Subscriptions() int { return s.s.Subscriptions() }

// Stop stops the server.
func (s *Server) Stop() {
	if s.s != nil {
		s.s.Stop()
		s.s = nil
	}
}

// Wipe deletes everything that JetStream keeps. The server must be stopped.
func (s *Server) Wipe() {
	s.t.Helper()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
}

// Restart starts the server again, on its old port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	var err error
	s.s, err = natsserver.Start(s.t.Context(), natsserver.Options{
		Listen: s.listen, StoreDir: s.dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// Connect makes a connection that comes again after a restart, and ends with
// the test.
func (s *Server) Connect() *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}
