package sqlite

import (
	"context"
	"database/sql"
	"math"
	"slices"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/internal/crash"
)

const (
	columns = "stream, position, aggregate, version, id, type, time, schema, source, causation_id, correlation_id, traceparent, data"
	// timeLayout is RFC 3339; it sorts as text, and keeps the whole microseconds.
	timeLayout = "2006-01-02T15:04:05.000000Z"
)

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return s.committer.Append(ctx, a)
}

// commit stores a batch in one transaction.
func (s *Store) commit(batch []groupcommit.Request) []groupcommit.Outcome {
	s.committing.Lock()
	defer s.committing.Unlock()
	w := s.writer
	err := w.transact(func() (bool, error) {
		facts, err := w.facts(batch)
		if err != nil {
			return false, err
		}
		s.planned = groupcommit.Plan(batch, facts, s.planned)
		return len(s.planned.Insert) > 0, w.store(s.planned)
	})
	if err != nil {
		return groupcommit.Failed(len(batch), eventstore.Away(context.Background(), "commit", err))
	}
	crash.At(crash.AfterCommit)
	s.listeners.Tell(s.planned.Insert)
	clear(s.planned.Insert) // keeps no data in memory until the next commit
	return s.planned.Outcomes
}

// facts reads what the plan needs.
func (w *writer) facts(batch []groupcommit.Request) (groupcommit.Facts, error) {
	f := groupcommit.Facts{
		Versions: make(map[groupcommit.Key]uint64, len(batch)),
		Stored:   map[groupcommit.Key]eventstore.Event{},
	}
	if err := w.knowHeads(); err != nil {
		return f, err
	}
	f.Heads = w.heads
	var streams []string
	for i := range batch {
		if !slices.Contains(streams, batch[i].Stream) {
			streams = append(streams, batch[i].Stream)
		}
	}
	for _, stream := range streams {
		if err := w.storedOf(stream, batch, f); err != nil {
			return f, err
		}
		if err := w.versionsOf(stream, batch, f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// storedOf reads the events of a stream that have one of the batch's ids.
func (w *writer) storedOf(stream string, batch []groupcommit.Request, f groupcommit.Facts) error {
	w.names = append(w.names[:0], '[')
	for i := range batch {
		if batch[i].Stream != stream {
			continue
		}
		for j := range batch[i].Events {
			w.names = appendName(w.names, batch[i].Events[j].ID)
		}
	}
	events, _, err := queryEvents(context.Background(), w.stored, math.MaxInt, closeList(w.names), stream)
	for _, e := range events {
		f.Stored[groupcommit.Key{Stream: stream, ID: e.ID}] = e
	}
	return err
}

// versionsOf reads the versions of the batch's aggregates in a stream.
func (w *writer) versionsOf(stream string, batch []groupcommit.Request, f groupcommit.Facts) error {
	w.names = append(w.names[:0], '[')
	for i := range batch {
		if batch[i].Stream == stream {
			w.names = appendName(w.names, batch[i].Aggregate)
		}
	}
	rows, err := w.versions.QueryContext(context.Background(), stream, closeList(w.names))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var aggregate string
		var version uint64
		if err := rows.Scan(&aggregate, &version); err != nil {
			return err
		}
		f.Versions[groupcommit.Key{Stream: stream, ID: aggregate}] = version
	}
	return rows.Err()
}

// appendName adds an id to a JSON array. Ids have nothing that JSON escapes.
func appendName(list []byte, id string) []byte {
	list = append(list, '"')
	list = append(list, id...)
	return append(list, '"', ',')
}

func closeList(list []byte) string {
	list[len(list)-1] = ']' // in place of the last comma
	return string(list)
}

// store writes what was planned.
func (w *writer) store(p groupcommit.Planned) error {
	ctx := context.Background()
	for i := range p.Insert {
		e := &p.Insert[i]
		w.args = append(w.args[:0], e.Stream, signed(e.Position), e.Aggregate, signed(e.Version), e.ID, e.Type,
			e.Time.Format(timeLayout), int64(e.Schema), e.Source, e.CausationID, e.CorrelationID, e.Traceparent, string(e.Data))
		if _, err := w.insert.ExecContext(ctx, w.args...); err != nil {
			return err
		}
	}
	clear(w.args)
	for stream, position := range p.Heads {
		if _, err := w.setHead.ExecContext(ctx, stream, signed(position)); err != nil {
			return err
		}
		// Should the commit fail, the heads are dropped with the connection.
		w.heads[stream] = position
	}
	return nil
}

// signed is n as SQLite has it; positions and versions are never near 2^63.
func signed(n uint64) int64 { return int64(n) } //nolint:gosec // see above

func scanHeads(rows *sql.Rows, err error) (map[string]uint64, error) {
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
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return heads, nil
}

// scanEvent reads a row of the columns.
func scanEvent(rows *sql.Rows) (eventstore.Event, error) {
	var e eventstore.Event
	var at string
	err := rows.Scan(&e.Stream, &e.Position, &e.Aggregate, &e.Version, &e.ID, &e.Type, &at, &e.Schema,
		&e.Source, &e.CausationID, &e.CorrelationID, &e.Traceparent, (*[]byte)(&e.Data))
	if err == nil {
		e.Time, err = time.Parse(timeLayout, at)
	}
	return e, err
}
