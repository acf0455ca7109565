package app

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/transfer"
)

// openBackend opens the events at url: sqlite:PATH or postgres://...; alone
// says that no other process can have them open too.
func openBackend(ctx context.Context, url string) (backend eventstore.Backend, alone bool, err error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch {
	case scheme == "sqlite" && rest != "":
		backend, err = sqlite.Open(ctx, rest)
		return backend, true, err
	case scheme == "postgres" || scheme == "postgresql":
		backend, err = postgres.Open(ctx, url)
		return backend, false, err
	default: // the rest of it may be a secret
		return nil, false, fmt.Errorf("it begins with %.20q, and must be postgres://... or sqlite:PATH", scheme)
	}
}

type source interface {
	transfer.Source
	io.Closer
}

// openSource opens the events at url to read them, which can be done beside an
// event store that runs.
func openSource(ctx context.Context, url string) (source, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok && path != "" {
		return sqlite.OpenReader(ctx, path)
	}
	backend, _, err := openBackend(ctx, url)
	return backend, err
}
