package orderdb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/waybill-go/waybill/internal/migration"
)

//go:embed sqlite/migrations/*.sql
var sqliteTables embed.FS

//go:embed sqlite/table.sql
var sqliteTable string

const (
	lockRetry     = 10 * time.Millisecond
	sqliteReaders = 4
)

// sqliteKind has one connection that writes.
type sqliteKind struct{}

func (db *DB) openSQLite(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	writer := func(more ...string) (*sql.DB, error) {
		write, err := sql.Open("sqlite", dsn(path, "_txlock=immediate", append(more, "busy_timeout(1)")...))
		if err == nil {
			write.SetMaxOpenConns(1) // each transaction begins as the file's one writer
		}
		return write, err
	}
	db.bulk = func() (*sql.DB, error) {
		return writer("synchronous(NORMAL)", "cache_size(-65536)")
	}
	var err error
	if db.write, err = writer(); err != nil {
		return err
	}
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	err = migration.SQLite(ctx, db.write, migration.Folder(sqliteTables, "sqlite/migrations"))
	if err := errors.Join(err, lock.Close()); err != nil {
		return err
	}
	if db.read, err = sql.Open("sqlite", dsn(path, "", "query_only(1)")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(sqliteReaders)
	db.read.SetMaxIdleConns(sqliteReaders)
	db.kind = sqliteKind{}
	return nil
}

// The file has one writer at a time. SQLite itself would look for its turn ever
// more seldom, and a writer that always has something to write leaves little
// between two transactions: others would wait for seconds.
const (
	writerWait = 5 * time.Second
	writerLook = time.Millisecond
)

func (sqliteKind) begin(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	for began := time.Now(); ; {
		tx, err := db.BeginTx(ctx, nil)
		busy, ok := errors.AsType[*sqlite.Error](err)
		if !ok || busy.Code()&0xff != sqlite3.SQLITE_BUSY || time.Since(began) > writerWait {
			return tx, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(writerLook):
		}
	}
}

func (sqliteKind) now() string  { return "CAST(unixepoch('subsec') * 1000 AS INTEGER)" }
func (sqliteKind) lock() string { return "" } // the transaction has the file

// by: without statistics a status looks as good as a customer and a status.
func (sqliteKind) by(index string) string { return " INDEXED BY " + index }

// create makes placed the key of the table's own tree: new orders come at its
// end, and each index ends with it.
func (sqliteKind) create(ctx context.Context, tx *sql.Tx, table string) error {
	_, err := tx.ExecContext(ctx, strings.ReplaceAll(sqliteTable, "{table}", table))
	return err
}

func (sqliteKind) tables(ctx context.Context, db *sql.DB, prefix string) ([]string, error) {
	return names(db.QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, length($1)) = $1", prefix))
}

// drops takes the indexes one by one, since writers wait for each: a large table
// takes a while.
func (sqliteKind) drops(table string) []string {
	return []string{
		"DROP INDEX IF EXISTS " + table + "_created", "DROP INDEX IF EXISTS " + table + "_customer",
		"DROP INDEX IF EXISTS " + table + "_status", "DROP INDEX IF EXISTS " + table + "_customer_status",
		"DROP TABLE " + table,
	}
}

func (sqliteKind) settle(context.Context, *sql.DB, string) error { return nil } // it plans without statistics

func (sqliteKind) load(ctx context.Context, from querier, table string, ids []string) (map[string]*row, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("load orders: %w", err)
	}
	return scanRows(from.QueryContext(ctx, "SELECT order_id, placed, version, body"+
		" FROM (SELECT value AS asked FROM json_each($1)) CROSS JOIN "+table+" WHERE order_id = asked", string(list)))
}

func (sqliteKind) store(ctx context.Context, tx *sql.Tx, table string, rows []*row, newest []any) error {
	stmt, err := tx.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (placed, order_id, customer_id, status, created_on, version, body)"+
		" VALUES ($1, $2, $3, $4, $5, $6, $7)%s", table, upsert(table)))
	if err != nil {
		return failed("store orders", err)
	}
	defer func() { _ = stmt.Close() }() // it goes with the transaction
	for _, r := range rows {
		body, err := json.Marshal(r.order)
		if err != nil {
			return fmt.Errorf("store order %q: %w", r.id, err)
		}
		if _, err = stmt.ExecContext(ctx, r.placed, r.id, r.order.Customer, string(r.order.Status), r.order.CreatedOn.UnixMicro(), r.order.Version, string(body)); err != nil {
			return failed(fmt.Sprintf("store order %q", r.id), err)
		}
	}
	if newest != nil {
		if _, err := tx.ExecContext(ctx, keepNewest(1), newest...); err != nil {
			return failed("keep newest event", err)
		}
	}
	return nil
}

func (sqliteKind) isTaken(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
}

func dsn(path, option string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}, pragmas...)}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode() + "&" + option
}
