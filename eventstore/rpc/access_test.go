package rpc_test

import (
	"crypto/tls"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/eventstore/rpc/tlstest"
	"github.com/waybill-go/waybill/eventstore/storetest"
	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

func serveWith(t *testing.T, access rpc.Access) string {
	t.Helper()
	if err := access.Check(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(backend(t), access, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop(t.Context())
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestAccess has callers of every kind try every kind of call.
func TestAccess(t *testing.T) {
	ours, theirs := tlstest.New(t), tlstest.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{ours.Sign("eventstore")}, MinVersion: tls.VersionTLS13}
	mutual := server.Clone()
	mutual.ClientCAs, mutual.ClientAuth = ours.Pool, tls.RequireAndVerifyClientCert
	trusts := func(a *tlstest.Authority, name string, certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: a.Pool, ServerName: name, Certificates: certs, MinVersion: tls.VersionTLS13}
	}
	plain := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	const ok, denied, unknown, away = codes.OK, codes.PermissionDenied, codes.Unauthenticated, codes.Unavailable
	for name, c := range map[string]struct {
		access               rpc.Access
		caller               []grpc.DialOption
		appends, reads, many codes.Code
	}{
		"plaintext to TLS":            {rpc.Access{TLS: server}, plain, away, away, away},
		"TLS":                         {rpc.Access{TLS: server}, rpc.Secure(trusts(ours, "eventstore"), ""), ok, ok, ok},
		"another authority's server":  {rpc.Access{TLS: server}, rpc.Secure(trusts(theirs, "eventstore"), ""), away, away, away},
		"another name's server":       {rpc.Access{TLS: server}, rpc.Secure(trusts(ours, "payment"), ""), away, away, away},
		"mutual":                      {rpc.Access{TLS: mutual}, rpc.Secure(trusts(ours, "eventstore", ours.Sign("payment")), ""), ok, ok, ok},
		"mutual, without certificate": {rpc.Access{TLS: mutual}, rpc.Secure(trusts(ours, "eventstore"), ""), away, away, away},
		"mutual, another's":           {rpc.Access{TLS: mutual}, rpc.Secure(trusts(ours, "eventstore", theirs.Sign("payment")), ""), away, away, away},
		"token":                       {rpc.Access{TLS: server, Token: "t"}, rpc.Secure(trusts(ours, "eventstore"), "t"), ok, ok, ok},
		"no token":                    {rpc.Access{TLS: server, Token: "t"}, rpc.Secure(trusts(ours, "eventstore"), ""), unknown, unknown, unknown},
		"wrong token":                 {rpc.Access{TLS: server, Token: "t", ReadToken: "r"}, rpc.Secure(trusts(ours, "eventstore"), "tt"), unknown, unknown, unknown},
		"token for reading":           {rpc.Access{TLS: server, Token: "t", ReadToken: "r"}, rpc.Secure(trusts(ours, "eventstore"), "r"), denied, ok, denied},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient(serveWith(t, c.access), c.caller...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			stub := pb.NewEventStoreClient(conn)
			_, appendErr := stub.Append(t.Context(), &pb.AppendRequest{Stream: "ORDERS", Aggregate: "a", ExpectedVersion: -1, Events: []*pb.Event{{Id: "i", Type: "x", Data: "1"}}})
			_, readErr := stub.ReadAggregate(t.Context(), &pb.ReadAggregateRequest{Stream: "ORDERS", Aggregate: "a"})
			many, err := stub.AppendMany(t.Context())
			if err == nil {
				_ = many.CloseSend() // Recv tells
				if _, err = many.Recv(); err != nil && err.Error() == "EOF" {
					err = nil
				}
			}
			for what, got := range map[string]struct {
				err  error
				want codes.Code
			}{"append": {appendErr, c.appends}, "read": {readErr, c.reads}, "append many": {err, c.many}} {
				if status.Code(got.err) != got.want {
					t.Errorf("%s: %v, want %v", what, got.err, got.want)
				}
			}
			if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); c.appends != away && err != nil {
				t.Errorf("health: %v", err)
			}
		})
	}
}

// TestTokenIsNeverSentInPlaintext: the client refuses, and so does the server.
func TestTokenIsNeverSentInPlaintext(t *testing.T) {
	options := append(rpc.Secure(&tls.Config{MinVersion: tls.VersionTLS13}, "secret"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if c, err := rpc.Dial("127.0.0.1:1", options...); err == nil {
		_ = c.Close()
		t.Error("a client with a token dials in plaintext")
	}
	for _, a := range []rpc.Access{{Token: "t"}, {ReadToken: "r"}, {TLS: &tls.Config{MinVersion: tls.VersionTLS13}, ReadToken: "r"}} {
		if a.Check() == nil {
			t.Errorf("%+v is taken", a)
		}
	}
}

// TestStoreOverTLS: what is secured is still the same store.
func TestStoreOverTLS(t *testing.T) {
	ours := tlstest.New(t)
	address := serveWith(t, rpc.Access{TLS: &tls.Config{Certificates: []tls.Certificate{ours.Sign("eventstore")}, MinVersion: tls.VersionTLS13}, Token: "t"})
	c, err := rpc.Dial(address, rpc.Secure(&tls.Config{RootCAs: ours.Pool, ServerName: "eventstore", MinVersion: tls.VersionTLS13}, "t")...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i := range 50 {
		done, err := c.Append(t.Context(), storetest.To("a", eventstore.Exactly(uint64(i)), storetest.Event("x", "1")))
		if err != nil || done.Version() != uint64(i)+1 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	storetest.Consistent(t, t.Context(), c, storetest.Stream)
}
