// Package sqlite keeps the events in one SQLite file: WAL, synchronous=FULL,
// and appends committed in groups. One process at a time writes a file; a lock
// file beside it sees to that.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/internal/migration"
)

// Options change what Open does; the zero value is right for most.
type Options struct {
	// Readers is how many reads run at once beside the one writer; default 4.
	Readers int
	// Limits bound the queue of appends and what is committed at once.
	Limits groupcommit.Limits
}

// Store is an event store in a SQLite file. It implements eventstore.Backend.
type Store struct {
	*reader

	lock      *flock.Flock
	writer    *writer
	committer *groupcommit.Committer

	// committing is held for a commit and until it was told, so that it is told
	// before the next one.
	committing sync.Mutex

	planned groupcommit.Planned // the committer's goroutine uses its memory again

	closing sync.Once
	closed  error
}

var _ eventstore.Backend = (*Store)(nil)

// Open opens the file at path, and makes it, and the folders above it, if it
// is not there. It brings the tables up to date. At most one Options is looked
// at.
//
// It refuses a file that is open already, here or in another process, and one
// that a newer release has written.
func Open(ctx context.Context, path string, options ...Options) (*Store, error) {
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
	file, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("open event store %q: %w", path, err)
	}
	lock, err := takeLock(file)
	if err != nil {
		return nil, fmt.Errorf("open event store %q: %w", path, err)
	}
	s := &Store{lock: lock}
	if err := s.open(ctx, file, o); err != nil {
		return nil, fmt.Errorf("open event store %q: %w", path, errors.Join(err, s.release()))
	}
	s.committer = groupcommit.New(s.commit, o.Limits)
	return s, nil
}

// resolve makes the folders above path, and names the file in one way however
// it is reached, so that there is one lock for it.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("the path is empty")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path)) // the file is yet to be made
	return filepath.Join(folder, filepath.Base(path)), err
}

func (s *Store) open(ctx context.Context, file string, o Options) error {
	db, err := sql.Open("sqlite", dsn(file, "_txlock", "immediate"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	s.writer = &writer{db: db}
	if err := migration.SQLite(ctx, db, migration.Folder(migrations, "migrations")); err != nil {
		return err
	}
	if err := s.writer.connect(ctx); err != nil {
		return err
	}
	syncFolders(filepath.Dir(file))
	s.reader, err = openReader(ctx, dsn(file, "_pragma", "query_only(1)"), o.Readers)
	return err
}

// syncFolders puts a new file's name, and its folder's, on disk. SQLite does so
// for its log only. It is best effort: not every system can.
func syncFolders(folder string) {
	for _, name := range []string{folder, filepath.Dir(folder)} {
		if f, err := os.Open(name); err == nil {
			_ = f.Sync()
			_ = f.Close()
		}
	}
}

// OnCommit implements eventstore.Backend.
func (s *Store) OnCommit(f func(stream string, events []eventstore.Event)) {
	s.listeners.Add(f)
}

// Stats tells how much was committed, and how much waits.
func (s *Store) Stats() groupcommit.Stats { return s.committer.Stats() }

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
	if s.reader != nil {
		errs = append(errs, s.close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
