package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the tables up to date. Of several processes that start
// together one does it, and the others wait: a row is the lock, since
// CockroachDB has no advisory ones.
func migrate(ctx context.Context, cfg *pgx.ConnConfig, patience time.Duration) error {
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }() // every statement was answered
	for began := time.Now(); ; {
		err := bringUp(ctx, db)
		if err == nil {
			return nil
		}
		if !together(err) || time.Since(began) > patience {
			return fmt.Errorf("migrate: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("migrate: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// bringUp makes a provider each time: one that was interrupted believes in
// tables that were never committed.
func bringUp(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// Asking again every second is the finest that the locker knows.
	locker, err := lock.NewPostgresTableLocker(lock.WithTableLockTimeout(time.Second, 120), lock.WithTableLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithLocker(locker))
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	newest := sources[len(sources)-1].Version
	has, err := schemaOf(ctx, db)
	switch {
	case err != nil:
		return err
	case has > newest:
		return fmt.Errorf("the database has schema %d and this release knows up to %d: use the release that wrote it, or a newer one", has, newest)
	case has == newest:
		return nil
	}
	_, err = provider.Up(ctx)
	return err
}

// schemaOf is the number of the last migration that is in the database.
func schemaOf(ctx context.Context, db *sql.DB) (int64, error) {
	var has sql.NullInt64
	err := db.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied").Scan(&has)
	if is(err, "42P01") { // no such table
		return 0, nil
	}
	return has.Int64, err
}

// together tells whether two processes that started at once were in each
// other's way (CREATE TABLE IF NOT EXISTS fails in one of them), or a
// connection broke.
func together(err error) bool {
	return is(err, "23505", "42P07", "42710", "42P01") || errors.Is(moment(err), errMoment)
}

// is tells whether err is the server's, with one of these SQLSTATEs.
func is(err error, states ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, s := range states {
		if pg.Code == s {
			return true
		}
	}
	return false
}
