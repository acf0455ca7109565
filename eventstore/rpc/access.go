package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/waybill-go/waybill/proto/eventstore/v1"
)

// Access says who may do what. The zero value lets everybody do everything, in
// plaintext: it is for loopback.
type Access struct {
	// TLS is the server's side of the connections; with ClientCAs and
	// RequireAndVerifyClientCert in it callers need a certificate.
	TLS *tls.Config
	// Token, if not empty, is what callers must show to append, and may show to
	// read. It needs TLS.
	Token string
	// ReadToken, if not empty, is what callers may show who only read.
	ReadToken string
}

// Check says what does not go together.
func (a Access) Check() error {
	switch {
	case a.TLS == nil && a.Token+a.ReadToken != "":
		return errors.New("a token needs TLS: it would be there to read for everybody on the way")
	case a.Token == "" && a.ReadToken != "":
		return errors.New("a token for reading needs one for appending: without it everybody may append")
	case a.Token != "" && a.Token == a.ReadToken:
		return errors.New("the token for reading is the one for appending: who has it may append")
	}
	return nil
}

func (a Access) options() []grpc.ServerOption {
	if a.TLS == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(a.TLS))}
}

const (
	headerToken = "authorization"
	bearer      = "Bearer "
)

// allow refuses callers that may not make a call. Anybody may ask for health.
func (a Access) allow(ctx context.Context, method string) error {
	if a.Token == "" || strings.HasPrefix(method, "/"+healthpb.Health_ServiceDesc.ServiceName+"/") {
		return nil
	}
	shown := ""
	if values := metadata.ValueFromIncomingContext(ctx, headerToken); len(values) == 1 {
		shown = strings.TrimPrefix(values[0], bearer)
	}
	// Both are compared, whatever the first comparison says.
	may, mayRead := same(shown, a.Token), a.ReadToken != "" && same(shown, a.ReadToken)
	switch {
	case may, mayRead && !appends(method):
		return nil
	case mayRead:
		return status.Error(codes.PermissionDenied, "this token may read, and not append")
	case shown == "":
		return status.Error(codes.Unauthenticated, "no token was shown: set GRPC_TOKEN")
	default:
		return status.Error(codes.Unauthenticated, "the token is not right: check GRPC_TOKEN")
	}
}

func appends(method string) bool {
	return method == pb.EventStore_Append_FullMethodName || method == pb.EventStore_AppendMany_FullMethodName
}

// same compares in a time that tells nothing of what differs.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Secure are the options of Dial for façades that have TLS: cfg names, in
// ServerName, whose certificate they must show. The token may be empty. It is
// never sent in plaintext.
func Secure(cfg *tls.Config, token string) []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(cfg))}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenCredentials(token)))
	}
	return options
}

type tokenCredentials string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t tokenCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{headerToken: bearer + string(t)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (tokenCredentials) RequireTransportSecurity() bool { return true }
