package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"

	"github.com/waybill-go/waybill/internal/crash"
)

// writer is the one connection that writes, with its statements. Whatever
// fails on it, it is dropped: the next transaction starts on a new connection,
// from what the database has then.
type writer struct {
	db *sql.DB // of one connection

	mu   sync.Mutex // held for a transaction; guards what follows
	conn *sql.Conn  // nil: to be opened
	// heads are the streams' last positions, as committed; nil: to be read.
	heads map[string]uint64

	begin, commit, insert, stored, versions, setHead, allHeads *sql.Stmt

	open []*sql.Stmt // all of these

	// fault is called before a step, in tests: the step fails with its error.
	fault func(step string) error

	args  []any  // of the insert, used again
	names []byte // JSON, used again
}

// One statement for all ids, and one for all aggregates, of a stream.
const (
	findStored = "SELECT " + columns + " FROM (SELECT value AS asked FROM json_each(?)) CROSS JOIN events" +
		" WHERE stream = ? AND id = asked"
	findVersions = "SELECT value, version FROM (SELECT value, (SELECT max(version) FROM events WHERE stream = ? AND aggregate = value)" +
		" AS version FROM json_each(?)) WHERE version IS NOT NULL"
)

// connect opens the connection, if there is none, and prepares its statements.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	w.conn, w.heads = conn, nil
	for _, s := range []struct {
		to  **sql.Stmt
		sql string
	}{
		// A deferred transaction could not wait for its turn to write.
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.insert, "INSERT INTO events (" + columns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&w.stored, findStored},
		{&w.versions, findVersions},
		{&w.setHead, "INSERT INTO heads (stream, position) VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET position = excluded.position"},
		{&w.allHeads, "SELECT stream, position FROM heads"},
	} {
		stmt, err := conn.PrepareContext(ctx, s.sql)
		if err != nil {
			w.drop()
			return fmt.Errorf("prepare: %w", err)
		}
		*s.to, w.open = stmt, append(w.open, stmt)
	}
	return nil
}

// drop closes the connection, and so undoes a transaction that is open on it.
func (w *writer) drop() {
	if w.conn == nil {
		return
	}
	w.closeStatements()
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // takes it from the pool
	_ = w.conn.Close()
	w.conn, w.heads = nil, nil
}

// closeStatements has to come before the connection is closed: database/sql does
// not close what was prepared on a connection of one's own, and SQLite keeps a
// connection, and its locks, until the last of its statements is closed.
func (w *writer) closeStatements() {
	for _, stmt := range w.open {
		_ = stmt.Close()
	}
	w.open = w.open[:0]
}

// transact has f write in a transaction, and commits it unless f tells that
// nothing was written. After an error of the commit itself, what was written
// may or may not be there.
//
// It takes no context: a transaction that is interrupted is one that failed,
// for all of its callers.
func (w *writer) transact(f func() (wrote bool, err error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	clean := false
	defer func() { // also when f panics
		if !clean {
			w.drop()
		}
	}()
	if err := w.connect(context.Background()); err != nil {
		return err
	}
	if err := w.step("begin", w.begin); err != nil {
		return err
	}
	wrote, err := f()
	if err != nil {
		return err
	}
	if wrote {
		crash.At(crash.BeforeCommit)
		err = w.step("commit", w.commit)
	} else {
		_, err = w.conn.ExecContext(context.Background(), "ROLLBACK")
	}
	clean = err == nil
	return err
}

func (w *writer) step(name string, stmt *sql.Stmt) error {
	if w.fault != nil {
		if err := w.fault(name); err != nil {
			return err
		}
	}
	_, err := stmt.ExecContext(context.Background())
	return err
}

// knowHeads reads the streams' last positions unless they are known.
func (w *writer) knowHeads() error {
	if w.heads != nil {
		return nil
	}
	heads, err := scanHeads(w.allHeads.QueryContext(context.Background()))
	w.heads = heads
	return err
}

func (w *writer) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if w.conn != nil {
		w.closeStatements()
		err = w.conn.Close()
		w.conn = nil
	}
	return errors.Join(err, w.db.Close())
}
