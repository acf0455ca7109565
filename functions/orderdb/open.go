package orderdb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/waybill-go/waybill/internal/migration"
)

//go:embed sqlite/migrations/*.sql
var sqliteTables embed.FS

//go:embed postgres/migrations/*.sql
var postgresTables embed.FS

const (
	lockRetry = 10 * time.Millisecond
	// Connections of SQLite that read, and of Postgres that write and read.
	sqliteReaders                    = 4
	postgresWriters, postgresReaders = 2, 8
	// postgresPatience is how long a start waits for a database that is away.
	postgresPatience = 10 * time.Second
)

func (db *DB) openSQLite(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	var err error
	if db.write, err = sql.Open("sqlite", dsn(path, "_txlock", "immediate")); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1) // each transaction begins as the file's one writer
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	err = migration.SQLite(ctx, db.write, migration.Folder(sqliteTables, "sqlite/migrations"))
	if err := errors.Join(err, lock.Close()); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(path, "_pragma", "query_only(1)")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(sqliteReaders)
	db.read.SetMaxIdleConns(sqliteReaders)
	return nil
}

func dsn(path, option, value string) string {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	q.Add(option, value)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (db *DB) openPostgres(ctx context.Context, dbURL string) error {
	cfg, err := pgx.ParseConfig(dbURL)
	if err != nil {
		return errors.New("the URL can't be read; it has the form postgres://user@host:5432/database?sslmode=verify-full")
	}
	for name, value := range map[string]string{
		"application_name": "waybill", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "5s",
	} {
		if _, set := cfg.RuntimeParams[name]; !set {
			cfg.RuntimeParams[name] = value
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	cfg.Tracer = db.tracer
	db.write = stdlib.OpenDB(*cfg)
	reads := cfg.Copy()
	reads.RuntimeParams["default_transaction_read_only"] = "on"
	db.read = stdlib.OpenDB(*reads)
	for pool, n := range map[*sql.DB]int{db.write: postgresWriters, db.read: postgresReaders} {
		pool.SetMaxOpenConns(n)
		pool.SetMaxIdleConns(n)
	}
	// The table of migrations has its own name, so that the events may be in the
	// same database.
	return migration.Postgres(ctx, db.write, migration.Folder(postgresTables, "postgres/migrations"), "orders_schema", postgresPatience)
}

// isTaken tells whether a row could not be stored because another order has its
// position.
func isTaken(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.ConstraintName == "orders_placed"
}
