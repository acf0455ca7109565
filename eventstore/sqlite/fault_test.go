package sqlite_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

var errDisk = errors.New("disk I/O error")

// TestFailedTransactions has steps fail, also after the database committed.
// Every caller is told, and the next append finds what is really there.
func TestFailedTransactions(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  func(s *sqlite.Store, step string) error
		stored bool
	}{
		{"begin fails", func(_ *sqlite.Store, step string) error { return at("begin", step) }, false},
		{"commit fails", func(_ *sqlite.Store, step string) error { return at("commit", step) }, false},
		{"commit fails, and is done", func(s *sqlite.Store, step string) error {
			if err := at("commit", step); err != nil {
				return errors.Join(err, s.CommitNow())
			}
			return nil
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "events.db"))
			var told []eventstore.Event
			s.OnCommit(func(_ string, events []eventstore.Event) { told = append(told, events...) })
			appendAll(t, s, appends("before"), nil)
			s.SetFault(func(step string) error { return c.fault(s, step) })
			lost := appends("during")
			appendAll(t, s, lost, eventstore.ErrUnavailable)
			if err := s.SaveDurables(t.Context(), storetest.Stream, nil); !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, errDisk) {
				t.Errorf("save durables: %v", err)
			}
			there := len(storetest.Consistent(t, t.Context(), s, storetest.Stream))
			if want := map[bool]int{true: 40, false: 20}[c.stored]; there != want {
				t.Fatalf("%d events are there, want %d", there, want)
			}
			s.SetFault(nil)
			for _, done := range appendAll(t, s, lost, nil) {
				if done.Duplicate != c.stored {
					t.Errorf("duplicate: %v", done.Duplicate)
				}
			}
			appendAll(t, s, appends("after"), nil)
			all := storetest.Consistent(t, t.Context(), s, storetest.Stream)
			if len(all) != 60 {
				t.Errorf("%d events in the end, want 60", len(all))
			}
			// What was committed without our knowing is for the relay to read.
			if want := map[bool]int{true: 40, false: 60}[c.stored]; len(told) != want {
				t.Errorf("told of %d events, want %d", len(told), want)
			}
		})
	}
}

func at(want, step string) error {
	if want == step {
		return errDisk
	}
	return nil
}

// appends are 20, on 20 aggregates that are there for each name.
func appends(name string) []eventstore.Append {
	all := make([]eventstore.Append, 20)
	for i := range all {
		e := storetest.Event("happened", `{}`)
		e.ID = fmt.Sprint(name, i)
		all[i] = storetest.To(fmt.Sprint("a", i), eventstore.Any, e)
	}
	return all
}

// appendAll appends at once, and checks that each ends with want.
func appendAll(t *testing.T, s *sqlite.Store, all []eventstore.Append, want error) []eventstore.Appended {
	t.Helper()
	done := make([]eventstore.Appended, len(all))
	var wg sync.WaitGroup
	for i, a := range all {
		wg.Go(func() {
			var err error
			if done[i], err = s.Append(t.Context(), a); !errors.Is(err, want) {
				t.Errorf("append: %v, want %v", err, want)
			}
		})
	}
	wg.Wait()
	return done
}

// TestFailedRestore has a restore fail, and goes on from what is there then.
func TestFailedRestore(t *testing.T) {
	from, s := open(t, filepath.Join(t.TempDir(), "from.db")), open(t, filepath.Join(t.TempDir(), "to.db"))
	appendAll(t, from, appends("x"), nil)
	events := storetest.Consistent(t, t.Context(), from, storetest.Stream)
	s.SetFault(func(step string) error { return at("commit", step) })
	if err := s.Restore(t.Context(), storetest.Stream, events); !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	s.SetFault(func(step string) error {
		if err := at("commit", step); err != nil {
			return errors.Join(err, s.CommitNow())
		}
		return nil
	})
	if err := s.Restore(t.Context(), storetest.Stream, events[:9]); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatal(err)
	}
	s.SetFault(nil)
	if head, err := s.Head(t.Context(), storetest.Stream); err != nil || head != 9 {
		t.Fatalf("head %d, %v; want 9", head, err)
	}
	if err := s.Restore(t.Context(), storetest.Stream, events[9:]); err != nil {
		t.Fatal(err)
	}
	if all := storetest.Consistent(t, t.Context(), s, storetest.Stream); !reflect.DeepEqual(all, events) {
		t.Fatalf("got  %+v\nwant %+v", all, events)
	}
}

// TestPanickingListener is the error of the appends that it was told of, whose
// outcome is then unknown; the store goes on.
func TestPanickingListener(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "events.db"))
	broken := true
	s.OnCommit(func(string, []eventstore.Event) {
		if broken {
			broken = false
			panic("broken")
		}
	})
	a := appends("x")[:1]
	appendAll(t, s, a, eventstore.ErrUnavailable)
	if done := appendAll(t, s, a, nil); !done[0].Duplicate {
		t.Error("it was committed, and is not there")
	}
	appendAll(t, s, appends("y"), nil)
	storetest.Consistent(t, t.Context(), s, storetest.Stream)
}

// TestAnotherHandInTheFile has somebody else add an event, against the rules:
// an append fails, and the next goes on behind what is there.
func TestAnotherHandInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	s := open(t, path)
	appendAll(t, s, appends("x")[:1], nil)
	db := plain(t, path)
	for _, statement := range []string{
		"INSERT INTO events SELECT stream, 2, 'other', 1, 'other', type, time, schema, source, causation_id, correlation_id, traceparent, data FROM events",
		"UPDATE heads SET position = 2",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	again := appends("y")[:1]
	appendAll(t, s, again, eventstore.ErrUnavailable)
	if done := appendAll(t, s, again, nil); done[0].Events[0].Position != 3 {
		t.Errorf("position %d, want 3", done[0].Events[0].Position)
	}
	storetest.Consistent(t, t.Context(), s, storetest.Stream)
}
