// Package sqlite keeps the events in one SQLite file: WAL, synchronous=FULL,
// and appends committed in groups. One process at a time writes a file; a lock
// file beside it sees to that.
package sqlite

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
	"sync"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many reads run at once beside the one writer.
const readers = 4

// Store is an event store in a SQLite file. It implements eventstore.Backend.
type Store struct {
	path  string
	lock  *flock.Flock
	write *sql.DB // one connection, used by the committer and SaveDurables
	read  *sql.DB
	stmts statements

	committer *groupcommit.Committer
	// heads are the streams' last positions, as committed; nil when they must
	// be read anew. Only the committer's goroutine touches them.
	heads map[string]uint64

	mu       sync.RWMutex
	onCommit []func(string, []eventstore.Event)

	closing sync.Once
	closed  error
}

var _ eventstore.Backend = (*Store)(nil)

// Open opens the file at path, and makes it, and the folders above it, if it
// is not there. A file that another process has open is refused.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("open event store: %w", err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, lock: lock}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open event store %q: %w", path, err), s.release())
	}
	s.committer = groupcommit.New(s.commit)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	var err error
	if s.write, err = sql.Open("sqlite", dsn(s.path, "_txlock", "immediate")); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	s.write.SetConnMaxIdleTime(0)
	if err := migrate(ctx, s.write); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", dsn(s.path, "_pragma", "query_only(1)")); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	return s.stmts.prepare(ctx, s.write, s.read)
}

func dsn(path, option, value string) string {
	q := url.Values{"_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "temp_store(MEMORY)", "cache_size(-16384)",
	}}
	q.Add(option, value)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func migrate(ctx context.Context, db *sql.DB) error {
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
		return fmt.Errorf("migrate: the database has schema %d and this release knows up to %d: use a newer release", has, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// takeLock makes sure that no other process writes the file, and notes who
// does.
func takeLock(path string) (*flock.Flock, error) {
	name := path + ".lock"
	lock := flock.New(name)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock event store %q: %w", path, err)
	}
	if !ok {
		holder, _ := os.ReadFile(name) // only to tell who; the lock is what counts
		return nil, fmt.Errorf("open event store %q: process %s has it open; one process writes a SQLite file: "+
			"stop that one, or let several share a database with EVENTSTORE_DB=postgres://",
			path, strings.TrimSpace(string(holder)))
	}
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock event store %q: %w", path, err), lock.Close())
	}
	return lock, nil
}

// OnCommit implements eventstore.Backend.
func (s *Store) OnCommit(f func(stream string, events []eventstore.Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onCommit = append(s.onCommit, f)
}

// Close implements eventstore.Backend.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.committer.Close()
		s.closed = s.release()
	})
	return s.closed
}

// release closes what is open. The lock goes last.
func (s *Store) release() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// away wraps a database's error as one that is worth a retry.
func away(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, eventstore.ErrUnavailable, err)
}
