package orderdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waybill-go/waybill/runtime/function"
)

// slots is how many processes keep the newest event of a view apart from each
// other: in one row for all of them each would wait for the others' commits. Two
// that have the same slot wait, and no harm is done.
const slots = 64

// identity tells an event from another at the same place. Its id alone does not:
// it follows from the event that caused it, so it can come again after a restore,
// when the outcome is another one. What the event holds is not looked at, since
// that may be edited in a dead letter.
func identity(e function.Message) string {
	return fmt.Sprintf("%s %s %s", e.ID, e.Type, e.Time.UTC().Format(time.RFC3339Nano))
}

// keepNewest is the statement that keeps the newest event that a generation has;
// it is executed where that is stored. The number is its first parameter's.
func keepNewest(first int) string {
	values := make([]string, newestColumns)
	for i := range values {
		values[i] = fmt.Sprintf("$%d", first+i)
	}
	return "INSERT INTO orders_newest (name, generation, slot, position, order_id, version, event) VALUES (" + strings.Join(values, ", ") + ")" +
		" ON CONFLICT (name, generation, slot) DO UPDATE SET position = excluded.position, order_id = excluded.order_id, version = excluded.version," +
		" event = excluded.event WHERE excluded.position > orders_newest.position"
}

const newestColumns = 7

// newest are the parameters of keepNewest.
func (db *DB) newest(generation int64, e function.Message) []any {
	return []any{db.view, generation, db.slot, e.Position, e.Aggregate, e.Version, identity(e)}
}

// sameHistory looks whether the newest event of a generation is in the log, at
// the place where it was: then so are all before it. A copy of another moment, or
// of another event store, would answer what never happened.
func (db *DB) sameHistory(ctx context.Context, log function.Log, generation int64) error {
	var id, event string
	var position, version uint64
	err := db.read.QueryRowContext(ctx, "SELECT position, order_id, version, event FROM orders_newest WHERE name = $1 AND generation = $2"+
		" ORDER BY position DESC LIMIT 1", db.view, generation).Scan(&position, &id, &version, &event)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return failed("read newest event", err)
	}
	for e, err := range log.ReadAggregate(ctx, id, version) {
		if err != nil {
			return fmt.Errorf("read newest event, of order %q: %w", id, err)
		}
		if e.Position == position && identity(e) == event {
			return nil
		}
		break
	}
	return db.foreign("read newest event, of order "+id, fmt.Errorf("the event store has not this one at position %d: %s", position, event))
}

// forgetNewest removes what is kept of generations that are gone.
func (r *rebuild) forgetNewest(ctx context.Context, inUse, building int64) error {
	return r.transact(ctx, "forget newest events", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM orders_newest WHERE name = $1 AND generation < $2 AND generation <> $3",
			r.db.view, max(inUse, building), inUse)
		return err
	})
}
