package app

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"

	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/runtime/config"
)

// access is who may call this process's event store.
func (s *session) access() (rpc.Access, error) {
	a := rpc.Access{Token: s.settings.GRPCToken, ReadToken: s.settings.GRPCReadToken}
	switch {
	case s.settings.GRPCCert != "":
		cfg, err := s.ownCertificate()
		if err != nil {
			return a, err
		}
		if s.settings.GRPCCA != "" {
			if cfg.ClientCAs, err = s.authorities(); err != nil {
				return a, err
			}
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
		a.TLS = cfg
	case s.settings.GRPCKey != "":
		return a, &config.Error{Variable: "GRPC_KEY", Value: s.settings.GRPCKey, Reason: "needs GRPC_CERT"}
	case !s.settings.GRPCPlaintext && !isLoopback(s.settings.GRPCListen):
		return a, &config.Error{
			Variable: "GRPC_LISTEN", Value: s.settings.GRPCListen,
			Reason: "is no loopback address, and calls would go there in plaintext: set GRPC_CERT and GRPC_KEY, or GRPC_PLAINTEXT=true if the network is trusted",
		}
	}
	if err := a.Check(); err != nil {
		return a, &config.Error{Variable: "GRPC_TOKEN", Value: "...", Reason: err.Error() + " (GRPC_CERT, GRPC_KEY, GRPC_TOKEN, GRPC_READ_TOKEN)"}
	}
	return a, nil
}

// dialOptions are how this process calls an event store.
func (s *session) dialOptions() ([]grpc.DialOption, error) {
	if s.settings.GRPCCA == "" {
		if s.settings.GRPCToken != "" {
			return nil, &config.Error{Variable: "GRPC_TOKEN", Value: "...", Reason: "is never sent in plaintext: set GRPC_CA to the authority of the event store's certificate"}
		}
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: s.settings.GRPCServerName}
	if cfg.ServerName == "" && strings.HasPrefix(s.settings.EventStoreAddr, "nats:") {
		return nil, &config.Error{Variable: "GRPC_SERVER_NAME", Reason: "is needed with GRPC_CA: the name that the event stores' certificates have, since anybody on NATS can tell an address"}
	}
	var err error
	if cfg.RootCAs, err = s.authorities(); err != nil {
		return nil, err
	}
	if s.settings.GRPCCert != "" {
		own, err := s.ownCertificate()
		if err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.GetCertificate(nil) }
	}
	return rpc.Secure(cfg, s.settings.GRPCToken), nil
}

// ownCertificate is read again for each connection: one that is replaced on
// disk is used without a restart.
func (s *session) ownCertificate() (*tls.Config, error) {
	read := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(s.settings.GRPCCert, s.settings.GRPCKey)
		return &c, err
	}
	if _, err := read(); err != nil {
		return nil, &config.Error{Variable: "GRPC_CERT", Value: s.settings.GRPCCert, Reason: "with GRPC_KEY: " + err.Error()}
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return read() },
	}, nil
}

func (s *session) authorities() (*x509.CertPool, error) {
	pem, err := os.ReadFile(s.settings.GRPCCA)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New("holds no certificate in PEM")
	}
	if err != nil {
		return nil, &config.Error{Variable: "GRPC_CA", Value: s.settings.GRPCCA, Reason: err.Error()}
	}
	return pool, nil
}

// isLoopback tells whether only this machine can reach an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
