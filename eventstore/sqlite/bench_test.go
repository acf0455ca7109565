package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

var callers = []int{1, 8, 64, 512}

// BenchmarkAppend appends to new aggregates one event of 256 bytes of data.
func BenchmarkAppend(b *testing.B) {
	data := pad()
	for _, n := range callers {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "events.db"))
			load(b, n, func() error {
				e := storetest.Event("happened", data)
				_, err := s.Append(context.Background(), storetest.To(e.ID, eventstore.New, e))
				return err
			})
		})
	}
}

// BenchmarkBare is what BenchmarkAppend is measured by: the least that a group
// commit of the same rows with the same indexes can do. It looks nothing up.
func BenchmarkBare(b *testing.B) {
	data := pad()
	for _, n := range callers {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			g := openBare(b)
			load(b, n, func() error {
				done := make(chan error, 1)
				g.queue <- bareAppend{uuid.NewString(), data, done}
				return <-done
			})
		})
	}
}

func BenchmarkReadAggregate(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "events.db"))
	data := pad()
	for i := range 100 {
		events := make([]eventstore.Event, 25)
		for j := range events {
			events[j] = storetest.Event("happened", data)
		}
		if _, err := s.Append(b.Context(), storetest.To(fmt.Sprint("a", i), eventstore.New, events...)); err != nil {
			b.Fatal(err)
		}
	}
	for name, last := range map[string]int{"all 25": 0, "last one": 1} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				r := eventstore.AggregateRead{Stream: storetest.Stream, Aggregate: fmt.Sprint("a", i%100), Last: last}
				if _, err := eventstore.Collect(s.ReadAggregate(b.Context(), r)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func pad() string { return `{"pad":"` + strings.Repeat("x", 256-len(`{"pad":""}`)) + `"}` }

// load has so many callers append b.N times between them.
func load(b *testing.B, callers int, once func() error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	next := make(chan struct{}, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range next {
				if err := once(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		next <- struct{}{}
	}
	close(next)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

type bareAppend struct {
	id, data string
	done     chan error
}

type bare struct {
	queue  chan bareAppend
	conn   *sql.Conn
	insert *sql.Stmt
	last   int64
}

// openBare makes a file with the store's own tables and settings, and commits
// what comes on its queue.
func openBare(b *testing.B) *bare {
	b.Helper()
	file := filepath.Join(b.TempDir(), "bare.db")
	s, err := sqlite.Open(b.Context(), file)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	dsn := "file:" + (&url.URL{Path: file}).EscapedPath() + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(4000)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		b.Fatal(err)
	}
	g := &bare{queue: make(chan bareAppend, 512)}
	if g.conn, err = db.Conn(b.Context()); err != nil {
		b.Fatal(err)
	}
	if g.insert, err = g.conn.PrepareContext(b.Context(), "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"); err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.run()
	}()
	b.Cleanup(func() {
		close(g.queue)
		<-ended
		if err := g.conn.Close(); err != nil {
			b.Error(err)
		}
		if err := db.Close(); err != nil {
			b.Error(err)
		}
		if err := os.Remove(file); err != nil {
			b.Error(err)
		}
	})
	return g
}

func (g *bare) run() {
	var batch []bareAppend
	for a := range g.queue {
		batch = append(batch[:0], a)
		for more := true; more && len(batch) < 512; {
			select {
			case next, open := <-g.queue:
				if more = open; open {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		err := g.commit(batch)
		for _, a := range batch {
			a.done <- err
		}
	}
}

func (g *bare) commit(batch []bareAppend) error {
	ctx := context.Background()
	if _, err := g.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, a := range batch {
		g.last++
		if _, err := g.insert.ExecContext(ctx, storetest.Stream, g.last, a.id, int64(1), a.id, "happened",
			"2026-01-02T03:04:05.000000Z", int64(1), "", "", "", "", a.data); err != nil {
			return err
		}
	}
	_, err := g.conn.ExecContext(ctx, "COMMIT")
	return err
}

func BenchmarkSize(b *testing.B) {
	storetest.BenchmarkSize(b, func(t testing.TB) eventstore.Backend {
		return open(t, filepath.Join(t.TempDir(), "events.db"))
	})
}
