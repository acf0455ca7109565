package app

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/transfer"
)

// openBackend opens the events at db: sqlite:PATH or postgres://...; alone
// says that no other process can have them open too.
func openBackend(ctx context.Context, db string) (backend eventstore.Backend, alone bool, err error) {
	scheme, rest, _ := strings.Cut(db, ":")
	switch {
	case scheme == "sqlite" && rest != "":
		backend, err = sqlite.Open(ctx, rest)
		return backend, true, err
	case scheme == "postgres" || scheme == "postgresql":
		backend, err = postgres.Open(ctx, db)
		return backend, false, err
	default: // the rest of it may be a secret
		return nil, false, fmt.Errorf("it begins with %.20q, and must be postgres://... or sqlite:PATH", scheme)
	}
}

type source interface {
	transfer.Source
	io.Closer
}

// openSource opens the events at db to read them, which can be done beside an
// event store that runs.
func openSource(ctx context.Context, db string) (source, error) {
	if path, ok := strings.CutPrefix(db, "sqlite:"); ok && path != "" {
		return sqlite.OpenReader(ctx, path)
	}
	backend, _, err := openBackend(ctx, db)
	return backend, err
}

// redacted is the URL of a database without what is secret in it.
func redacted(db string) string {
	u, err := url.Parse(db)
	if err != nil || u.Scheme == "sqlite" {
		return db
	}
	u.RawQuery = ""
	return u.Redacted()
}
