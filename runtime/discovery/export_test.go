package discovery

import (
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/resolver"
)

// ResolverEvery looks that often, so that a test tells what makes it look.
func ResolverEvery(nc *nats.Conn, every time.Duration) resolver.Builder { return builder{nc, every} }
