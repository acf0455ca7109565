package orderdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/waybill-go/waybill/runtime/function"
)

const (
	// What one transaction of a rebuild takes: it is to be short, since replicas
	// wait for SQLite's file meanwhile.
	rebuildEvents = 8192
	rebuildBytes  = 8 << 20
	// rebuildTail is how many events at the most are left for the hand-over.
	rebuildTail = 1024
	// closeFor is how long the pointer is closed for a hand-over, which is to
	// take less than readTail; replicas wait for as long when it is broken off.
	closeFor = 4 * time.Second
	readTail = 2 * time.Second
)

// Rebuild makes the view anew beside the one that is in use, and then puts it in
// its place; see the package's documentation. Replicas and readers go on
// meanwhile. Of an order with an event that can't be decoded the new view has
// what was before that event; leave is told of it and of those that follow.
//
// Errors: ErrRebuilding, those of the log and of the database. What is made
// stays then, and the next call goes on with it.
func (db *DB) Rebuild(ctx context.Context, log function.History, leave func(m function.Message, why error)) error {
	write, err := db.bulk()
	if err != nil {
		return failed("rebuild "+db.view, err)
	}
	defer func() { _ = write.Close() }() // what is to last is on disk since the hand-over
	r := &rebuild{db: db, write: write}
	if err := r.claim(ctx, log); err != nil {
		return fmt.Errorf("rebuild %s: %w", db.view, err)
	}
	if err := r.run(ctx, log, leave); err != nil {
		return errors.Join(fmt.Errorf("rebuild %s: %w", db.view, err), r.release())
	}
	if err := r.sweep(ctx); err != nil {
		return fmt.Errorf("rebuild %s: it is done; the next one drops what is left: %w", db.view, err)
	}
	return nil
}

// run catches up until only a few events are left, and hands over.
func (r *rebuild) run(ctx context.Context, log function.History, leave func(function.Message, error)) error {
	settled := false
	for {
		n, err := r.catchUp(ctx, log, leave)
		switch {
		case err != nil:
			return err
		case n > rebuildTail:
			continue
		case !settled: // it takes a while: more came meanwhile
			if err := r.db.kind.settle(ctx, r.write, r.table()); err != nil {
				return failed("settle "+r.table(), err)
			}
			settled = true
			continue
		}
		done, err := r.handOver(ctx, log, leave)
		if err != nil || done {
			return err
		}
	}
}

// chunk is what one transaction stores.
type chunk struct {
	events []function.Message
	err    error // what ended the reading
}

// chunks cuts what is read.
func chunks(events iter.Seq2[function.Message, error]) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		var c chunk
		size := 0
		for e, err := range events {
			if err != nil {
				yield(chunk{err: err})
				return
			}
			c.events = append(c.events, e)
			if size += e.Size(); len(c.events) == rebuildEvents || size >= rebuildBytes {
				if !yield(c) {
					return
				}
				c, size = chunk{}, 0
			}
		}
		if len(c.events) > 0 {
			yield(c)
		}
	}
}

// catchUp stores what the stream has behind the checkpoint, and answers how many
// events that were. One chunk is read while the last one is stored.
func (r *rebuild) catchUp(ctx context.Context, log function.History, leave func(function.Message, error)) (n int, err error) {
	ctx, stop := context.WithCancel(ctx)
	read := make(chan chunk)
	go func() {
		defer close(read)
		for c := range chunks(log.ReadStream(ctx, r.position+1)) {
			read <- c
		}
	}()
	defer func() {
		stop()
		for range read { // until the reader is gone
		}
	}()
	for c := range read {
		if c.err != nil {
			return n, c.err
		}
		position := c.events[len(c.events)-1].Position
		if err := r.apply(ctx, c.events, leave, "position = $1, leased = "+r.db.after(leaseTime), position); err != nil {
			return n, err
		}
		r.position = position
		n += len(c.events)
	}
	return n, nil
}

// handOver makes the new table the one in use, or tells that it can't be done
// now. It waits for the disk, and takes along what was written before it: a
// replica that finds its event in the new table acknowledges it, and writes
// nothing that would.
func (r *rebuild) handOver(ctx context.Context, log function.History, leave func(function.Message, error)) (done bool, err error) {
	bulk := r.write
	r.write = r.db.write
	defer func() { r.write = bulk }()
	if err := r.closePointer(ctx); err != nil {
		return false, err
	}
	tail, err := readAll(ctx, log, r.position+1)
	if err != nil || len(tail) > rebuildTail { // to catch up shows whether it can be read at all
		return false, r.openPointer(ctx)
	}
	err = r.apply(ctx, tail, leave, "generation = building, building = 0, position = $1, closed = 0, owner = '', leased = 0", 0)
	if !errors.Is(err, errLost) {
		return err == nil, err
	}
	// Opened by a replica, or all was done and the answer lost.
	var inUse int64
	if err := r.write.QueryRowContext(ctx, "SELECT generation FROM orders_views WHERE name = $1", r.db.view).Scan(&inUse); err != nil {
		return false, failed("find table of "+r.db.view, err)
	}
	if inUse == r.generation {
		return true, nil
	}
	return false, r.openPointer(ctx)
}

// readAll reads the rest of the stream, or more than a hand-over takes.
func readAll(ctx context.Context, log function.History, from uint64) (tail []function.Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTail)
	defer cancel()
	for e, err := range log.ReadStream(ctx, from) {
		if err != nil {
			return nil, err
		}
		if tail = append(tail, e); len(tail) > rebuildTail {
			break
		}
	}
	return tail, nil
}

// apply stores events, and what of the pointer changes with them: all or
// nothing. The pointer must be as this rebuild left it.
func (r *rebuild) apply(ctx context.Context, events []function.Message, leave func(function.Message, error), pointer string, value uint64) error {
	rows, without, err := r.fold(ctx, events)
	if err != nil {
		return err
	}
	var keep []any
	if n := len(events); n > 0 {
		keep = r.db.newest(r.generation, events[n-1])
	}
	err = r.transact(ctx, "store orders", func(tx *sql.Tx) error {
		if err := r.db.kind.store(ctx, tx, r.table(), rows, keep); err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, "UPDATE orders_views SET "+pointer+" WHERE name = $2 AND owner = $3 AND closed = $4",
			value, r.db.view, r.owner, r.closed))
		if err == nil && n == 0 {
			err = errLost
		}
		return err
	})
	if err != nil {
		return r.db.notStored(err)
	}
	for _, l := range without {
		leave(l.event, l.why)
	}
	return nil
}

// left is an event that the new table is without.
type left struct {
	event function.Message
	why   error
}

// fold makes the rows of the orders, each up to an event that can't be decoded.
// Only of those that are there already a row is read: nobody else writes to the
// table, and who takes the lease meanwhile has this one store nothing.
func (r *rebuild) fold(ctx context.Context, events []function.Message) (changed []*row, without []left, err error) {
	var ids, old []string
	rows := map[string]*row{}
	for _, e := range events {
		if rows[e.Aggregate] != nil {
			continue
		}
		ids, rows[e.Aggregate] = append(ids, e.Aggregate), &row{id: e.Aggregate}
		if e.Version > 1 {
			old = append(old, e.Aggregate)
		}
	}
	if len(old) > 0 {
		stored, err := r.db.kind.load(ctx, r.write, r.table(), old)
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(rows, stored)
	}
	for i, e := range events {
		missing, err := r.db.advance(rows[e.Aggregate], events[i:i+1])
		switch {
		case errors.Is(err, function.ErrDecode):
			without = append(without, left{e, err})
		case err != nil:
			return nil, nil, err
		case missing != nil:
			without = append(without, left{e, fmt.Errorf("apply to order %q: it follows one that can't be decoded", e.Aggregate)})
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if one := rows[id]; one.order.Version > one.stored {
			changed = append(changed, one)
		}
	}
	return changed, without, nil
}
