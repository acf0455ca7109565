package orderdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
)

// DB is a view of all orders in a database. Several processes may have the same
// one open.
type DB struct {
	view     string
	variable string // whose value url points to
	settings any
	url      *string

	write, read *sql.DB
	kind        kind
	// bulk opens a connection for what can be done again: it does not wait for
	// the disk. What waits for it, later and on another connection, has this on
	// disk too.
	bulk func() (*sql.DB, error)

	refreshing sync.Mutex            // so that one at a time prepares statements
	current    atomic.Pointer[table] // that readers used last

	known atomic.Int64 // the generation that was made of the events at hand
	slot  int64        // where this process keeps the newest event
}

// kind is what differs between the databases.
type kind interface {
	// begin begins a transaction that writes.
	begin(ctx context.Context, db *sql.DB) (*sql.Tx, error)
	// create makes a table and its indexes.
	create(ctx context.Context, tx *sql.Tx, table string) error
	// tables are the names of the tables that begin so.
	tables(ctx context.Context, db *sql.DB, prefix string) ([]string, error)
	// drops are the statements that drop a table, each in a transaction of its own.
	drops(table string) []string
	// settle has the database learn what a new table is like.
	settle(ctx context.Context, db *sql.DB, table string) error
	// load reads those of the orders that are there.
	load(ctx context.Context, from querier, table string, ids []string) (map[string]*row, error)
	// store stores orders. An order is the fold of its first events, so the
	// longer fold is the right one, whoever stores it last. With them goes the
	// newest event, unless it is nil.
	store(ctx context.Context, tx *sql.Tx, table string, rows []*row, newest []any) error
	// isTaken tells whether an order could not be stored because another one has its
	// position.
	isTaken(err error) bool
	// by follows a table's name where an index is to be used, for a database that
	// would choose another.
	by(index string) string
	// now is the database's clock, in SQL: milliseconds since 1970.
	now() string
	// lock ends a SELECT of a row that the transaction goes on to change.
	lock() string
}

// querier is a transaction, or a pool of connections.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// New makes the view that the program has; Open opens it.
func New() *DB {
	settings := &struct {
		URL string `env:"ORDERS_DB, default=sqlite:$DATA_DIR/orders.db" secret:"true" help:"where the view of orders is, sqlite:PATH or postgres://..."`
	}{}
	return NewView("orderview", "ORDERS_DB", settings, &settings.URL)
}

// NewView makes a view beside others; Open opens it. Its name matches
// [a-z][a-z0-9]{0,31}, and is that of the function which keeps it. settings points
// to a struct for package config, of which url is the field that says where the
// view's database is, and variable its name; views may share a database.
func NewView(name, variable string, settings any, url *string) *DB {
	return &DB{view: name, variable: variable, settings: settings, url: url, slot: rand.Int64N(slots)} //nolint:gosec // no secret
}

// View is the view's name.
func (db *DB) View() string { return db.view }

// Config implements function.Resource: it points to the settings.
func (db *DB) Config() any { return db.settings }

var viewGrammar = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)

// Open opens the database, and makes what is not there.
func (db *DB) Open(ctx context.Context) error {
	if !viewGrammar.MatchString(db.view) {
		return fmt.Errorf("open view %q: its name does not match %s", db.view, viewGrammar)
	}
	scheme, path, _ := strings.Cut(*db.url, ":")
	var err error
	switch {
	case scheme == "sqlite" && path != "" && path != ":memory:":
		err = db.openSQLite(ctx, path)
	case scheme == "postgres" || scheme == "postgresql":
		err = db.openPostgres(ctx, *db.url, nil)
	default:
		return fmt.Errorf("open view: %s=%q: it must be postgres://... or sqlite:PATH", db.variable, redacted(*db.url))
	}
	if err == nil {
		err = db.findView(ctx)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open view: %s=%q: %w", db.variable, redacted(*db.url), err), db.Close())
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
