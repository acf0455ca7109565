package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
)

const (
	columns = "stream, position, aggregate, version, id, type, time, schema, source, causation_id, correlation_id, traceparent, data"
	// timeLayout sorts as text, and keeps the whole microseconds.
	timeLayout = "2006-01-02T15:04:05.000000Z"
	// commitTimeout bounds one commit: a disk that hangs must not hang its
	// callers' processes for ever.
	commitTimeout = 30 * time.Second
)

type statements struct {
	insert, byID, versions, setHead, writeHeads      *sql.Stmt // on the writer
	aggregate, aggregateLast, stream, head, allHeads *sql.Stmt // on readers
}

// prepare prepares all statements. A limit is 0+? rather than ?, since SQLite
// looks at a bare one to plan the query, and plans anew when it changes.
func (p *statements) prepare(ctx context.Context, write, read *sql.DB) error {
	for _, s := range []struct {
		to  **sql.Stmt
		db  *sql.DB
		sql string
	}{
		{&p.insert, write, "INSERT INTO events (" + columns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&p.byID, write, "SELECT " + columns + " FROM events WHERE stream = ? AND id IN (SELECT value FROM json_each(?))"},
		{&p.versions, write, "SELECT value, (SELECT max(version) FROM events WHERE stream = ? AND aggregate = value) FROM json_each(?)"},
		{&p.setHead, write, "INSERT INTO heads (stream, position) VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET position = excluded.position"},
		{&p.writeHeads, write, "SELECT stream, position FROM heads ORDER BY stream"},
		{&p.aggregate, read, "SELECT " + columns + " FROM events WHERE stream = ? AND aggregate = ? AND version >= ? ORDER BY version LIMIT 0+?"},
		{&p.aggregateLast, read, "SELECT " + columns + " FROM events WHERE stream = ? AND aggregate = ? ORDER BY version DESC LIMIT 0+?"},
		{&p.stream, read, "SELECT " + columns + " FROM events WHERE stream = ? AND position >= ? ORDER BY position LIMIT 0+?"},
		{&p.head, read, "SELECT position FROM heads WHERE stream = ?"},
		{&p.allHeads, read, "SELECT stream, position FROM heads ORDER BY stream"},
	} {
		stmt, err := s.db.PrepareContext(ctx, s.sql)
		if err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		*s.to = stmt
	}
	return nil
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if err := a.Check(); err != nil {
		return eventstore.Appended{}, err
	}
	return s.committer.Append(ctx, groupcommit.Request{
		Stream: a.Stream, Aggregate: a.Aggregate, Expected: a.Expected, Events: a.Stamp(time.Now()),
	})
}

// commit stores a batch in one transaction.
func (s *Store) commit(batch []groupcommit.Request) []groupcommit.Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	outcomes, inserted, err := s.transact(ctx, batch)
	if err != nil {
		s.forget()
		return groupcommit.Failed(batch, away("commit", err))
	}
	s.announce(inserted)
	return outcomes
}

// forget drops what is known after a commit of unknown outcome: what the
// database has is read next time, over a connection that is in no transaction.
func (s *Store) forget() {
	s.heads = nil
	s.write.SetMaxIdleConns(0) // closes the connection; prepared statements follow to the next one
	s.write.SetMaxIdleConns(1)
}

func (s *Store) transact(ctx context.Context, batch []groupcommit.Request) ([]groupcommit.Outcome, []eventstore.Event, error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	facts, err := s.facts(ctx, tx, batch)
	if err != nil {
		return nil, nil, err
	}
	outcomes, insert := groupcommit.Plan(batch, facts)
	if len(insert) == 0 {
		return outcomes, nil, nil
	}
	stmt := tx.StmtContext(ctx, s.stmts.insert)
	for _, e := range insert {
		_, err := stmt.ExecContext(ctx, e.Stream, e.Position, e.Aggregate, e.Version, e.ID, e.Type,
			e.Time.Format(timeLayout), e.Schema, e.Source, e.CausationID, e.CorrelationID, e.Traceparent, string(e.Data))
		if err != nil {
			return nil, nil, err
		}
	}
	setHead := tx.StmtContext(ctx, s.stmts.setHead)
	for stream, position := range facts.Heads {
		if position == s.heads[stream] {
			continue
		}
		if _, err := setHead.ExecContext(ctx, stream, position); err != nil {
			return nil, nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, nil, err
	}
	s.heads = facts.Heads
	return outcomes, insert, nil
}

// facts reads what the plan needs, a statement for each kind and stream.
func (s *Store) facts(ctx context.Context, tx *sql.Tx, batch []groupcommit.Request) (groupcommit.Facts, error) {
	f := groupcommit.Facts{
		Heads:    make(map[string]uint64, len(s.heads)+1),
		Versions: make(map[groupcommit.Aggregate]uint64, len(batch)),
		Stored:   map[groupcommit.ID]eventstore.Event{},
	}
	if s.heads == nil {
		heads, err := readHeads(ctx, tx.StmtContext(ctx, s.stmts.writeHeads))
		if err != nil {
			return f, err
		}
		s.heads = heads
	}
	for stream, position := range s.heads {
		f.Heads[stream] = position
	}
	ids, aggregates := map[string][]string{}, map[string][]string{}
	for _, r := range batch {
		aggregates[r.Stream] = append(aggregates[r.Stream], r.Aggregate)
		for _, e := range r.Events {
			ids[r.Stream] = append(ids[r.Stream], e.ID)
		}
	}
	for stream := range aggregates {
		if err := s.storedOf(ctx, tx, stream, ids[stream], f); err != nil {
			return f, err
		}
		if err := s.versionsOf(ctx, tx, stream, aggregates[stream], f); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (s *Store) storedOf(ctx context.Context, tx *sql.Tx, stream string, ids []string, f groupcommit.Facts) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	events, err := scanEvents(tx.StmtContext(ctx, s.stmts.byID).QueryContext(ctx, stream, string(list)))
	for _, e := range events {
		f.Stored[groupcommit.ID{Stream: stream, ID: e.ID}] = e
	}
	return err
}

func (s *Store) versionsOf(ctx context.Context, tx *sql.Tx, stream string, aggregates []string, f groupcommit.Facts) error {
	list, err := json.Marshal(aggregates)
	if err != nil {
		return err
	}
	rows, err := tx.StmtContext(ctx, s.stmts.versions).QueryContext(ctx, stream, string(list))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var aggregate string
		var version sql.NullInt64
		if err := rows.Scan(&aggregate, &version); err != nil {
			return err
		}
		if version.Valid {
			f.Versions[groupcommit.Aggregate{Stream: stream, ID: aggregate}] = uint64(version.Int64) //nolint:gosec // never negative
		}
	}
	return rows.Err()
}

// announce tells of a commit, stream by stream.
func (s *Store) announce(events []eventstore.Event) {
	if len(events) == 0 {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.onCommit) == 0 {
		return
	}
	var order []string
	byStream := map[string][]eventstore.Event{}
	for _, e := range events {
		if _, seen := byStream[e.Stream]; !seen {
			order = append(order, e.Stream)
		}
		byStream[e.Stream] = append(byStream[e.Stream], e)
	}
	for _, stream := range order {
		for _, f := range s.onCommit {
			f(stream, byStream[stream])
		}
	}
}
