// Package natsserver runs a NATS server inside this process. It is the only
// importer of nats-server.
package natsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options say how the server runs. What they leave out the configuration says.
type Options struct {
	// Config is the text of a nats.conf; may be empty.
	Config []byte
	// Listen is where clients connect, host:port; port -1 takes a free one.
	Listen string
	// StoreDir is where JetStream keeps its files.
	StoreDir string
	// Logger gets what the server logs. Default slog.Default().
	Logger *slog.Logger
}

// Server is a running NATS server.
type Server struct{ s *server.Server }

// readyWait is how long a server may take to come up: it reads the state of
// its streams, which is long only for very many.
const readyWait = 30 * time.Second

// Start starts a server and returns when it takes clients.
func Start(ctx context.Context, o Options) (*Server, error) {
	opts, err := o.server()
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := portFree(ctx, opts); err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	s.SetLoggerV2(logger{o.Logger.With("component", "nats")}, false, false, false)
	s.Start()
	for deadline := time.Now().Add(readyWait); !s.ReadyForConnections(50 * time.Millisecond); {
		if err := ctx.Err(); err != nil || time.Now().After(deadline) || !s.Running() {
			s.Shutdown()
			s.WaitForShutdown()
			return nil, errors.Join(fmt.Errorf("start NATS server on %s: it did not come up", opts.Host), err)
		}
	}
	return &Server{s}, nil
}

func (o Options) server() (*server.Options, error) {
	opts := &server.Options{}
	if len(o.Config) > 0 {
		// The server reads files only.
		f, err := os.CreateTemp("", "waybill-nats-*.conf")
		if err != nil {
			return nil, fmt.Errorf("read nats.conf: %w", err)
		}
		defer func() { _ = os.Remove(f.Name()) }() // in the folder for such files
		_, err = f.Write(o.Config)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read nats.conf: %w", err)
		}
		if err := opts.ProcessConfigFile(f.Name()); err != nil {
			return nil, fmt.Errorf("read nats.conf: %w", err)
		}
		opts.ConfigFile = ""
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, fmt.Errorf("start NATS server: NATS_LISTEN=%q: %w", o.Listen, err)
		}
		opts.Host = host
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("start NATS server: NATS_LISTEN=%q: the port is no number", o.Listen)
		}
	}
	if o.StoreDir != "" {
		opts.StoreDir = o.StoreDir
	}
	// Two systems on one machine would be in each other's way.
	opts.HTTPPort, opts.HTTPHost = 0, ""
	opts.JetStream, opts.NoSigs, opts.NoLog = true, true, false
	return opts, nil
}

// portFree tries the port first: the server itself would end the process.
func portFree(ctx context.Context, opts *server.Options) error {
	if opts.Port <= 0 {
		return nil
	}
	address := net.JoinHostPort(opts.Host, strconv.Itoa(opts.Port))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("start NATS server: NATS_LISTEN: can't listen on %s: %w; "+
			"set NATS_LISTEN to another address, or NATS_URL to use the server that is there", address, err)
	}
	return l.Close()
}

// URL is where clients connect.
func (s *Server) URL() string { return s.s.ClientURL() }

// Subscriptions is how many there are, of all clients and its own.
func (s *Server) Subscriptions() int { return int(s.s.NumSubscriptions()) }

// InProcess makes a client connect without a socket.
func (s *Server) InProcess() nats.Option { return nats.InProcessServer(s.s) }

// Stop ends the server and returns when its files are closed.
func (s *Server) Stop() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
}

// logger writes what the server says to slog. Its notices are for those who
// run a server by itself, so they are told at debug level here.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l logger) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.Contains(text, "JetStream resource limits") { // a filling disk is worth a word, a small one is not
		l.log.Debug(text)
		return
	}
	l.log.Warn(text)
}
func (l logger) Fatalf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }
