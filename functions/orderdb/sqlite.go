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
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/waybill-go/waybill/internal/migration"
)

//go:embed sqlite/migrations/*.sql
var sqliteTables embed.FS

const (
	lockRetry     = 10 * time.Millisecond
	sqliteReaders = 4
)

// sqliteKind has its statements on the one connection that writes.
type sqliteKind struct{ loadAll, storeOne *sql.Stmt }

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
	k := &sqliteKind{}
	if k.loadAll, err = db.write.PrepareContext(ctx, "SELECT order_id, placed, version, body"+
		" FROM (SELECT value AS asked FROM json_each($1)) CROSS JOIN orders WHERE order_id = asked"); err != nil {
		return err
	}
	k.storeOne, err = db.write.PrepareContext(ctx, "INSERT INTO orders (order_id, customer_id, status, placed, version, body) VALUES ($1, $2, $3, $4, $5, $6)"+onConflict)
	db.kind = k
	return err
}

func (k *sqliteKind) load(ctx context.Context, tx *sql.Tx, ids []string) (map[string]*row, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("load orders: %w", err)
	}
	return scanRows(tx.StmtContext(ctx, k.loadAll).QueryContext(ctx, string(list)))
}

func (k *sqliteKind) store(ctx context.Context, tx *sql.Tx, rows []*row) error {
	stmt := tx.StmtContext(ctx, k.storeOne)
	for _, r := range rows {
		body, err := json.Marshal(r.order)
		if err != nil {
			return fmt.Errorf("store order %q: %w", r.id, err)
		}
		if _, err = stmt.ExecContext(ctx, r.id, r.order.Customer, string(r.order.Status), r.placed, r.order.Version, string(body)); err != nil {
			return notStored(fmt.Sprintf("order %q", r.id), err)
		}
	}
	return nil
}

func dsn(path, option, value string) string {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	q.Add(option, value)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}
