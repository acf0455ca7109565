package orderdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// each runs a test on every kind of database. empty is the URL of a new one.
func each(t *testing.T, test func(t *testing.T, empty func(testing.TB) string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, file) })
	t.Run("postgres", func(t *testing.T) {
		pgtest.Shared(t)
		test(t, pgtest.Database)
	})
}

func open(t testing.TB, url string) *DB {
	t.Helper()
	db := New()
	*db.url = url
	if err := db.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// file is the URL of a file that is not there yet.
func file(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "sub", "orders.db") }

// history is the log of a stream, made by hand: n orders that go all the way,
// their events interleaved.
type history []function.Message

func (h history) ReadAggregate(_ context.Context, id string, from uint64) iter.Seq2[function.Message, error] {
	return func(yield func(function.Message, error) bool) {
		for _, e := range h {
			if e.Aggregate == id && e.Version >= from && !yield(e, nil) {
				return
			}
		}
	}
}

func orders(t testing.TB, n int) (history, map[string]order.Order) {
	t.Helper()
	var h history
	want := map[string]order.Order{}
	add := func(id string, e order.Event) {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		want[id] = want[id].Evolve(e)
		h = append(h, function.Message{
			Stream: order.Stream, Position: uint64(len(h) + 1), Aggregate: id, Version: want[id].Version, Type: e.EventType(), Schema: 1, Data: data,
		})
	}
	for step := range 3 {
		for i := range n {
			id := fmt.Sprintf("o%d", i)
			switch step {
			case 0:
				c, err := order.Place(id, fmt.Sprintf("c%d", i%3), "r", "", []order.Item{{Code: "a", Name: "b", UnitPrice: 100, Quantity: 1}}, time.Unix(int64(i), 0))
				if err != nil {
					t.Fatal(err)
				}
				add(id, c)
			case 1:
				add(id, order.PaymentDebited{Amount: 100, Currency: "USD"})
			default:
				if i%2 == 0 {
					add(id, order.WasApproved{})
				}
			}
		}
	}
	return h, want
}

func check(t testing.TB, db *DB, want map[string]order.Order) {
	t.Helper()
	for id, w := range want {
		got, err := db.Get(context.Background(), id)
		if err != nil || !reflect.DeepEqual(got, w) {
			t.Fatalf("%s is %+v (%v), want %+v", id, got, err, w)
		}
	}
}

func TestAnyOrderAnyRepeat(t *testing.T) { each(t, anyOrderAnyRepeat) }

func anyOrderAnyRepeat(t *testing.T, empty func(testing.TB) string) {
	h, want := orders(t, 20)
	for round := range 6 {
		db := open(t, empty(t))
		shuffled := append(slices.Clone(h), h[:len(h)/2]...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for batch := range slices.Chunk(shuffled, 1+6*round) {
			if err := db.Apply(t.Context(), h, batch); err != nil {
				t.Fatal(err)
			}
		}
		check(t, db, want)
	}
}

func TestSeveralProcessesShareTheWork(t *testing.T) { each(t, severalProcessesShareTheWork) }

func severalProcessesShareTheWork(t *testing.T, empty func(testing.TB) string) {
	h, want := orders(t, 60)
	url := empty(t)
	var dbs [3]*DB
	var wg sync.WaitGroup
	for i := range dbs { // they migrate together as well
		wg.Go(func() {
			dbs[i] = New()
			*dbs[i].url = url
			if err := dbs[i].Open(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, db := range dbs {
		t.Cleanup(func() { _ = db.Close() })
		wg.Go(func() {
			var mine history
			for j, e := range h {
				if j%3 == i || j%5 == i {
					mine = append(mine, e)
				}
			}
			for batch := range slices.Chunk(mine, 7) {
				if err := db.Apply(context.Background(), h, batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	check(t, dbs[0], want)
}

// TestWhatIsMissedIsReadOnce hands in histories with holes. A batch that holds
// all it needs, in any order, does not go to the log.
func TestWhatIsMissedIsReadOnce(t *testing.T) { each(t, whatIsMissedIsReadOnce) }

func whatIsMissedIsReadOnce(t *testing.T, empty func(testing.TB) string) {
	h, want := orders(t, 1) // created, paymentdebited, approved
	for name, c := range map[string]struct {
		versions []uint64
		reads    []uint64
		reached  uint64
	}{
		"in order":          {[]uint64{1, 2, 3}, nil, 3},
		"backwards":         {[]uint64{3, 2, 1}, nil, 3},
		"repeated":          {[]uint64{2, 1, 1, 2, 2}, nil, 2},
		"the last alone":    {[]uint64{3}, []uint64{1}, 3},
		"one in the middle": {[]uint64{1, 3}, []uint64{2}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, empty(t))
			var batch []function.Message
			for _, v := range c.versions {
				batch = append(batch, h[v-1])
			}
			given := slices.Clone(batch)
			log := &counting{history: h}
			if err := db.Apply(t.Context(), log, batch); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(batch, given) {
				t.Error("the batch was changed")
			}
			got, err := db.Get(t.Context(), "o0")
			if err != nil || got.Version != c.reached || c.reached == 3 && !reflect.DeepEqual(got, want["o0"]) {
				t.Errorf("%+v, %v", got, err)
			}
			if !slices.Equal(log.reads, c.reads) {
				t.Errorf("the log was read from %v, want %v", log.reads, c.reads)
			}
		})
	}
}

// counting is a log that says from which versions it was read.
type counting struct {
	history
	reads []uint64
}

func (c *counting) ReadAggregate(ctx context.Context, id string, from uint64) iter.Seq2[function.Message, error] {
	c.reads = append(c.reads, from)
	return c.history.ReadAggregate(ctx, id, from)
}

// failing is a log that can't be read, and one that holds less than what came.
type failing struct{ err error }

func (f failing) ReadAggregate(context.Context, string, uint64) iter.Seq2[function.Message, error] {
	return func(yield func(function.Message, error) bool) {
		if f.err != nil {
			yield(function.Message{}, f.err)
		}
	}
}

func TestWithoutItsLogNothingIsApplied(t *testing.T) { each(t, withoutItsLogNothingIsApplied) }

func withoutItsLogNothingIsApplied(t *testing.T, empty func(testing.TB) string) {
	h, _ := orders(t, 2)
	for name, c := range map[string]struct {
		log  function.Log
		want error
	}{
		"the log is away":  {failing{function.ErrUnavailable}, function.ErrUnavailable},
		"the log is short": {failing{}, nil},
	} {
		db := open(t, empty(t))
		batch := []function.Message{h[0], h[3]} // created of one, paymentdebited of the other
		err := db.Apply(t.Context(), c.log, batch)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && errors.Is(err, function.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if o, err := db.Get(t.Context(), "o0"); err != nil || o.Exists() {
			t.Errorf("%s: half a batch is there: %+v, %v", name, o, err)
		}
	}
}

// TestACrashLeavesWholeBatches takes the files as a crash would leave them: in
// the middle of a transaction that has written.
func TestACrashLeavesWholeBatches(t *testing.T) {
	h, want := orders(t, 40)
	path := strings.TrimPrefix(file(t), "sqlite:")
	db := open(t, "sqlite:"+path)
	if err := db.Apply(t.Context(), h, h[:40]); err != nil {
		t.Fatal(err)
	}
	before := size(t, path+"-wal")
	if _, err := db.write.ExecContext(t.Context(), "PRAGMA cache_size = 1"); err != nil { // so that it writes before it commits
		t.Fatal(err)
	}
	tx, err := db.write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for id := range want {
		o := order.Order{ID: id, Version: 99, Reason: strings.Repeat("x", 5000)}
		if err := db.kind.store(t.Context(), tx, "orderview_1", []*row{{id: id, order: o, stored: 1}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if size(t, path+"-wal") <= before {
		t.Fatal("the transaction has written nothing yet")
	}
	crashed := filepath.Join(t.TempDir(), "orders.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(crashed+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	after := open(t, "sqlite:"+crashed)
	for id := range want {
		if o, err := after.Get(t.Context(), id); err != nil || o.Version != 1 {
			t.Fatalf("%+v, %v", o, err)
		}
	}
	if err := after.Apply(t.Context(), h, h); err != nil {
		t.Fatal(err)
	}
	check(t, after, want)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestAnotherStoresViewIsNamed: the events wait for the operator to mend it.
func TestAnotherStoresViewIsNamed(t *testing.T) { each(t, anotherStoresViewIsNamed) }

func anotherStoresViewIsNamed(t *testing.T, empty func(testing.TB) string) {
	h, _ := orders(t, 2)
	db := open(t, empty(t))
	h[1].Position = h[0].Position
	err := db.Apply(t.Context(), h, h[:2])
	if !errors.Is(err, function.ErrUnavailable) || !strings.Contains(err.Error(), "ORDERS_DB") {
		t.Fatal(err)
	}
}

// TestAnotherMomentsViewIsNamed has orders in the table that the event
// store no longer has, and one that it has at another place.
func TestAnotherMomentsViewIsNamed(t *testing.T) { each(t, anotherMomentsViewIsNamed) }

func anotherMomentsViewIsNamed(t *testing.T, empty func(testing.TB) string) {
	h, _ := orders(t, 3)
	url := empty(t)
	if err := open(t, url).Apply(t.Context(), h, h); err != nil {
		t.Fatal(err)
	}
	foreign := func(log, batch history) {
		t.Helper()
		err := open(t, url).Apply(t.Context(), log, batch)
		if !errors.Is(err, function.ErrUnavailable) || !strings.Contains(err.Error(), "ORDERS_DB") {
			t.Fatal(err)
		}
	}
	older := h[:2] // the third order was never placed
	foreign(older, older[:1])
	if err := open(t, url).Apply(t.Context(), h, h[:1]); err != nil {
		t.Fatal(err) // its own
	}
	again := h[0]
	again.Position = 99
	foreign(h, history{again})
}

func TestReadersCantWrite(t *testing.T) { each(t, readersCantWrite) }

func readersCantWrite(t *testing.T, empty func(testing.TB) string) {
	db := open(t, empty(t))
	if _, err := db.read.ExecContext(t.Context(), "DELETE FROM orderview_1"); err == nil {
		t.Fatal("a reader wrote")
	}
}

func TestANewerReleasesFileIsRefused(t *testing.T) {
	url := file(t)
	db := open(t, url)
	if _, err := db.write.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	again := New()
	*again.url = url
	if err := again.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "99") {
		t.Fatal(err)
	}
}

func TestAFailedBatchLeavesNothing(t *testing.T) { each(t, aFailedBatchLeavesNothing) }

func aFailedBatchLeavesNothing(t *testing.T, empty func(testing.TB) string) {
	h, _ := orders(t, 3)
	db := open(t, empty(t))
	bad := h[1]
	bad.Data = json.RawMessage(`[]`)
	if err := db.Apply(t.Context(), h, []function.Message{h[0], bad}); !errors.Is(err, function.ErrDecode) {
		t.Fatal(err)
	}
	if o, err := db.Get(t.Context(), h[0].Aggregate); err != nil || o.Exists() {
		t.Fatalf("%+v, %v", o, err)
	}
}

func TestBadSettingIsNamed(t *testing.T) {
	for _, url := range []string{"postgres://u:secret@h:port/d", "mysql://u:secret@h/d", "host=h password=secret", "sqlite:", "sqlite::memory:", "orders.db", ""} {
		db := New()
		*db.url = url
		err := db.Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), "ORDERS_DB") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, bad := range []string{"x y", "-1", "0", "zzzzzzzzzzzzzzzzzzzz", "+1", "1,5", "1.0", "1.-1", "1.5.5", "+1.5", "01.5", "1.", ".1", "é"} {
		if _, err := ParseCursor(bad); err == nil {
			t.Errorf("cursor %q was taken", bad)
		}
	}
}
