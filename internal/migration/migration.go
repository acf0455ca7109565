// Package migration brings the tables of a database up to date.
package migration

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// SQLite runs the files on a SQLite file. One process
// at a time may do so.
func SQLite(ctx context.Context, db *sql.DB, files fs.FS) error {
	if err := up(ctx, db, goose.DialectSQLite3, files); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// CheckSQLite says whether a SQLite file's tables are those that the files
// make, and changes nothing.
func CheckSQLite(ctx context.Context, db *sql.DB, files fs.FS) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	var has, tables int64
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = ?", goose.DefaultTablename).Scan(&tables)
	if err == nil && tables > 0 {
		err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM "+goose.DefaultTablename).Scan(&has)
	}
	if err != nil {
		return err
	}
	switch newest := newest(provider); {
	case has > newest:
		return tooNew(has, newest)
	case has < newest:
		return fmt.Errorf("the database has schema %d and this release reads %d: have an event store of this release open it once", has, newest)
	}
	return nil
}

// Postgres runs the files on PostgreSQL or CockroachDB, and notes in table which
// are done. Of several processes that start together one does it, and the others
// wait: a row is the lock, since CockroachDB has no advisory ones. For as long as
// timeout it tries again what may be better then.
func Postgres(ctx context.Context, db *sql.DB, files fs.FS, table string, timeout time.Duration) error {
	for began := time.Now(); ; {
		// Asking again every second is the finest that the locker knows. A
		// provider that was interrupted believes in tables that were never
		// committed, so each try has its own.
		locker, err := lock.NewPostgresTableLocker(lock.WithTableName(table+"_lock"),
			lock.WithTableLockTimeout(time.Second, 120), lock.WithTableLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		err = up(ctx, db, goose.DialectPostgres, files, goose.WithTableName(table), goose.WithLocker(locker))
		if err == nil {
			return nil
		}
		limit := timeout
		if errors.As(err, new(*pgconn.PgError)) {
			limit = max(limit, lockWait) // it is there; another may have had the lock for most of the time
		}
		if !passes(err) || time.Since(began) > limit {
			return fmt.Errorf("migrate: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("migrate: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lockWait is how long a process that was killed may leave the lock behind.
const lockWait = time.Minute

// Folder is a folder of embedded files.
func Folder(files embed.FS, name string) fs.FS {
	folder, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // only for a name that can be none
	}
	return folder
}

// errNewer says that waiting will not help.
var errNewer = errors.New("use the release that wrote it, or a newer one")

func up(ctx context.Context, db *sql.DB, dialect goose.Dialect, files fs.FS, options ...goose.ProviderOption) error {
	provider, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return err
	}
	has, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	newest := newest(provider)
	if has > newest {
		return tooNew(has, newest)
	}
	if has < newest {
		_, err = provider.Up(ctx)
	}
	return err
}

// newest is the version that the files bring a database to.
func newest(p *goose.Provider) int64 {
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

func tooNew(has, newest int64) error {
	return fmt.Errorf("the database has schema %d and this release knows up to %d: %w", has, newest, errNewer)
}

// passes tells whether two processes that started at once were in each other's
// way (CREATE TABLE IF NOT EXISTS fails in one of them), or the database is
// away for the moment.
func passes(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return !errors.Is(err, errNewer)
	}
	return slices.ContainsFunc([]string{"08", "40", "53", "57P", "23505", "42P07", "42710", "42P01"}, func(state string) bool {
		return strings.HasPrefix(pg.Code, state)
	})
}
