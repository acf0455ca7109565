package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natscontext"
	"google.golang.org/grpc"

	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/discovery"
)

func resolvers(nc *nats.Conn) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithResolvers(discovery.Resolver(nc))}
}

// connect connects to NATS as the settings say. When no server answers it
// keeps trying, and so does everything that needs the connection.
func (s *session) connect(_ context.Context, more ...nats.Option) (*nats.Conn, error) {
	options, err := s.natsOptions()
	if err != nil {
		return nil, err
	}
	options = append(options, more...)
	var nc *nats.Conn
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
		return nil, fmt.Errorf("connect to NATS at %s: %w", s.natsTarget(), err)
	}
	if err := relay.CheckServer(nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// natsTarget is where NATS is looked for, without what is secret in it.
func (s *session) natsTarget() string {
	if s.settings.NATSContext != "" {
		return "context " + s.settings.NATSContext
	}
	if s.settings.NATSURL == "" {
		return "nats://" + s.settings.NATSListen
	}
	var shown []string
	for server := range strings.SplitSeq(s.settings.NATSURL, ",") {
		if at := strings.LastIndexByte(server, '@'); at >= 0 {
			scheme, _, found := strings.Cut(server, "://")
			if server = "..." + server[at:]; found {
				server = scheme + "://" + server
			}
		}
		shown = append(shown, server)
	}
	return strings.Join(shown, ",")
}

func (s *session) natsOptions() ([]nats.Option, error) {
	options := []nats.Option{
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 500*time.Millisecond),
		nats.ReconnectBufSize(-1), // nothing is kept for a server that is away: callers are told
		nats.PingInterval(20 * time.Second),
	}
	options = append(options, s.natsEvents()...)
	for variable, path := range map[string]string{
		"NATS_CREDS": s.settings.NATSCreds, "NATS_NKEY": s.settings.NATSNkey, "NATS_CA": s.settings.NATSCA,
		"NATS_CERT": s.settings.NATSCert, "NATS_KEY": s.settings.NATSKey,
	} {
		if path == "" {
			continue
		}
		if f, err := os.Open(path); err != nil {
			return nil, &config.Error{Variable: variable, Value: path, Reason: errors.Unwrap(err).Error()}
		} else if err := f.Close(); err != nil {
			return nil, &config.Error{Variable: variable, Value: path, Reason: err.Error()}
		}
	}
	if s.settings.NATSCreds != "" {
		options = append(options, nats.UserCredentials(s.settings.NATSCreds))
	}
	if s.settings.NATSNkey != "" {
		nkey, err := nats.NkeyOptionFromSeed(s.settings.NATSNkey)
		if err != nil {
			return nil, &config.Error{Variable: "NATS_NKEY", Value: s.settings.NATSNkey, Reason: "holds no nkey seed"}
		}
		options = append(options, nkey)
	}
	if s.settings.NATSCA != "" {
		options = append(options, nats.RootCAs(s.settings.NATSCA))
	}
	if s.settings.NATSCert != "" {
		options = append(options, nats.ClientCert(s.settings.NATSCert, s.settings.NATSKey))
	}
	if prefix := s.settings.NATSInboxPrefix; prefix != "" {
		option := nats.CustomInboxPrefix(prefix)
		if option(&nats.Options{}) != nil {
			return nil, &config.Error{Variable: "NATS_INBOX_PREFIX", Value: prefix, Reason: "is no subject without wildcards, like _INBOX_payment"}
		}
		options = append(options, option)
	}
	return options, nil
}

// natsEvents log and count what happens to the connection.
func (s *session) natsEvents() []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: closed here
				s.connection.Disconnects.Add(1)
				s.log.Warn("lost connection to NATS", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			s.connection.Reconnects.Add(1)
			s.log.Info("connected to NATS again", "url", nc.ConnectedUrlRedacted())
		}),
		nats.LameDuckModeHandler(func(nc *nats.Conn) {
			s.connection.LameDucks.Add(1)
			s.log.Warn("the NATS server is about to stop", "url", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject, dropped := "", 0
			if sub != nil {
				subject = sub.Subject
				dropped, _ = sub.Dropped() // none of a subscription that is closed
			}
			if errors.Is(err, nats.ErrSlowConsumer) {
				s.connection.SlowConsumers.Add(1)
				s.log.Warn("messages came faster than they were taken, and were dropped", "subject", subject, "dropped", dropped, "error", err)
				return
			}
			s.connection.Errors.Add(1)
			s.log.Warn("NATS error", "subject", subject, "error", hinted(err))
		}),
	}
}

// hinted adds to what NATS refuses the setting to look at.
func hinted(err error) error {
	text := err.Error()
	hint := ""
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		hint = "set NATS_NKEY or NATS_CREDS to a key that this server knows"
	case !errors.Is(err, nats.ErrPermissionViolation):
		return err
	case strings.Contains(text, `"_INBOX.`):
		hint = "set NATS_INBOX_PREFIX to the one that this key may use"
	case strings.Contains(text, `"$JS.API.`):
		hint = "set NATS_JS_API_PREFIX if JetStream is in another account, or use a key that may"
	default:
		hint = "this key may not: see NATS_NKEY and NATS_CREDS"
	}
	return fmt.Errorf("%w: %s", err, hint)
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
			if err := nc.LastError(); err != nil && !errors.Is(err, nats.ErrNoServers) {
				return nil, fmt.Errorf("connect to NATS at %s: %w", c.s.natsTarget(), hinted(err))
			}
			advice := fmt.Sprintf("start it with %s up, or set NATS_URL", c.s.program.Name)
			if c.s.settings.NATSURL != "" {
				advice = "start it, or set another NATS_URL"
			}
			return nil, fmt.Errorf("connect to NATS: nobody answers at %s: %s", c.s.natsTarget(), advice)
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
