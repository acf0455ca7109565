package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/paged"
)

const (
	readAggregate = "SELECT " + columns + " FROM events WHERE stream = $1 AND aggregate = $2 AND version >= $3 ORDER BY version LIMIT $4"
	readTail      = "SELECT " + columns + " FROM events WHERE stream = $1 AND aggregate = $2 AND version >" +
		" (SELECT coalesce(max(version), 0) FROM events WHERE stream = $1 AND aggregate = $2) - $3 ORDER BY version LIMIT $4"
	// Positions have no gaps, so a page is known by its ends.
	readStream  = "SELECT " + columns + " FROM events WHERE stream = $1 AND position BETWEEN $2 AND $3 ORDER BY position"
	readHead    = "SELECT position FROM heads WHERE stream = $1"
	readStreams = "SELECT stream FROM heads WHERE position > 0"
)

// ReadAggregate implements eventstore.Store.
func (s *Store) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	if err := r.Check(); err != nil {
		return paged.Fails(err)
	}
	what := fmt.Sprintf("read %s %q", r.Stream, r.Aggregate)
	return paged.Events(ctx, what, r.Last, s.page(what, func(after *eventstore.Event, n int) (string, []any) {
		switch {
		case after != nil:
			return readAggregate, []any{r.Stream, r.Aggregate, after.Version + 1, n}
		case r.Last > 0:
			return readTail, []any{r.Stream, r.Aggregate, r.Last, n}
		default:
			return readAggregate, []any{r.Stream, r.Aggregate, r.From, n}
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
			return s.page(what, func(after *eventstore.Event, n int) (string, []any) {
				from := position
				if after != nil {
					from = after.Position + 1
				}
				return readStream, []any{r.Stream, from, from + uint64(n) - 1} //nolint:gosec // never negative
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

// lookEvery is how often a reader that follows looks for what other processes
// committed; this process's own commits wake it.
const lookEvery = 100 * time.Millisecond

// page reads the pages that query makes the queries for.
func (s *Store) page(what string, query func(after *eventstore.Event, n int) (string, []any)) paged.Query {
	return func(ctx context.Context, after *eventstore.Event, n int) ([]eventstore.Event, bool, error) {
		sql, args := query(after, n)
		var events []eventstore.Event
		more := false
		err := s.again(ctx, func() error {
			var err error
			events, more, err = s.events(ctx, sql, args)
			return err
		})
		if err != nil {
			return nil, false, eventstore.Away(ctx, what, err)
		}
		return events, more, nil
	}
}

func (s *Store) events(ctx context.Context, sql string, args []any) (events []eventstore.Event, more bool, _ error) {
	rows, err := s.read.Query(ctx, sql, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for size := 0; rows.Next(); {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, false, err
		}
		events = append(events, e)
		if size += len(e.Data); size >= paged.MaxBytes {
			return events, true, nil
		}
	}
	return events, false, rows.Err()
}

// readTries is how often a read is begun again at once: a connection from the
// pool may be one that the database has closed meanwhile.
const readTries = 3

func (s *Store) again(ctx context.Context, read func() error) error {
	var err error
	for range readTries {
		if err = read(); err == nil || ctx.Err() != nil || !errors.Is(moment(err), errMoment) {
			return err
		}
	}
	return err
}

// scanEvent reads a row of the columns.
func scanEvent(rows pgx.Rows) (eventstore.Event, error) {
	var e eventstore.Event
	var position, version int64
	err := rows.Scan(&e.Stream, &position, &e.Aggregate, &version, &e.ID, &e.Type, &e.Time, &e.Schema,
		&e.Source, &e.CausationID, &e.CorrelationID, &e.Traceparent, (*[]byte)(&e.Data))
	e.Position, e.Version, e.Time = uint64(position), uint64(version), e.Time.UTC() //nolint:gosec // never negative
	return e, err
}

// Head implements eventstore.Backend.
func (s *Store) Head(ctx context.Context, stream string) (uint64, error) {
	var position int64
	err := s.again(ctx, func() error {
		err := s.read.QueryRow(ctx, readHead, stream).Scan(&position)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, eventstore.Away(ctx, "read head of "+stream, err)
	}
	return uint64(position), nil //nolint:gosec // never negative
}

// Streams implements eventstore.Backend.
func (s *Store) Streams(ctx context.Context) ([]string, error) {
	var names []string
	err := s.again(ctx, func() error {
		rows, err := s.read.Query(ctx, readStreams)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, eventstore.Away(ctx, "list streams", err)
	}
	slices.SortFunc(names, strings.Compare) // by bytes, whatever the database's collation
	return names, nil
}

func inOrder(events []eventstore.Event) []eventstore.Event {
	slices.SortFunc(events, func(a, b eventstore.Event) int { return int(int64(a.Position) - int64(b.Position)) }) //nolint:gosec // positions
	return events
}
