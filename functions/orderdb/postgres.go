package orderdb

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/waybill-go/waybill/internal/migration"
)

//go:embed postgres/migrations/*.sql
var postgresTables embed.FS

//go:embed postgres/table.sql
var postgresTable string

const (
	postgresWriters, postgresReaders = 2, 8
	// openTimeout is how long a start waits for a database that is away.
	openTimeout = 10 * time.Second
)

// postgresKind reads and writes all orders of a batch in a statement each.
type postgresKind struct{}

// openPostgres opens the database; tracer, if it is not nil, is told of every
// statement, in tests.
func (db *DB) openPostgres(ctx context.Context, dbURL string, tracer pgx.QueryTracer) error {
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
	cfg.Tracer = tracer
	db.write = stdlib.OpenDB(*cfg)
	reads := cfg.Copy()
	reads.RuntimeParams["default_transaction_read_only"] = "on"
	db.read = stdlib.OpenDB(*reads)
	db.bulk = func() (*sql.DB, error) {
		bulk := cfg.Copy()
		bulk.RuntimeParams["synchronous_commit"] = "off"
		bulk.RuntimeParams["lock_timeout"] = "1s" // others wait behind who waits to drop a table
		return stdlib.OpenDB(*bulk), nil
	}
	for pool, n := range map[*sql.DB]int{db.write: postgresWriters, db.read: postgresReaders} {
		pool.SetMaxOpenConns(n)
		pool.SetMaxIdleConns(n)
	}
	// The table of migrations has its own name, so that the events may be in the
	// same database.
	db.kind = postgresKind{}
	return migration.Postgres(ctx, db.write, migration.Folder(postgresTables, "postgres/migrations"), "orders_schema", openTimeout)
}

func (postgresKind) begin(ctx context.Context, db *sql.DB) (*sql.Tx, error) {
	return db.BeginTx(ctx, nil)
}

func (postgresKind) now() string {
	return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
}
func (postgresKind) lock() string { return " FOR UPDATE" }

func (postgresKind) by(string) string { return "" } // it has statistics

// placedKey ends the names of the constraints that hold a position to one order.
const placedKey = "_placed"

func (postgresKind) create(ctx context.Context, tx *sql.Tx, table string) error {
	for statement := range strings.SplitSeq(strings.ReplaceAll(postgresTable, "{table}", table), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (postgresKind) tables(ctx context.Context, db *sql.DB, prefix string) ([]string, error) {
	return names(db.QueryContext(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND substr(tablename, 1, length($1)) = $1", prefix))
}

func (postgresKind) drops(table string) []string { return []string{"DROP TABLE " + table} }

// settle: without statistics a query of many rows may be planned as one of few.
func (postgresKind) settle(ctx context.Context, db *sql.DB, table string) error {
	_, err := db.ExecContext(ctx, "ANALYZE "+table)
	return err
}

func (postgresKind) load(ctx context.Context, from querier, table string, ids []string) (map[string]*row, error) {
	return scanRows(from.QueryContext(ctx, "SELECT order_id, placed, version, body FROM "+table+" WHERE order_id = ANY($1)", ids))
}

func (postgresKind) store(ctx context.Context, tx *sql.Tx, table string, rows []*row, newest []any) error {
	n := len(rows)
	ids, customers, statuses, bodies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	placed, created, versions := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		body, err := json.Marshal(r.order)
		if err != nil {
			return fmt.Errorf("store order %q: %w", r.id, err)
		}
		ids[i], customers[i], statuses[i], bodies[i] = r.id, r.order.Customer, string(r.order.Status), string(body)
		placed[i], created[i], versions[i] = int64(r.placed), r.order.CreatedOn.UnixMicro(), int64(r.order.Version) //nolint:gosec // bounded by the contract
	}
	args := []any{placed, ids, customers, statuses, created, versions, bodies}
	with := ""
	if newest != nil { // in one statement: the database may be far away
		with = "WITH newest AS (" + keepNewest(len(args)+1) + ") "
		args = append(args, newest...)
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("%sINSERT INTO %s (placed, order_id, customer_id, status, created_on, version, body)"+
		" SELECT * FROM unnest($1::BIGINT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::TEXT[])%s", with, table, upsert(table)), args...)
	if err != nil {
		return failed(fmt.Sprintf("store %d orders", n), err)
	}
	return nil
}

func (postgresKind) isTaken(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasSuffix(e.ConstraintName, placedKey)
}
