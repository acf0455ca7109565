// Package orderdb is the read model of orders: a table that orderview keeps
// and orderquery reads. It can be made anew from the events at any time.
package orderdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// DB is the read model. Several processes may have the same one open.
type DB struct {
	settings struct {
		URL string `env:"ORDERS_DB, default=sqlite:$DATA_DIR/orders.db" secret:"true" help:"where the read model of orders is, sqlite:PATH or postgres://..."`
	}
	write, read *sql.DB

	kind kind
	get  *sql.Stmt // on the readers

	known atomic.Bool // the events are those that the table was made of

	tracer pgx.QueryTracer // told of every statement to Postgres, in tests
}

// kind is what differs between the databases.
type kind interface {
	// load reads those of the orders that are there.
	load(ctx context.Context, tx *sql.Tx, ids []string) (map[string]*row, error)
	// store stores orders. An order is the fold of its first events, so the
	// longer fold is the right one, whoever stores it last.
	store(ctx context.Context, tx *sql.Tx, rows []*row) error
}

// New makes a read model; Open opens it.
func New() *DB { return &DB{} }

// Config implements function.Resource: it points to the settings.
func (db *DB) Config() any { return &db.settings }

// Open opens the database, and makes what is not there.
func (db *DB) Open(ctx context.Context) error {
	scheme, path, _ := strings.Cut(db.settings.URL, ":")
	var err error
	switch {
	case scheme == "sqlite" && path != "" && path != ":memory:":
		err = db.openSQLite(ctx, path)
	case scheme == "postgres" || scheme == "postgresql":
		err = db.openPostgres(ctx, db.settings.URL)
	default:
		return fmt.Errorf("open read model: ORDERS_DB=%q: it must be postgres://... or sqlite:PATH", redacted(db.settings.URL))
	}
	if err == nil {
		db.get, err = db.read.PrepareContext(ctx, "SELECT body FROM orders WHERE order_id = $1")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open read model: ORDERS_DB=%q: %w", redacted(db.settings.URL), err), db.Close())
	}
	return nil
}

// redacted keeps a password out of a message: no more than the scheme is shown
// of what is not SQLite's.
func redacted(s string) string {
	if scheme, _, ok := strings.Cut(s, ":"); ok && !strings.ContainsAny(scheme, " =") {
		if scheme == "sqlite" {
			return s
		}
		return scheme + ":..."
	}
	return "..."
}

// Close closes the database.
func (db *DB) Close() error {
	var errs []error
	for _, d := range []*sql.DB{db.read, db.write} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	db.read, db.write = nil, nil
	return errors.Join(errs...)
}
