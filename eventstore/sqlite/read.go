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
)

// pageRows is how many events one query brings. A page grows while its events
// are small, so that 512 KiB each never makes much.
const (
	firstPage   = 32
	maxPage     = 1024
	maxPageSize = 4 << 20
)

// ReadAggregate implements eventstore.Store.
func (s *Store) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	what := fmt.Sprintf("read %s %q", r.Stream, r.Aggregate)
	if err := r.Check(); err != nil {
		return fails(err)
	}
	if r.Last > 0 {
		return func(yield func(eventstore.Event, error) bool) {
			events, err := scanEvents(s.stmts.aggregateLast.QueryContext(ctx, r.Stream, r.Aggregate, r.Last))
			if err != nil {
				yield(eventstore.Event{}, away(what, err))
				return
			}
			for _, e := range slices.Backward(events) {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	return pages(what, max(1, r.From), 0, func(from uint64, n int) ([]eventstore.Event, uint64, error) {
		events, err := scanEvents(s.stmts.aggregate.QueryContext(ctx, r.Stream, r.Aggregate, from, n))
		if len(events) > 0 {
			from = events[len(events)-1].Version + 1
		}
		return events, from, err
	})
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	if err := r.Check(); err != nil {
		return fails(err)
	}
	return pages("read "+r.Stream, max(1, r.From), r.Limit, func(from uint64, n int) ([]eventstore.Event, uint64, error) {
		events, err := scanEvents(s.stmts.stream.QueryContext(ctx, r.Stream, from, n))
		if len(events) > 0 {
			from = events[len(events)-1].Position + 1
		}
		return events, from, err
	})
}

// pages yields page after page. Each is a finished query: a reader that takes
// its time holds no snapshot, and so never keeps the log from shrinking.
func pages(what string, from uint64, limit int, page func(from uint64, n int) ([]eventstore.Event, uint64, error)) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		n, read := firstPage, 0
		for {
			if limit > 0 {
				n = min(n, limit-read)
			}
			events, next, err := page(from, n)
			if err != nil {
				yield(eventstore.Event{}, away(what, err))
				return
			}
			size := 0
			for _, e := range events {
				size += len(e.Data)
				if !yield(e, nil) {
					return
				}
			}
			read += len(events)
			if len(events) < n || limit > 0 && read >= limit {
				return
			}
			from = next
			n = min(maxPage, max(1, min(4*n, maxPageSize/(size/len(events)+1))))
		}
	}
}

func fails(err error) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) { yield(eventstore.Event{}, err) }
}

func scanEvents(rows *sql.Rows, err error) ([]eventstore.Event, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var events []eventstore.Event
	for rows.Next() {
		var e eventstore.Event
		var at string
		err := rows.Scan(&e.Stream, &e.Position, &e.Aggregate, &e.Version, &e.ID, &e.Type, &at, &e.Schema,
			&e.Source, &e.CausationID, &e.CorrelationID, &e.Traceparent, (*[]byte)(&e.Data))
		if err != nil {
			return nil, err
		}
		if e.Time, err = time.Parse(timeLayout, at); err != nil {
			return nil, fmt.Errorf("event %s at position %d: %w", e.Stream, e.Position, err)
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// Head implements eventstore.Backend.
func (s *Store) Head(ctx context.Context, stream string) (uint64, error) {
	var position uint64
	err := s.stmts.head.QueryRowContext(ctx, stream).Scan(&position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, away("read head of "+stream, err)
	}
	return position, nil
}

// Streams implements eventstore.Backend.
func (s *Store) Streams(ctx context.Context) ([]string, error) {
	heads, err := readHeads(ctx, s.stmts.allHeads)
	if err != nil {
		return nil, away("list streams", err)
	}
	names := make([]string, 0, len(heads))
	for stream := range heads {
		names = append(names, stream)
	}
	slices.Sort(names)
	return names, nil
}

func readHeads(ctx context.Context, stmt *sql.Stmt) (map[string]uint64, error) {
	rows, err := stmt.QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	heads := map[string]uint64{}
	for rows.Next() {
		var stream string
		var position uint64
		if err := rows.Scan(&stream, &position); err != nil {
			return nil, err
		}
		heads[stream] = position
	}
	return heads, rows.Err()
}

// SaveDurables implements eventstore.Backend.
func (s *Store) SaveDurables(ctx context.Context, stream string, durables []eventstore.Durable) error {
	what := "save durables of " + stream
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return away(what, err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, "DELETE FROM durables WHERE stream = ?", stream); err != nil {
		return away(what, err)
	}
	for _, d := range durables {
		_, err := tx.ExecContext(ctx, "INSERT INTO durables (stream, name, config, floor) VALUES (?, ?, ?, ?)",
			stream, d.Name, string(d.Config), d.Floor)
		if err != nil {
			return away(what, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return away(what, err)
	}
	return nil
}

// Durables implements eventstore.Backend.
func (s *Store) Durables(ctx context.Context, stream string) ([]eventstore.Durable, error) {
	what := "read durables of " + stream
	rows, err := s.read.QueryContext(ctx, "SELECT name, config, floor FROM durables WHERE stream = ? ORDER BY name", stream)
	if err != nil {
		return nil, away(what, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var durables []eventstore.Durable
	for rows.Next() {
		var d eventstore.Durable
		if err := rows.Scan(&d.Name, (*[]byte)(&d.Config), &d.Floor); err != nil {
			return nil, away(what, err)
		}
		durables = append(durables, d)
	}
	if err := rows.Err(); err != nil {
		return nil, away(what, err)
	}
	return durables, nil
}
