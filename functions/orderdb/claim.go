package orderdb

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waybill-go/waybill/runtime/function"
)

// ErrRebuilding says that the view is being rebuilt already.
var ErrRebuilding = errors.New("another rebuild is under way")

var errLost = fmt.Errorf("%w: it took over from this one, which had stood still for too long", ErrRebuilding)

const (
	// leaseTime is for how long a rebuild that stores nothing has the view to
	// itself. One that was killed is followed then.
	leaseTime = 15 * time.Second
	leaseLook = 100 * time.Millisecond
	// A transaction is tried so often, with so long between.
	transactTries = 10
	transactAgain = 200 * time.Millisecond
)

// rebuild is one that has the lease.
type rebuild struct {
	db         *DB
	write      *sql.DB
	owner      string
	generation int64  // that it makes
	position   uint64 // the checkpoint
	closed     int64  // what it closed the pointer with
}

func (r *rebuild) table() string { return r.db.tableName(r.generation) }

// after is a moment by the database's clock, in SQL.
func (db *DB) after(d time.Duration) string {
	return fmt.Sprintf("%s + %d", db.kind.now(), d.Milliseconds())
}

// claim takes the lease, and goes on with what another rebuild of the same
// program and the same history left; without one it begins. While another has
// the lease it waits to see whether that one lives.
func (r *rebuild) claim(ctx context.Context, log function.History) error {
	program, err := thisProgram()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	r.owner = fmt.Sprintf("%s:%d:%s", host, os.Getpid(), rand.Text())
	for first := int64(0); ; {
		leased, owner, err := r.take(ctx, program, false)
		if err != nil {
			return err
		}
		if leased == 0 {
			break
		}
		if first == 0 {
			first = leased
		}
		if leased != first {
			return fmt.Errorf("%w, by %s", ErrRebuilding, owner[:strings.LastIndex(owner, ":")])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leaseLook):
		}
	}
	if err := r.sweep(ctx); err != nil {
		return errors.Join(err, r.release())
	}
	err = r.db.sameHistory(ctx, log, r.generation)
	if errors.Is(err, errForeign) {
		_, _, err = r.take(ctx, program, true)
	}
	if err != nil {
		return errors.Join(err, r.release())
	}
	return nil
}

// take takes the lease, and makes a table if there is none to go on with, or if
// it is to begin anew. It answers until when, and who has it if it is another.
func (r *rebuild) take(ctx context.Context, program string, anew bool) (leased int64, owner string, err error) {
	db := r.db
	err = r.transact(ctx, "take the lease", func(tx *sql.Tx) error {
		var inUse, building int64
		var position uint64
		var by string
		var holds bool
		err := tx.QueryRowContext(ctx, "SELECT generation, building, position, program, owner, leased, leased > "+db.kind.now()+
			" FROM orders_views WHERE name = $1"+db.kind.lock(), db.view).Scan(&inUse, &building, &position, &by, &owner, &leased, &holds)
		if err != nil || holds && owner != r.owner {
			return err
		}
		if building == 0 || by != program || anew {
			building, position = max(inUse, building)+1, 0
			if err := db.kind.create(ctx, tx, db.tableName(building)); err != nil {
				return err
			}
		}
		r.generation, r.position, leased = building, position, 0
		_, err = tx.ExecContext(ctx, fmt.Sprintf("UPDATE orders_views SET building = $1, position = $2, program = $3, owner = $4, closed = 0,"+
			" leased = %s WHERE name = $5", db.after(leaseTime)), building, position, program, r.owner, db.view)
		return err
	})
	return leased, owner, err
}

// closePointer keeps replicas from applying events for a while. The statement
// that closes it answers until when: one that looked later could find that a
// replica had opened it, and take that for its own doing.
func (r *rebuild) closePointer(ctx context.Context) error {
	return r.transact(ctx, "close the pointer", func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, fmt.Sprintf("UPDATE orders_views SET closed = %s, leased = %s WHERE name = $1 AND owner = $2 RETURNING closed",
			r.db.after(closeFor), r.db.after(leaseTime)), r.db.view, r.owner).Scan(&r.closed)
		if errors.Is(err, sql.ErrNoRows) {
			return errLost
		}
		return err
	})
}

// openPointer has replicas go on.
func (r *rebuild) openPointer(ctx context.Context) error {
	r.closed = 0
	return r.change(ctx, "closed = 0")
}

// change changes the pointer, while the lease is this rebuild's.
func (r *rebuild) change(ctx context.Context, what string) error {
	return r.transact(ctx, "change the pointer", func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, "UPDATE orders_views SET "+what+" WHERE name = $1 AND owner = $2", r.db.view, r.owner))
		if err == nil && n == 0 {
			err = errLost
		}
		return err
	})
}

// transact does something in a transaction, and again for a while when that
// can't be done because the database is away, or others have it.
func (r *rebuild) transact(ctx context.Context, what string, do func(*sql.Tx) error) error {
	once := func() error {
		tx, err := r.db.kind.begin(ctx, r.write)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after Commit it does nothing
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
	var err error
	for range transactTries {
		if err = once(); err == nil || errors.Is(err, errLost) || r.db.kind.isTaken(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(transactAgain):
		}
	}
	return failed(what, err)
}

// release lets the next one begin at once; what is made is left to it.
func (r *rebuild) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := r.change(ctx, "owner = '', leased = 0, closed = 0"); err != nil && !errors.Is(err, errLost) {
		return err
	}
	return nil
}

// sweep drops the view's tables that are neither in use nor being made.
func (r *rebuild) sweep(ctx context.Context) error {
	db := r.db
	tables, err := db.kind.tables(ctx, r.write, db.view+"_")
	if err != nil {
		return failed("list the tables of "+db.view, err)
	}
	// Looked at after the list: a newer table is not in that.
	var inUse, building int64
	if err := r.write.QueryRowContext(ctx, "SELECT generation, building FROM orders_views WHERE name = $1", db.view).Scan(&inUse, &building); err != nil {
		return failed("find table of "+db.view, err)
	}
	for _, name := range tables {
		generation, err := strconv.ParseInt(strings.TrimPrefix(name, db.view+"_"), 10, 64)
		if err != nil || slices.Contains([]int64{inUse, building}, generation) {
			continue
		}
		for _, statement := range db.kind.drops(name) {
			err := r.transact(ctx, "drop table "+name, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, statement)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return r.forgetNewest(ctx, inUse, building)
}

// thisProgram tells programs apart: a view that one began must not be finished
// by another, which may fold events otherwise.
var thisProgram = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
})
