package orderdb

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// tailReading is the reading of a rebuild that is its hand-over's: before it
// there are two, with the statistics between them.
const tailReading = 3

// TestAnEventWhileThePointerMoves has a replica acknowledge an event that came
// right after the rebuild read the end of the stream: it must be in the new
// table, since nothing follows it.
func TestAnEventWhileThePointerMoves(t *testing.T) { each(t, anEventWhileThePointerMoves) }

func anEventWhileThePointerMoves(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 20)
	last := log.events[49] // the end of the stream, and of one order
	log.events = log.events[:49]
	url := empty(t)
	db, replica := open(t, url), open(t, url)
	if err := replica.Apply(t.Context(), log, log.all()); err != nil {
		t.Fatal(err)
	}
	applied := make(chan error, 1)
	log.end = func(reading int) {
		if reading != tailReading {
			return
		}
		log.append(last)
		go func() { applied <- replica.Apply(context.Background(), log, []function.Message{last}) }()
		select {
		case err := <-applied:
			t.Errorf("an event was applied while the pointer was closed: %v", err)
			applied <- err
		case <-time.After(20 * closedLook): // it waits
		}
	}
	if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_2")
	check(t, db, want)
}

// TestAPointerThatWasOpened has the rebuild stand still for so long that a
// replica opens the pointer: it does not move then, but with the next try.
func TestAPointerThatWasOpened(t *testing.T) { each(t, aPointerThatWasOpened) }

func aPointerThatWasOpened(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 20)
	last := log.events[49]
	log.events = log.events[:49]
	url := empty(t)
	db, replica := open(t, url), open(t, url)
	if err := replica.Apply(t.Context(), log, log.all()); err != nil {
		t.Fatal(err)
	}
	log.end = func(reading int) {
		if reading != tailReading {
			return
		}
		log.append(last)
		db.set(t, "closed = 1") // long over
		if err := replica.Apply(t.Context(), log, []function.Message{last}); err != nil {
			t.Error(err)
		}
		if db.pointed(t) != 1 {
			t.Error("the pointer moved")
		}
	}
	if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_2")
	check(t, db, want)
	if len(log.from) != tailReading+2 {
		t.Errorf("the stream was read from %v", log.from)
	}
}

// openTold opens a view whose statements somebody is told of.
func openTold(t *testing.T, db *DB, url string, told tracer) {
	t.Helper()
	if err := db.openPostgres(t.Context(), url, told); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.findView(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// tracer is told of what one process sends to Postgres: before, and after.
type tracer struct {
	before func(sql string)
	after  func(tag string)
}

func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	t.before(d.SQL)
	return ctx
}

func (t tracer) TraceQueryEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	t.after(d.CommandTag.String())
}

// TestAPointerThatWasOpenedAtOnce has the rebuild stand still right after it
// closed the pointer, for so long that a replica opens it. That must not pass for
// a pointer that was never closed.
func TestAPointerThatWasOpenedAtOnce(t *testing.T) {
	url := pgtest.Database(t)
	log, want := whole(t, 20)
	last := log.events[49]
	log.events = log.events[:49]
	replica := open(t, url)
	if err := replica.Apply(t.Context(), log, log.all()); err != nil {
		t.Fatal(err)
	}
	var closes, opened bool
	db := New()
	told := tracer{
		before: func(sql string) {
			closes = closes || strings.HasPrefix(sql, "UPDATE orders_views SET closed = CAST(")
		},
		after: func(tag string) {
			if !closes || opened || tag != "COMMIT" {
				return
			}
			opened = true
			replica.set(t, "closed = 1") // long over
			if err := replica.Apply(t.Context(), log, log.all()[48:]); err != nil {
				t.Error(err)
			}
		},
	}
	openTold(t, db, url, told)
	log.end = func(reading int) {
		if reading != tailReading {
			return
		}
		log.append(last)
		if err := replica.Apply(t.Context(), log, []function.Message{last}); err != nil || replica.pointed(t) != 1 {
			t.Error(err, replica.pointed(t))
		}
	}
	if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil || !opened {
		t.Fatal(err, opened)
	}
	db.is(t, "orderview_2")
	check(t, db, want)
}

// TestACrashRightAfterTheHandOver: a replica acknowledges an event because the
// rebuild has stored it, and then the database crashes.
func TestACrashRightAfterTheHandOver(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.Database(t)
	log, want := whole(t, 20)
	last := log.events[49]
	log.events = log.events[:49]
	replica := open(t, url)
	if err := replica.Apply(t.Context(), log, log.all()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	crashed := false
	db := New()
	told := tracer{
		before: func(sql string) {
			if crashed || !strings.HasPrefix(sql, "DROP TABLE") {
				return // it is not handed over yet
			}
			crashed = true
			if err := replica.Apply(t.Context(), log, []function.Message{last}); err != nil {
				t.Error(err)
			}
			server.Stop()
			cancel()
		},
		after: func(string) {},
	}
	openTold(t, db, url, told)
	log.end = func(reading int) {
		if reading == tailReading-1 {
			log.append(last) // the rebuild's last try stores it
		}
	}
	err := db.Rebuild(ctx, log, noneLeft(t))
	if !crashed || err == nil {
		t.Fatal(err, crashed)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, url), want)
}

// TestTheHandOverWaitsForTheDisk asks SQLite what the hand-over's transaction
// does at its end.
func TestTheHandOverWaitsForTheDisk(t *testing.T) {
	const full = 2
	log, _ := whole(t, 20)
	db := open(t, file(t))
	for _, statement := range []string{
		"CREATE TABLE handed (synchronous INTEGER)",
		"CREATE TRIGGER hand AFTER UPDATE OF generation ON orders_views BEGIN INSERT INTO handed SELECT synchronous FROM pragma_synchronous; END",
	} {
		if _, err := db.write.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Rebuild(t.Context(), log, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	var synchronous int
	if err := db.read.QueryRowContext(t.Context(), "SELECT synchronous FROM handed").Scan(&synchronous); err != nil || synchronous != full {
		t.Errorf("it was handed over with synchronous = %d (%v)", synchronous, err)
	}
}

// TestADeadHandOverHoldsNobodyUp leaves the pointer closed, as a kill does.
func TestADeadHandOverHoldsNobodyUp(t *testing.T) { each(t, aDeadHandOverHoldsNobodyUp) }

func aDeadHandOverHoldsNobodyUp(t *testing.T, empty func(testing.TB) string) {
	log, want := whole(t, 10)
	db := open(t, empty(t))
	db.set(t, "closed = "+db.after(200*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := db.Apply(ctx, log, log.all()); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, function.ErrUnavailable) {
		t.Fatal(err)
	}
	if err := db.Apply(t.Context(), log, log.all()); err != nil {
		t.Fatal(err)
	}
	check(t, db, want)
}

// TestRebuildUnderLoad rebuilds again and again, and breaks every other one off
// somewhere, while two replicas apply events that come, in any order, each once,
// and a reader asks. What a reader saw it sees ever after.
func TestRebuildUnderLoad(t *testing.T) { each(t, rebuildUnderLoad) }

func rebuildUnderLoad(t *testing.T, empty func(testing.TB) string) {
	all, _ := whole(t, 20_000) // it ends when enough was rebuilt
	log := &stream{}
	url := empty(t)
	db := open(t, url)
	ctx, stop := context.WithCancel(t.Context())
	var load, others sync.WaitGroup
	work := make(chan history, 8)
	for range 2 {
		replica := open(t, url)
		load.Go(func() {
			for batch := range work {
				for err := replica.Apply(ctx, log, batch); err != nil; err = replica.Apply(ctx, log, batch) {
					if !errors.Is(err, function.ErrUnavailable) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	reader := open(t, url)
	others.Go(func() { neverGoesBack(ctx, t, reader) })
	var rebuilt atomic.Int64
	others.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			one, cancel := context.WithCancel(ctx)
			if n%2 == 0 {
				time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, cancel)
			}
			if err := db.Rebuild(one, log, noneLeft(t)); err == nil {
				rebuilt.Add(1)
			} else if one.Err() == nil {
				t.Error(err)
			}
			cancel()
		}
	})
	for batch := range slices.Chunk(all.events, 12) {
		if len(log.all()) > 1000 && rebuilt.Load() > 1 {
			break
		}
		log.append(batch...)
		mixed := slices.Clone(batch)
		rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		work <- mixed[:len(mixed)/2]
		work <- mixed[len(mixed)/2:]
	}
	close(work)
	load.Wait()
	stop()
	others.Wait()
	want := map[string]order.Order{}
	for _, m := range log.all() {
		e, err := order.Order{}.Decode(m.Type, m.Schema, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		want[m.Aggregate] = want[m.Aggregate].Evolve(e)
	}
	check(t, db, want)
	if t.Logf("%d rebuilds while %d events came", rebuilt.Load(), len(log.all())); rebuilt.Load() == 0 {
		t.Error("nothing was rebuilt")
	}
}

// neverGoesBack asks for orders until ctx ends.
func neverGoesBack(ctx context.Context, t *testing.T, db *DB) {
	seen := map[string]uint64{}
	for ctx.Err() == nil {
		page, _, err := db.List(ctx, Filter{}, "", 100)
		if err != nil && ctx.Err() == nil {
			t.Errorf("a read failed: %v", err)
			return
		}
		for id := range seen {
			o, err := db.Get(ctx, id)
			if err != nil && ctx.Err() == nil || err == nil && o.Version < seen[id] {
				t.Errorf("order %s was at version %d, and is at %d: %v", id, seen[id], o.Version, err)
				return
			}
			break
		}
		for _, o := range page {
			if o.Version < seen[o.ID] {
				t.Errorf("order %s was at version %d, and is at %d", o.ID, seen[o.ID], o.Version)
				return
			}
			seen[o.ID] = o.Version
		}
	}
}
