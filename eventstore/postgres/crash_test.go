package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

// TestReopen opens the database again while the store that wrote it is still
// open: nothing of the process is needed to go on.
func TestReopen(t *testing.T) {
	storetest.RunReopen(t, func(t *testing.T) (eventstore.Store, func(*testing.T) eventstore.Store) {
		url := pgtest.Database(t)
		return open(t, url), func(t *testing.T) eventstore.Store { return open(t, url) }
	})
}

// TestManyOpenAtOnce has ten processes, as it were, meet an empty database.
func TestManyOpenAtOnce(t *testing.T) {
	url := pgtest.Database(t)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			s, err := postgres.Open(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.Close() }()
			if _, err := s.Append(t.Context(), storetest.To(fmt.Sprint("a", i), eventstore.New, storetest.Event("x", "1"))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(storetest.Consistent(t, t.Context(), open(t, url), storetest.Stream)); n != 10 {
		t.Fatalf("%d events, want 10", n)
	}
}

// TestConnectionsAreTerminated has several façades append to a few aggregates
// while their connections are terminated: what was acknowledged is there, once,
// and nothing is twice.
func TestConnectionsAreTerminated(t *testing.T) {
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			server := pgtest.Shared(t)
			url := server.Database(t)
			var stores []*postgres.Store
			for range 3 {
				stores = append(stores, open(t, url, postgres.Options{}.WithIsolation(level)))
			}
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
			defer stop()
			var wg sync.WaitGroup
			wg.Go(func() {
				for ctx.Err() == nil {
					server.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waybill' ORDER BY random() LIMIT 1")
					time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
				}
			})
			w := newWriters(t)
			for _, s := range stores {
				for range 16 {
					wg.Go(func() { w.run(ctx, s) })
				}
			}
			wg.Wait()
			w.check(open(t, url))
		})
	}
}

// TestServerIsAway stops PostgreSQL under load, as a crash does.
func TestServerIsAway(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.Database(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w := newWriters(t)
	var wg sync.WaitGroup
	for range 2 {
		s := open(t, url)
		for range 8 {
			wg.Go(func() { w.run(ctx, s) })
		}
	}
	for range 2 {
		w.more(2000)
		server.Stop()
		time.Sleep(300 * time.Millisecond) // how long it is away
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		w.more(1)
	}
	stop()
	wg.Wait()
	w.check(open(t, url))
}

// writers append to a few hot aggregates, and know what was acknowledged.
type writers struct {
	t     *testing.T
	acked atomic.Int64
	mu    sync.Mutex
	acks  map[string]eventstore.Event
}

func newWriters(t *testing.T) *writers {
	return &writers{t: t, acks: map[string]eventstore.Event{}}
}

// run appends until ctx ends; each append is repeated until it is answered.
func (w *writers) run(ctx context.Context, s eventstore.Store) {
	for ctx.Err() == nil {
		a := storetest.To(fmt.Sprint("hot", rand.IntN(12)), eventstore.Any, storetest.Event("x", "1"))
		for {
			done, err := s.Append(context.WithoutCancel(ctx), a)
			if err == nil {
				w.mu.Lock()
				w.acks[a.Events[0].ID] = done.Events[0]
				w.mu.Unlock()
				w.acked.Add(1)
				break
			}
			if !errors.Is(err, eventstore.ErrUnavailable) {
				w.t.Error(err)
				return
			}
		}
	}
}

// more waits until so many more were acknowledged.
func (w *writers) more(n int64) {
	w.t.Helper()
	enough := w.acked.Load() + n
	for deadline := time.Now().Add(30 * time.Second); w.acked.Load() < enough; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d of %d are not appended", enough-w.acked.Load(), n)
		}
	}
}

func (w *writers) check(s eventstore.Store) {
	w.t.Helper()
	events := storetest.Consistent(w.t, w.t.Context(), s, storetest.Stream)
	for _, e := range events {
		if ack, ok := w.acks[e.ID]; !ok || ack.Position != e.Position || ack.Version != e.Version {
			w.t.Fatalf("stored %+v, acknowledged %+v", e, ack)
		}
		delete(w.acks, e.ID)
	}
	if len(w.acks) > 0 || len(events) == 0 {
		w.t.Fatalf("of %d events %d were acknowledged and are not there", len(events), len(w.acks))
	}
	w.t.Logf("%d appends", len(events))
}

// TestFaultAtEveryStatement has each statement fail, before it is done and
// after, for the moment and for good: the append is stored once or not at all,
// and is no repeat.
func TestFaultAtEveryStatement(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		passes bool
	}{
		"serialization":     {&pgconn.PgError{Code: "40001"}, true},
		"completion":        {&pgconn.PgError{Code: "40003"}, true},
		"shutting down":     {&pgconn.PgError{Code: "57P01"}, true},
		"broken connection": {errors.New("connection reset"), true},
		"wrong statement":   {&pgconn.PgError{Code: "42601"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.Database(t)
			for _, isolation := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.Serializable} {
				for failAt := range 7 { // head, begin, lock, ids, versions, insert, head, commit
					for _, after := range []bool{false, true} {
						at := 0
						s, err := postgres.Open(t.Context(), url, postgres.Options{}.WithIsolation(isolation).WithFault(func(string) (error, bool) {
							if at++; at == failAt+1 {
								return c.err, after
							}
							return nil, false
						}))
						if err != nil {
							t.Fatal(err)
						}
						told := 0
						s.OnCommit(func(_ string, events []eventstore.Event) { told += len(events) })
						a := storetest.To("a", eventstore.Any, storetest.Event("x", "1"), storetest.Event("y", "2"))
						done, err := s.Append(t.Context(), a)
						switch {
						case c.passes && (err != nil || done.Duplicate || told != 2):
							t.Errorf("fault %d, after %t: %+v, %v, told of %d", failAt, after, done, err, told)
						case !c.passes && (!errors.Is(err, eventstore.ErrUnavailable) || told != 0):
							t.Errorf("fault %d, after %t: %v, told of %d", failAt, after, err, told)
						}
						again, err := s.Append(t.Context(), a)
						if err != nil || c.passes && !again.Duplicate || c.passes && again.Events[0].Position != done.Events[0].Position {
							t.Errorf("fault %d, after %t: again: %+v, %v", failAt, after, again, err)
						}
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if n := len(storetest.Consistent(t, t.Context(), open(t, url), storetest.Stream)); n != 2*7*2*2 {
				t.Errorf("%d events, want %d", n, 2*7*2*2)
			}
		})
	}
}

// TestFaultAtEveryStatementOfARestore is the same for what is restored.
func TestFaultAtEveryStatementOfARestore(t *testing.T) {
	url := pgtest.Database(t)
	position := uint64(0)
	for _, passes := range []bool{true, false} {
		for failAt := range 7 { // head, begin, lock, ids, versions, insert, head, commit
			for _, after := range []bool{false, true} {
				at := 0
				s := open(t, url, postgres.Options{}.WithFault(func(string) (error, bool) {
					if at++; at != failAt+1 {
						return nil, false
					}
					return &pgconn.PgError{Code: map[bool]string{true: "40003", false: "42601"}[passes]}, after
				}))
				told := 0
				s.OnCommit(func(_ string, events []eventstore.Event) { told += len(events) })
				events := []eventstore.Event{stored(position + 1), stored(position + 2)}
				err := s.Restore(t.Context(), storetest.Stream, events)
				head, headErr := s.Head(t.Context(), storetest.Stream)
				if headErr != nil {
					t.Fatal(headErr)
				}
				switch {
				case passes && (err != nil || told != 2 || head != position+2):
					t.Errorf("fault %d, after %t: %v, told of %d, head %d", failAt, after, err, told, head)
				case !passes && (!errors.Is(err, eventstore.ErrUnavailable) || told != 0):
					t.Errorf("fault %d, after %t: %v, told of %d", failAt, after, err, told)
				}
				position = head
			}
		}
	}
	storetest.Consistent(t, t.Context(), open(t, url), storetest.Stream)
}

// stored is an event of an aggregate of its own.
func stored(position uint64) eventstore.Event {
	e := storetest.Event("x", "1")
	e.Stream, e.Aggregate, e.Position, e.Version, e.Schema = storetest.Stream, fmt.Sprint("a", position), position, 1, 1
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	return e
}
