package orderdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// table is a generation of the view, as readers use it.
type table struct {
	generation int64
	name       string
	get        *sql.Stmt
}

// tableName is the table of a generation.
func (db *DB) tableName(generation int64) string { return fmt.Sprintf("%s_%d", db.view, generation) }

// findView finds the table in use, and makes one where there is none. A
// connection that breaks at the start is no reason to give up.
func (db *DB) findView(ctx context.Context) error {
	for began := time.Now(); ; {
		err := db.makeView(ctx)
		if err == nil {
			_, err = db.inUse(ctx)
		}
		if err == nil || time.Since(began) > openTimeout {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// makeView makes the pointer and the first generation, where there is none. Of
// several processes that start together one inserts the pointer, and the others
// wait for that until its table is there too.
func (db *DB) makeView(ctx context.Context) error {
	var generation int64
	err := db.read.QueryRowContext(ctx, "SELECT generation FROM orders_views WHERE name = $1", db.view).Scan(&generation)
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	tx, err := db.kind.begin(ctx, db.write)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	made, err := affected(tx.ExecContext(ctx, "INSERT INTO orders_views (name, generation) VALUES ($1, 1) ON CONFLICT (name) DO NOTHING", db.view))
	if err != nil || made == 0 {
		return err
	}
	if err := db.kind.create(ctx, tx, db.tableName(1)); err != nil {
		return err
	}
	return tx.Commit()
}

func affected(done sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// inUse is the table that the pointer names, for readers.
func (db *DB) inUse(ctx context.Context) (*table, error) {
	db.refreshing.Lock()
	defer db.refreshing.Unlock()
	var generation int64
	if err := db.read.QueryRowContext(ctx, "SELECT generation FROM orders_views WHERE name = $1", db.view).Scan(&generation); err != nil {
		return nil, failed("find table of "+db.view, err)
	}
	if t := db.current.Load(); t != nil && t.generation == generation {
		return t, nil
	}
	t := &table{generation: generation, name: db.tableName(generation)}
	var err error
	// One of an old generation is left to the pool: who still reads with it
	// could not, were it closed.
	if t.get, err = db.read.PrepareContext(ctx, fmt.Sprintf("SELECT body FROM %s WHERE order_id = $1 AND %s", t.name, isInUse(2, 3))); err != nil {
		return nil, failed("find table of "+db.view, err)
	}
	db.current.Store(t)
	return t, nil
}

// isInUse is a condition that holds in a query while the generation is the one
// in use; its parameters are the view and the generation.
func isInUse(view, generation int) string {
	return fmt.Sprintf("EXISTS (SELECT 1 FROM orders_views WHERE name = $%d AND generation = $%d)", view, generation)
}

// swapTries is how many generations a reader follows at once: more than one can
// only come by rebuilds without an end.
const swapTries = 3

// reading calls read with the table in use, until that found something or the
// table was still in use then.
func (db *DB) reading(ctx context.Context, read func(*table) (found bool, err error)) error {
	t := db.current.Load()
	for range swapTries {
		found, err := read(t)
		if found && err == nil {
			return nil
		}
		next, lost := db.inUse(ctx)
		if err == nil && lost != nil {
			return lost
		}
		if lost != nil || next == t {
			return err
		}
		t = next
	}
	return failed("read "+db.view, errors.New("its tables change all the time"))
}

// errClosed says that another generation is about to be the one in use.
var errClosed = errors.New("the pointer is closed")

// generation is the one that the transaction applies events to. The pointer of a
// rebuild that died is opened.
func (db *DB) generation(ctx context.Context, tx *sql.Tx) (int64, error) {
	var generation, closed int64
	var holds bool
	err := tx.QueryRowContext(ctx, "SELECT generation, closed, closed > "+db.kind.now()+" FROM orders_views WHERE name = $1", db.view).
		Scan(&generation, &closed, &holds)
	switch {
	case err != nil:
		return 0, failed("find table of "+db.view, err)
	case closed == 0:
		return generation, nil
	case holds:
		return 0, errClosed
	}
	if _, err := tx.ExecContext(ctx, "UPDATE orders_views SET closed = 0 WHERE name = $1 AND closed = $2", db.view, closed); err != nil {
		return 0, failed("open "+db.view, err)
	}
	if err := tx.Commit(); err != nil {
		return 0, failed("open "+db.view, err)
	}
	return 0, errClosed // who opened it, or has another generation in use since, is seen next time
}
