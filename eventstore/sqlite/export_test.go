package sqlite

import (
	"errors"
	"testing"
)

// SetFault has a step of the writer's transactions fail: "begin" or "commit".
func (s *Store) SetFault(fault func(step string) error) {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	s.writer.fault = fault
}

// CommitNow commits the transaction that is open, from inside a fault.
func (s *Store) CommitNow() error {
	_, err := s.writer.commit.Exec()
	return err
}

// Pragma is a setting of the connection that writes.
func (s *Store) Pragma(t *testing.T, name string) (value string) {
	t.Helper()
	if err := s.writer.conn.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// Plans are the query plans of what reads events, a line for each step.
func (s *Store) Plans(t *testing.T) (plans []string) {
	t.Helper()
	for _, query := range []string{readAggregate, readTail, readStream, findStored, findVersions} {
		rows, err := s.writer.conn.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, 1, 2, 3, 4)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plans = append(plans, detail+": "+query)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return plans
}
