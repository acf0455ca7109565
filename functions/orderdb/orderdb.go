// Package orderdb is the read model of orders: a table that orderview keeps
// and orderquery reads. It can be made anew from the events at any time.
package orderdb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	readers   = 4
	lockRetry = 10 * time.Millisecond
)

// DB is the read model. Several processes may have the same file open.
type DB struct {
	settings struct {
		URL string `env:"ORDERS_DB, default=sqlite:$DATA_DIR/orders.db" help:"where the read model of orders is, sqlite:PATH"`
	}
	write *sql.DB // one connection; each transaction begins as a writer
	read  *sql.DB

	load, store *sql.Stmt // on the writer
	get         *sql.Stmt // on the readers
}

// New makes a read model; Open opens it.
func New() *DB { return &DB{} }

// Config implements function.Resource: it points to the settings.
func (db *DB) Config() any { return &db.settings }

// Open opens the file, and makes it if it is not there.
func (db *DB) Open(ctx context.Context) error {
	path, ok := strings.CutPrefix(db.settings.URL, "sqlite:")
	if !ok || path == "" || path == ":memory:" {
		return fmt.Errorf("open read model: ORDERS_DB=%q: this release keeps it in a file of SQLite: set sqlite:PATH", redacted(db.settings.URL))
	}
	if err := db.open(ctx, path); err != nil {
		return errors.Join(fmt.Errorf("open read model %q: %w", path, err), db.Close())
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

func (db *DB) open(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	var err error
	if db.write, err = sql.Open("sqlite", dsn(path, "_txlock", "immediate")); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if err := migrate(ctx, db.write, path); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(path, "_pragma", "query_only(1)")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	return db.prepare(ctx)
}

func (db *DB) prepare(ctx context.Context) error {
	for _, s := range []struct {
		to  **sql.Stmt
		db  *sql.DB
		sql string
	}{
		{&db.load, db.write, "SELECT placed, version, body FROM orders WHERE order_id = ?"},
		{&db.store, db.write, `INSERT INTO orders (order_id, customer_id, status, placed, version, body) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, version = excluded.version, body = excluded.body`},
		{&db.get, db.read, "SELECT body FROM orders WHERE order_id = ?"},
	} {
		stmt, err := s.db.PrepareContext(ctx, s.sql)
		if err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		*s.to = stmt
	}
	return nil
}

func dsn(path, option, value string) string {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	q.Add(option, value)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// migrate brings the tables up to date: one process at a time, since several
// may start together.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer func() { _ = lock.Close() }() // ends with the process at the latest
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	has, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; has > newest {
		return fmt.Errorf("it has schema %d and this release knows up to %d: use the release that wrote it, or a newer one", has, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Close closes the file.
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
