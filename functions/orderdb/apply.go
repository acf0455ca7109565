package orderdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

const lockRetry = 10 * time.Millisecond

// row is an order as the table has it.
type row struct {
	order  order.Order
	placed uint64
	stored uint64 // the version in the table; 0 when it is not there
}

// Apply brings the table up to date with a batch of events, in one
// transaction. Each order goes from version to version without a gap: what it
// has is skipped, and what it misses is read from the log. The events of one
// order may come in any order.
func (db *DB) Apply(ctx context.Context, log function.Log, batch []function.Message) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return away("apply events", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	rows := map[string]*row{}
	for _, e := range batch {
		r, ok := rows[e.Aggregate]
		if !ok {
			if r, err = db.row(ctx, tx, e.Aggregate); err != nil {
				return err
			}
			rows[e.Aggregate] = r
		}
		if err := r.advance(ctx, log, e); err != nil {
			return err
		}
	}
	for id, r := range rows {
		if err := db.save(ctx, tx, id, r); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return away("apply events", err)
	}
	return nil
}

// advance applies the event, after those that it stands on.
func (r *row) advance(ctx context.Context, log function.Log, e function.Message) error {
	switch {
	case e.Version <= r.order.Version:
		return nil
	case e.Version == r.order.Version+1:
		return r.apply(e)
	}
	for m, err := range log.ReadAggregate(ctx, e.Aggregate, r.order.Version+1) {
		if err != nil {
			return err
		}
		if err := r.apply(m); err != nil {
			return err
		}
	}
	if r.order.Version < e.Version {
		return fmt.Errorf("apply %s %q: version %d came, and the log ends at %d", e.Stream, e.Aggregate, e.Version, r.order.Version)
	}
	return nil
}

func (r *row) apply(e function.Message) error {
	if e.Version != r.order.Version+1 {
		return fmt.Errorf("apply %s %q: version %d follows %d", e.Stream, e.Aggregate, e.Version, r.order.Version)
	}
	event, err := r.order.Decode(e.Type, e.Schema, e.Data)
	if err != nil {
		return fmt.Errorf("%w: %w", function.ErrDecode, err)
	}
	r.order = r.order.Evolve(event)
	if e.Version == 1 {
		r.placed = e.Position
	}
	return nil
}

// row reads an order for the transaction; the zero row when it is not there.
func (db *DB) row(ctx context.Context, tx *sql.Tx, id string) (*row, error) {
	r := &row{}
	var body []byte
	err := tx.StmtContext(ctx, db.load).QueryRowContext(ctx, id).Scan(&r.placed, &r.stored, &body)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, nil
	case err != nil:
		return nil, away("load order "+id, err)
	}
	if err := json.Unmarshal(body, &r.order); err != nil {
		return nil, fmt.Errorf("load order %q: %w", id, err)
	}
	return r, nil
}

func (db *DB) save(ctx context.Context, tx *sql.Tx, id string, r *row) error {
	if r.order.Version == r.stored {
		return nil
	}
	body, err := json.Marshal(r.order)
	if err != nil {
		return fmt.Errorf("store order %q: %w", id, err)
	}
	_, err = tx.StmtContext(ctx, db.store).ExecContext(ctx, id, r.order.Customer, string(r.order.Status), r.placed, r.order.Version, string(body))
	if err != nil {
		return away("store order "+id, err)
	}
	return nil
}

// away says that the database can't be used now: what needed it waits, and is
// not blamed.
func away(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, function.ErrUnavailable, err)
}
