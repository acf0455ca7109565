package orderdb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// row is an order as the table has it.
type row struct {
	id     string
	order  order.Order
	placed uint64
	stored uint64 // the version in the table; 0 when it is not there
}

// gap is what an order misses: the events from one version on, below the one
// that came.
type gap struct {
	from, came uint64
}

// Apply brings the table up to date with a batch of events, in one
// transaction. Each order goes from version to version without a gap: what it
// has is skipped, and what it misses is read from the log. The events of one
// order may come in any order, again, and to several processes at once.
//
// Errors: function.ErrDecode for an event that is none of an order's,
// function.ErrUnavailable when the database is away, the log's, the context's.
// Nothing of the batch is applied then.
func (db *DB) Apply(ctx context.Context, log function.Log, batch []function.Message) error {
	events := map[string][]function.Message{}
	for _, e := range batch {
		events[e.Aggregate] = append(events[e.Aggregate], e)
	}
	gaps, err := db.apply(ctx, log, events)
	if err != nil || len(gaps) == 0 {
		return err
	}
	// The log may be far away, and others wait for the file: it is read with
	// no transaction open. The table only goes on meanwhile.
	for id, g := range gaps {
		for e, err := range log.ReadAggregate(ctx, id, g.from) {
			if err != nil {
				return fmt.Errorf("read what order %q misses: %w", id, err)
			}
			events[id] = append(events[id], e)
		}
	}
	if gaps, err = db.apply(ctx, log, events); err != nil {
		return err
	}
	var errs []error
	for id, g := range gaps {
		errs = append(errs, fmt.Errorf("apply to order %q: version %d came, and the log has no %d", id, g.came, g.from))
	}
	return errors.Join(errs...)
}

// errForeign says that the table was made of other events.
var errForeign = errors.New("the view was made from another event store, or from another moment of this one")

// foreign is the operator's to mend, and no event's fault: they wait.
func (db *DB) foreign(what string, why error) error {
	return fmt.Errorf("%s: %w: %w: set %s to the one that belongs to it, or have it made anew (rebuild %s): %w",
		what, function.ErrUnavailable, errForeign, db.variable, db.view, why)
}

const (
	// takenTries is how often a batch is applied before it is believed that a
	// position is another order's: where two processes store the same new order
	// at one moment, PostgreSQL may say so too. The second time the order is
	// there.
	takenTries = 3
	// closedLook is how long to wait while another generation takes over.
	closedLook = 5 * time.Millisecond
)

// apply stores all of the events, or tells the gaps and stores nothing.
func (db *DB) apply(ctx context.Context, log function.Log, events map[string][]function.Message) (map[string]gap, error) {
	for taken := 1; ; {
		gaps, generation, err := db.try(ctx, events)
		switch {
		case errors.Is(err, errUnknown):
			if err := db.sameHistory(ctx, log, generation); err != nil {
				return nil, err
			}
			db.known.Store(generation)
		case errors.Is(err, errClosed):
			select {
			case <-ctx.Done():
				return nil, failed("apply events", ctx.Err())
			case <-time.After(closedLook):
			}
		case db.kind.isTaken(err) && taken < takenTries:
			taken++
		default:
			return gaps, err
		}
	}
}

// errUnknown says that nobody looked yet whether the table is of these events.
var errUnknown = errors.New("the table is unknown")

func (db *DB) try(ctx context.Context, events map[string][]function.Message) (gaps map[string]gap, generation int64, err error) {
	tx, err := db.kind.begin(ctx, db.write)
	if err != nil {
		return nil, 0, failed("apply events", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if generation, err = db.generation(ctx, tx); err != nil {
		return nil, 0, err
	}
	if generation != db.known.Load() {
		return nil, generation, errUnknown
	}
	ids := slices.Sorted(maps.Keys(events)) // in the order in which others lock rows too
	rows, err := db.kind.load(ctx, tx, db.tableName(generation), ids)
	if err != nil {
		return nil, 0, err
	}
	gaps = map[string]gap{}
	var changed []*row
	var newest function.Message
	for _, id := range ids {
		r, ok := rows[id]
		if !ok {
			r = &row{id: id}
		}
		for _, e := range events[id] {
			if e.Position > newest.Position {
				newest = e
			}
		}
		missing, err := db.advance(r, events[id])
		if err != nil {
			return nil, 0, err
		}
		if missing != nil {
			gaps[id] = *missing
		} else if r.order.Version > r.stored {
			changed = append(changed, r)
		}
	}
	if len(gaps) > 0 {
		return gaps, 0, nil
	}
	var keep []any
	if len(changed) > 0 { // who stored what is there kept that
		keep = db.newest(generation, newest)
	}
	if err := db.kind.store(ctx, tx, db.tableName(generation), changed, keep); err != nil {
		return nil, 0, db.notStored(err)
	}
	if err := tx.Commit(); err != nil {
		return nil, 0, failed("apply events", err)
	}
	return nil, 0, nil
}

// advance applies an order's events, each on the version before it.
func (db *DB) advance(r *row, events []function.Message) (*gap, error) {
	slices.SortFunc(events, func(a, b function.Message) int { return cmp.Compare(a.Version, b.Version) })
	for _, e := range events {
		next := r.order.Version + 1
		if e.Version == 1 && r.stored > 0 && r.placed != e.Position {
			return nil, db.foreign("apply to order "+e.Aggregate, fmt.Errorf("it was placed at position %d, and is at %d", r.placed, e.Position))
		}
		if e.Version < next {
			continue
		}
		if e.Version > next {
			return &gap{from: next, came: e.Version}, nil
		}
		event, err := r.order.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return nil, fmt.Errorf("apply to order %q: %w: %w", e.Aggregate, function.ErrDecode, err)
		}
		r.order = r.order.Evolve(event)
		if e.Version == 1 {
			r.placed = e.Position
		}
	}
	return nil, nil
}

// scanRows reads rows of order_id, placed, version and body.
func scanRows(found *sql.Rows, err error) (map[string]*row, error) {
	if err != nil {
		return nil, failed("load orders", err)
	}
	defer func() { _ = found.Close() }() // found.Err tells
	rows := map[string]*row{}
	for found.Next() {
		r := &row{}
		var body []byte
		if err := found.Scan(&r.id, &r.placed, &r.stored, &body); err != nil {
			return nil, failed("load orders", err)
		}
		if r.order, err = decode(body); err != nil {
			return nil, err
		}
		rows[r.id] = r
	}
	if err := found.Err(); err != nil {
		return nil, failed("load orders", err)
	}
	return rows, nil
}

// upsert ends the statement that stores orders. What the lists are sorted by
// never changes.
func upsert(table string) string {
	return " ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, version = excluded.version, body = excluded.body" +
		" WHERE excluded.version > " + table + ".version"
}

// notStored is the error of orders.
func (db *DB) notStored(err error) error {
	if db.kind.isTaken(err) {
		return db.foreign("store orders", err)
	}
	return err
}

// failed says that the database can't be used now: what needed it waits, and
// is not blamed. A context that ended is said as it is.
func failed(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, function.ErrUnavailable, err)
}
