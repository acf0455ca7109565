package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/internal/crash"
)

const columns = "stream, position, aggregate, version, id, type, time, schema, source, causation_id, correlation_id, traceparent, data"

// The statements of a commit.
const (
	makeHead = "INSERT INTO heads (stream, position) VALUES ($1, 0) ON CONFLICT (stream) DO NOTHING"
	lockHead = "SELECT position FROM heads WHERE stream = $1 FOR UPDATE"
	// What follows sees what was committed before the lock was had, because it
	// is a statement of its own. That an id is another stream's is seen here, and
	// not asked there: so only one index will do.
	findStored   = "SELECT " + columns + " FROM events WHERE id = ANY($1)"
	findVersions = "SELECT a.aggregate, e.version FROM unnest($2::TEXT[]) AS a (aggregate), LATERAL" +
		" (SELECT version FROM events WHERE stream = $1 AND aggregate = a.aggregate ORDER BY version DESC LIMIT 1) AS e"
	insert = "INSERT INTO events (" + columns + ") SELECT $1, * FROM unnest($2::BIGINT[], $3::TEXT[], $4::BIGINT[], $5::TEXT[]," +
		" $6::TEXT[], $7::TIMESTAMPTZ[], $8::INT4[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::TEXT[], $13::TEXT[])"
	setHead  = "UPDATE heads SET position = $2 WHERE stream = $1"
	commit   = "COMMIT"
	rollback = "ROLLBACK"
)

const (
	// attemptTimeout bounds one try of a group. A lock that is held longer is
	// that of a process which stands still.
	attemptTimeout = 20 * time.Second
	endTimeout     = time.Second
)

// writer commits what is written to one stream, one group after the other.
type writer struct {
	s         *Store
	stream    string
	committer *groupcommit.Committer

	mu    sync.Mutex // held for a commit and until it was told; guards what follows
	known bool       // the stream's row in heads is there

	planned groupcommit.Planned // its memory is used again
}

// errMoment marks what may be better when it is tried again.
var errMoment = errors.New("the database refuses for the moment")

// commit stores a group in one transaction. While the database is away, or
// another was in the way, it tries again.
//
// It is no matter whether a try that broke off was committed: the next one
// looks the ids up under the lock, where a commit that was still under way can
// be seen. What it finds where it had put it is its own, and no repeat.
func (w *writer) commit(batch []groupcommit.Request) []groupcommit.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	mine := map[int]uint64{} // positions that an earlier try gave to a request
	w.planned.Outcomes = w.planned.Outcomes[:0]
	err := w.retry(context.Background(), func(bool) error {
		for i, o := range w.planned.Outcomes { // of the try before
			if o.Err == nil && !o.Appended.Duplicate && len(o.Appended.Events) > 0 {
				mine[i] = o.Appended.Events[0].Position
			}
		}
		w.planned.Outcomes = w.planned.Outcomes[:0] // a try that ends before its plan has none
		return w.try(batch, func(f groupcommit.Facts) groupcommit.Planned {
			w.planned = groupcommit.Plan(batch, f, w.planned)
			return w.planned
		})
	})
	if err != nil {
		return groupcommit.Failed(len(batch), eventstore.Away(context.Background(), "commit to "+w.stream, err))
	}
	return w.settled(mine)
}

// retry tries until it is done, as long as what was in the way may pass. A try
// is told when it is not the first: the one before may have been committed.
func (w *writer) retry(ctx context.Context, try func(again bool) error) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 5*time.Millisecond, 500*time.Millisecond
	again := false
	for began := time.Now(); ; again = true {
		err := try(again)
		if err == nil || !errors.Is(err, errMoment) || time.Since(began) > w.s.options.RetryTimeout || w.s.life.Err() != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-w.s.life.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// settled tells of what was committed, and answers.
func (w *writer) settled(mine map[int]uint64) []groupcommit.Outcome {
	p := w.planned
	for i, at := range mine {
		o := &p.Outcomes[i]
		if o.Err == nil && o.Appended.Duplicate && o.Appended.Events[0].Position == at {
			o.Appended.Duplicate = false
			p.Insert = append(p.Insert, o.Appended.Events...)
		}
	}
	crash.At(crash.AfterCommit)
	w.s.listeners.Tell(inOrder(p.Insert))
	clear(p.Insert)
	return p.Outcomes
}

// try stores what is planned on the facts about a group, in one transaction and
// two round trips.
func (w *writer) try(batch []groupcommit.Request, plan func(groupcommit.Facts) groupcommit.Planned) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
	defer cancel()
	stop := context.AfterFunc(w.s.life, cancelLater(cancel))
	defer stop()
	conn, err := w.s.write.Acquire(ctx)
	if err != nil {
		return moment(err)
	}
	defer func() { w.release(conn, err) }()
	if !w.known {
		if err := w.exec(ctx, conn, makeHead, w.stream); err != nil {
			return moment(err)
		}
		w.known = true
	}
	facts, err := w.facts(ctx, conn, batch)
	if err != nil {
		return moment(err)
	}
	planned := plan(facts)
	if len(planned.Insert) == 0 {
		return moment(w.exec(ctx, conn, rollback))
	}
	return moment(w.store(ctx, conn, planned))
}

// cancelLater gives what is under way a moment to end by itself.
func cancelLater(cancel func()) func() {
	return func() { time.AfterFunc(endTimeout, cancel) }
}

// release gives a connection back. After an error it is closed, whatever state
// it is in: the pool would only find out later.
func (w *writer) release(conn *pgxpool.Conn, err error) {
	if err != nil {
		w.known = false // the database may be another one now
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		_ = conn.Conn().Close(ctx) // there is nothing to save
	}
	conn.Release()
}

// facts begins the transaction, locks the stream, and reads what the plan needs.
func (w *writer) facts(ctx context.Context, conn *pgxpool.Conn, batch []groupcommit.Request) (groupcommit.Facts, error) {
	f := groupcommit.Facts{
		Heads:    map[string]uint64{},
		Versions: make(map[groupcommit.Key]uint64, len(batch)),
		Stored:   map[groupcommit.Key]eventstore.Event{},
	}
	ids, aggregates := make([]string, 0, len(batch)), make([]string, len(batch))
	for i := range batch {
		aggregates[i] = batch[i].Aggregate
		for j := range batch[i].Events {
			ids = append(ids, batch[i].Events[j].ID)
		}
	}
	var q pgx.Batch
	q.Queue("BEGIN ISOLATION LEVEL " + strings.ToUpper(string(w.s.options.isolation)))
	q.Queue(lockHead, w.stream).QueryRow(func(row pgx.Row) error {
		var head int64
		err := row.Scan(&head)
		f.Heads[w.stream] = uint64(head) //nolint:gosec // a position
		return err
	})
	q.Queue(findStored, ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			e, err := scanEvent(rows)
			if err != nil {
				return err
			}
			f.Stored[groupcommit.Key{Stream: e.Stream, ID: e.ID}] = e
		}
		return rows.Err()
	})
	q.Queue(findVersions, w.stream, aggregates).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var aggregate string
			var version int64
			if err := rows.Scan(&aggregate, &version); err != nil {
				return err
			}
			f.Versions[groupcommit.Key{Stream: w.stream, ID: aggregate}] = uint64(version) //nolint:gosec // a version
		}
		return rows.Err()
	})
	return f, w.send(ctx, conn, &q)
}

// store writes what was planned, and commits.
func (w *writer) store(ctx context.Context, conn *pgxpool.Conn, planned groupcommit.Planned) error {
	var q pgx.Batch
	q.Queue(insert, insertArgs(w.stream, planned.Insert)...)
	q.Queue(setHead, w.stream, int64(planned.Heads[w.stream])) //nolint:gosec // a position
	q.Queue(commit)
	crash.At(crash.BeforeCommit)
	return w.send(ctx, conn, &q)
}

func insertArgs(stream string, events []eventstore.Event) []any {
	n := len(events)
	var (
		positions, versions = make([]int64, n), make([]int64, n)
		aggregates, ids     = make([]string, n), make([]string, n)
		types, sources      = make([]string, n), make([]string, n)
		times               = make([]time.Time, n)
		schemas             = make([]int32, n)
		causes, flows       = make([]string, n), make([]string, n)
		traces, data        = make([]string, n), make([]string, n)
	)
	for i := range events {
		e := &events[i]
		positions[i], versions[i] = int64(e.Position), int64(e.Version) //nolint:gosec // bounded by the contract
		aggregates[i], ids[i], types[i], sources[i] = e.Aggregate, e.ID, e.Type, e.Source
		times[i], schemas[i] = e.Time, int32(e.Schema) //nolint:gosec // bounded by the contract
		causes[i], flows[i], traces[i], data[i] = e.CausationID, e.CorrelationID, e.Traceparent, string(e.Data)
	}
	return []any{stream, positions, aggregates, versions, ids, types, times, schemas, sources, causes, flows, traces, data}
}

// send makes a round trip.
func (w *writer) send(ctx context.Context, conn *pgxpool.Conn, q *pgx.Batch) error {
	fault := w.s.options.fault
	if fault == nil {
		return conn.SendBatch(ctx, q).Close()
	}
	// In tests each statement is a round trip of its own, which may fail before
	// it is sent or after.
	for _, one := range q.QueuedQueries {
		err, after := fault(one.SQL)
		if err != nil && !after {
			return err
		}
		alone := &pgx.Batch{QueuedQueries: []*pgx.QueuedQuery{one}}
		if sent := conn.SendBatch(ctx, alone).Close(); sent != nil {
			return sent
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) exec(ctx context.Context, conn *pgxpool.Conn, sql string, args ...any) error {
	var q pgx.Batch
	q.Queue(sql, args...)
	return w.send(ctx, conn, &q)
}

// moment marks errors that are worth another try: whatever came of a
// connection, and what the server says of the moment only.
func moment(err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case strings.HasPrefix(pg.Code, "08"), // connection
			strings.HasPrefix(pg.Code, "40"),  // serialization, deadlock, completion unknown
			strings.HasPrefix(pg.Code, "57P"), // shutting down, starting up
			strings.HasPrefix(pg.Code, "53"),  // too many connections, out of memory, disk full
			pg.Code == "55P03",                // lock not available
			pg.Code == "57014",                // canceled: by a timeout
			pg.Code == "25P03",                // idle in transaction for too long
			pg.Code == "25006",                // read only: a standby that is about to lead
			pg.Code == "23505":                // a lock that did not hold: look again
			return fmt.Errorf("%w: %w", errMoment, err)
		}
		return err
	}
	return fmt.Errorf("%w: %w", errMoment, err)
}
