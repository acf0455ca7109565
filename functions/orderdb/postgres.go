package orderdb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/waybill-go/waybill/internal/migration"
)

//go:embed postgres/migrations/*.sql
var postgresTables embed.FS

const (
	postgresWriters, postgresReaders = 2, 8
	// postgresPatience is how long a start waits for a database that is away.
	postgresPatience = 10 * time.Second
)

// postgresKind reads and writes all orders of a batch in a statement each.
type postgresKind struct{}

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
	db.kind = postgresKind{}
	return migration.Postgres(ctx, db.write, migration.Folder(postgresTables, "postgres/migrations"), "orders_schema", postgresPatience)
}

func (postgresKind) load(ctx context.Context, tx *sql.Tx, ids []string) (map[string]*row, error) {
	return scanRows(tx.QueryContext(ctx, "SELECT order_id, placed, version, body FROM orders WHERE order_id = ANY($1)", ids))
}

func (postgresKind) store(ctx context.Context, tx *sql.Tx, rows []*row) error {
	n := len(rows)
	ids, customers, statuses, bodies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	placed, versions := make([]int64, n), make([]int64, n)
	for i, r := range rows {
		body, err := json.Marshal(r.order)
		if err != nil {
			return fmt.Errorf("store order %q: %w", r.id, err)
		}
		ids[i], customers[i], statuses[i], bodies[i] = r.id, r.order.Customer, string(r.order.Status), string(body)
		placed[i], versions[i] = int64(r.placed), int64(r.order.Version) //nolint:gosec // bounded by the contract
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO orders (order_id, customer_id, status, placed, version, body)"+
		" SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::BIGINT[], $5::BIGINT[], $6::TEXT[])"+onConflict,
		ids, customers, statuses, placed, versions, bodies)
	if err != nil {
		return notStored(fmt.Sprintf("%d orders", n), err)
	}
	return nil
}
