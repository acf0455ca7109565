package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natscontext"
	"google.golang.org/grpc"

	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/discovery"
)

func osHostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this machine's name: %w", err)
	}
	return name, nil
}

func resolvers(nc *nats.Conn) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithResolvers(discovery.Resolver(nc))}
}

// connect connects to NATS as the settings say. When no server answers it
// keeps trying, and so does everything that needs the connection.
func (s *session) connect(_ context.Context, more ...nats.Option) (*nats.Conn, error) {
	options := append(s.natsOptions(), more...)
	var (
		nc  *nats.Conn
		err error
	)
	if s.settings.NATSContext != "" {
		nc, _, err = natscontext.Connect(s.settings.NATSContext, options...)
	} else {
		url := s.settings.NATSURL
		if url == "" {
			url = "nats://" + s.settings.NATSListen
		}
		nc, err = nats.Connect(url, options...)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w; is NATS_URL right?", err)
	}
	if err := relay.CheckServer(nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

func (s *session) natsOptions() []nats.Option {
	options := []nats.Option{
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 500*time.Millisecond),
		nats.ReconnectBufSize(-1), // nothing is kept for a server that is away: callers are told
		nats.PingInterval(20 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.log.Warn("lost connection to NATS", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { s.log.Info("connected to NATS again", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			s.log.Warn("NATS error", "subject", subject, "error", err)
		}),
	}
	if s.settings.NATSCreds != "" {
		options = append(options, nats.UserCredentials(s.settings.NATSCreds))
	}
	if s.settings.NATSNkey != "" {
		if nkey, err := nats.NkeyOptionFromSeed(s.settings.NATSNkey); err == nil {
			options = append(options, nkey)
		} else {
			s.log.Error("NATS_NKEY can't be read", "error", err)
		}
	}
	if s.settings.NATSCA != "" {
		options = append(options, nats.RootCAs(s.settings.NATSCA))
	}
	if s.settings.NATSCert != "" {
		options = append(options, nats.ClientCert(s.settings.NATSCert, s.settings.NATSKey))
	}
	return options
}

// Client is what a program's own commands get: a way to what runs.
type Client struct {
	s  *session
	nc *nats.Conn
}

// clientWait is how long a command waits for NATS before it gives up.
const clientWait = 2 * time.Second

// NATS connects, or says what to do when there is no server.
func (c *Client) NATS(ctx context.Context) (*nats.Conn, error) {
	if c.nc != nil {
		return c.nc, nil
	}
	nc, err := c.s.connect(ctx, nats.Name(c.s.program.Name+" command"))
	if err != nil {
		return nil, err
	}
	c.nc = nc
	ctx, cancel := context.WithTimeout(ctx, clientWait)
	defer cancel()
	for !nc.IsConnected() {
		select {
		case <-ctx.Done():
			return nil, errors.New("connect to NATS: nobody answers; start it with " + c.s.program.Name + " up, or set NATS_URL")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nc, nil
}

// Stdout is where a command prints its result.
func (c *Client) Stdout() io.Writer { return c.s.stdout }

func (c *Client) close() {
	if c.nc != nil {
		c.nc.Close()
	}
}
