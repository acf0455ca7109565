// Package postgres keeps the events in PostgreSQL, or in a database that speaks
// its language: CockroachDB. Any number of processes may append to one
// database.
//
// Appends of a stream are committed in groups. A group locks the stream's row
// in heads, and only then looks up what it needs in statements of their own: so
// they see what the group before them committed, from whatever process, and the
// positions it hands out are gapless and in commit order. There are no advisory
// locks, no LISTEN and no sequences.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/internal/migration"
)

// Options change what Open does; the zero value is right for most.
type Options struct {
	// Limits bound each stream's queue of appends and what is committed at once.
	Limits groupcommit.Limits
	// RetryTimeout is how long a group is tried again while the database is away
	// or refuses for the moment. Default 10 s.
	RetryTimeout time.Duration

	// isolation is the transactions'; READ COMMITTED if empty. Tests have
	// others.
	isolation pgx.TxIsoLevel
	// fault is called before a statement, in tests: the statement fails with its
	// error. After is true where the statement is done nevertheless.
	fault func(statement string) (err error, after bool)
	// tracer is told of every statement, in tests.
	tracer pgx.QueryTracer
}

const (
	// maxStreams bounds the goroutines that commit.
	maxStreams = 256
	// defaultConns is how many connections a process has at the most where the
	// URL does not say (pool_max_conns).
	defaultConns = 12
	writeConns   = 4

	connectTimeout = 5 * time.Second
)

// Store is an event store in a PostgreSQL database. It implements
// eventstore.Backend.
type Store struct {
	read, write *pgxpool.Pool
	options     Options
	listeners   groupcommit.Listeners

	life    context.Context //nolint:containedctx // ends with Close: nothing is tried again after that
	endLife context.CancelFunc

	mu      sync.Mutex
	writers map[string]*writer
	closed  bool
	closing sync.Once
}

var _ eventstore.Backend = (*Store)(nil)

// Open connects to the database at url (postgres://...) and brings its tables
// up to date; several processes may do so at once. At most one Options is
// looked at.
//
// The URL is pgx's: sslmode, sslrootcert, connect_timeout, statement_timeout,
// pool_max_conns and others are parameters of it. What it leaves out is bounded
// here. No error tells its password.
func Open(ctx context.Context, url string, options ...Options) (*Store, error) {
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	if o.RetryTimeout <= 0 {
		o.RetryTimeout = 10 * time.Second
	}
	if o.isolation == "" {
		o.isolation = pgx.ReadCommitted
	}
	cfg, err := parse(url)
	if err != nil {
		return nil, fmt.Errorf("open event store: %w", err)
	}
	cfg.ConnConfig.Tracer = o.tracer
	where := fmt.Sprintf("%s:%d/%s", cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.Database)
	if err := migrate(ctx, cfg.ConnConfig, o.RetryTimeout); err != nil {
		return nil, fmt.Errorf("open event store at %s: %w", where, err)
	}
	s := &Store{options: o, writers: map[string]*writer{}}
	s.life, s.endLife = context.WithCancel(context.Background())
	if s.read, s.write, err = pools(ctx, cfg, strings.Contains(url, "pool_max_conns=")); err != nil {
		return nil, fmt.Errorf("open event store at %s: %w", where, err)
	}
	return s, nil
}

// parse reads the URL, and bounds what it leaves open.
func parse(url string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the URL can't be read; it has the form postgres://user@host:5432/database?sslmode=verify-full")
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	for name, value := range map[string]string{
		"application_name": "waybill",
		// A process that stands still in the middle of a commit must not hold
		// the others' lock for ever.
		"idle_in_transaction_session_timeout": "5s",
		"statement_timeout":                   "30s",
	} {
		if _, set := cfg.ConnConfig.RuntimeParams[name]; !set {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
	cfg.AfterConnect = steady
	return cfg, nil
}

// steady keeps a connection's plans good: one that is made while the table is
// empty is used when it is large. A database that does not know a setting does
// not need it.
func steady(ctx context.Context, conn *pgx.Conn) error {
	for _, set := range []string{"SET enable_seqscan = off", "SET jit = off"} {
		var pg *pgconn.PgError
		if _, err := conn.Exec(ctx, set); err != nil && !errors.As(err, &pg) {
			return err
		}
	}
	return nil
}

//go:embed migrations/*.sql
var migrations embed.FS

func migrate(ctx context.Context, cfg *pgx.ConnConfig, timeout time.Duration) error {
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }() // every statement was answered
	return migration.Postgres(ctx, db, migration.Folder(migrations, "migrations"), "eventstore_schema", timeout)
}

// pools divides the connections, so that reads never keep an append waiting.
func pools(ctx context.Context, cfg *pgxpool.Config, bounded bool) (read, write *pgxpool.Pool, err error) {
	most := max(2, cfg.MaxConns)
	if !bounded {
		most = defaultConns
	}
	writing := cfg.Copy()
	writing.MaxConns = min(writeConns, most/2)
	cfg.MaxConns = most - writing.MaxConns
	if read, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, nil, err
	}
	if write, err = pgxpool.NewWithConfig(ctx, writing); err != nil {
		read.Close()
		return nil, nil, err
	}
	return read, write, nil
}

// OnCommit implements eventstore.Backend.
func (s *Store) OnCommit(f func(stream string, events []eventstore.Event)) { s.listeners.Add(f) }

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if err := eventstore.CheckStream(a.Stream); err != nil {
		return eventstore.Appended{}, err
	}
	w, err := s.writer(a.Stream)
	if err != nil {
		return eventstore.Appended{}, err
	}
	return w.committer.Append(ctx, a)
}

// writer is the one of a stream, which begins when it is first written to.
func (s *Store) writer(stream string) (*writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.writers[stream]; ok {
		return w, nil
	}
	if s.closed {
		return nil, fmt.Errorf("append to %s: closing: %w", stream, eventstore.ErrUnavailable)
	}
	if len(s.writers) >= maxStreams {
		return nil, &eventstore.InvalidError{Field: "stream", Reason: fmt.Sprintf("would be one too many; a process appends to at most %d", maxStreams)}
	}
	w := &writer{s: s, stream: stream}
	w.committer = groupcommit.New(w.commit, s.options.Limits)
	s.writers[stream] = w
	return w, nil
}

// Stats tells how much was committed, and how much waits, of all streams.
func (s *Store) Stats() (all groupcommit.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writers {
		all = all.Plus(w.committer.Stats())
	}
	return all
}

// Close implements eventstore.Backend. It commits what is queued, each group
// with one try.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		all := s.writers
		s.mu.Unlock()
		s.endLife() // no more tries; what is under way ends
		for _, w := range all {
			w.committer.Close()
		}
		s.write.Close()
		s.read.Close()
	})
	return nil
}
