package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/paged"
)

// A bare parameter as LIMIT has SQLite plan the query anew on every run, which
// takes longer than the run; ?+0 does not.
const (
	readAggregate = "SELECT " + columns + " FROM events WHERE stream = ?1 AND aggregate = ?2 AND version >= ?3 ORDER BY version LIMIT ?4+0"
	readTail      = "SELECT " + columns + " FROM events WHERE stream = ?1 AND aggregate = ?2 AND version >" +
		" (SELECT max(version) FROM events WHERE stream = ?1 AND aggregate = ?2) - ?3 ORDER BY version LIMIT ?4+0"
	readStream = "SELECT " + columns + " FROM events WHERE stream = ?1 AND position >= ?2 ORDER BY position LIMIT ?3+0"
)

// lookEvery is how often a reader that follows looks by itself; commits wake it.
const lookEvery = time.Second

// reader is a pool of connections that read, with its statements.
type reader struct {
	db                                        *sql.DB
	aggregate, tail, stream, head, all, saved *sql.Stmt
}

func openReader(ctx context.Context, file string, connections int) (*reader, error) {
	db, err := sql.Open("sqlite", dsn(file, "_pragma", "query_only(1)"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	r := &reader{db: db}
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&r.aggregate, readAggregate},
		{&r.tail, readTail},
		{&r.stream, readStream},
		{&r.head, "SELECT position FROM heads WHERE stream = ?"},
		{&r.all, "SELECT stream, position FROM heads"},
		{&r.saved, "SELECT name, config, floor FROM durables WHERE stream = ? ORDER BY name"},
	} {
		stmt, err := db.PrepareContext(ctx, s.sql)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare: %w", err), db.Close())
		}
		*s.to = stmt
	}
	return r, nil
}

func (r *reader) close() error { return r.db.Close() }

// ReadAggregate implements eventstore.Store.
func (s *Store) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	if err := r.Check(); err != nil {
		return paged.Fails(err)
	}
	what := fmt.Sprintf("read %s %q", r.Stream, r.Aggregate)
	return paged.Events(ctx, what, r.Last, page(what, func(after *eventstore.Event, n int) (*sql.Stmt, []any) {
		switch {
		case after != nil:
			return s.reader.aggregate, []any{r.Stream, r.Aggregate, signed(after.Version + 1), n}
		case r.Last > 0:
			return s.reader.tail, []any{r.Stream, r.Aggregate, r.Last, n}
		default:
			return s.reader.aggregate, []any{r.Stream, r.Aggregate, signed(r.From), n}
		}
	}))
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	if err := r.Check(); err != nil {
		return paged.Fails(err)
	}
	what := "read " + r.Stream
	return paged.Stream(ctx, what, r, paged.Source{
		From: func(position uint64) paged.Query {
			return page(what, func(after *eventstore.Event, n int) (*sql.Stmt, []any) {
				from := position
				if after != nil {
					from = after.Position + 1
				}
				return s.reader.stream, []any{r.Stream, signed(from), n}
			})
		},
		Await: func(ctx context.Context, position uint64) error {
			return s.listeners.Await(ctx, r.Stream, lookEvery, func() (bool, error) {
				head, err := s.Head(ctx, r.Stream)
				return head > position, err
			})
		},
	})
}

// page reads the pages that query makes the queries for.
func page(what string, query func(after *eventstore.Event, n int) (*sql.Stmt, []any)) paged.Query {
	return func(ctx context.Context, after *eventstore.Event, n int) ([]eventstore.Event, bool, error) {
		stmt, args := query(after, n)
		events, more, err := queryEvents(ctx, stmt, paged.MaxBytes, args...)
		if err != nil {
			return nil, false, away(ctx, what, err)
		}
		return events, more, nil
	}
}

// queryEvents brings the rows of a query to the end, or to so many bytes of
// data; then there may be more.
func queryEvents(ctx context.Context, stmt *sql.Stmt, maxBytes int, args ...any) (events []eventstore.Event, more bool, _ error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for size := 0; rows.Next(); {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, false, err
		}
		events = append(events, e)
		if size += len(e.Data); size >= maxBytes {
			return events, true, nil
		}
	}
	return events, false, rows.Err()
}

// Head implements eventstore.Backend.
func (s *Store) Head(ctx context.Context, stream string) (uint64, error) {
	var position uint64
	err := s.reader.head.QueryRowContext(ctx, stream).Scan(&position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, away(ctx, "read head of "+stream, err)
	}
	return position, nil
}

// Streams implements eventstore.Backend.
func (s *Store) Streams(ctx context.Context) ([]string, error) {
	heads, err := scanHeads(s.reader.all.QueryContext(ctx))
	if err != nil {
		return nil, away(ctx, "list streams", err)
	}
	names := make([]string, 0, len(heads))
	for stream := range heads {
		names = append(names, stream)
	}
	slices.Sort(names)
	return names, nil
}
