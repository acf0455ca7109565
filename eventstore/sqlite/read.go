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
	"github.com/waybill-go/waybill/eventstore/groupcommit"
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

// reader is a pool of connections that read, with its statements. All of a
// store's reading is its.
type reader struct {
	db                                        *sql.DB
	aggregate, tail, stream, head, all, saved *sql.Stmt

	listeners groupcommit.Listeners
}

func openReader(ctx context.Context, dsn string, connections int) (*reader, error) {
	db, err := sql.Open("sqlite", dsn)
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
func (r *reader) ReadAggregate(ctx context.Context, q eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	if err := q.Check(); err != nil {
		return paged.Fails(err)
	}
	what := fmt.Sprintf("read %s %q", q.Stream, q.Aggregate)
	return paged.Events(ctx, what, q.Last, page(what, func(after *eventstore.Event, n int) (*sql.Stmt, []any) {
		switch {
		case after != nil:
			return r.aggregate, []any{q.Stream, q.Aggregate, signed(after.Version + 1), n}
		case q.Last > 0:
			return r.tail, []any{q.Stream, q.Aggregate, q.Last, n}
		default:
			return r.aggregate, []any{q.Stream, q.Aggregate, signed(q.From), n}
		}
	}))
}

// ReadStream implements eventstore.Store.
func (r *reader) ReadStream(ctx context.Context, q eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	if err := q.Check(); err != nil {
		return paged.Fails(err)
	}
	what := "read " + q.Stream
	return paged.Stream(ctx, what, q, paged.Source{
		From: func(position uint64) paged.Query {
			return page(what, func(after *eventstore.Event, n int) (*sql.Stmt, []any) {
				from := position
				if after != nil {
					from = after.Position + 1
				}
				return r.stream, []any{q.Stream, signed(from), n}
			})
		},
		Await: func(ctx context.Context, position uint64) error {
			return r.listeners.Await(ctx, q.Stream, lookEvery, func() (bool, error) {
				head, err := r.Head(ctx, q.Stream)
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
			return nil, false, eventstore.Away(ctx, what, err)
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
func (r *reader) Head(ctx context.Context, stream string) (uint64, error) {
	var position uint64
	err := r.head.QueryRowContext(ctx, stream).Scan(&position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, eventstore.Away(ctx, "read head of "+stream, err)
	}
	return position, nil
}

// Streams implements eventstore.Backend.
func (r *reader) Streams(ctx context.Context) ([]string, error) {
	heads, err := scanHeads(r.all.QueryContext(ctx))
	if err != nil {
		return nil, eventstore.Away(ctx, "list streams", err)
	}
	names := make([]string, 0, len(heads))
	for stream := range heads {
		names = append(names, stream)
	}
	slices.Sort(names)
	return names, nil
}
