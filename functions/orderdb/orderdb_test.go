package orderdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string) *DB {
	t.Helper()
	db := New()
	db.settings.URL = "sqlite:" + path
	if err := db.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "sub", "orders.db") }

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

func TestAnyOrderAnyRepeat(t *testing.T) {
	h, want := orders(t, 20)
	for round := range 20 {
		db := open(t, file(t))
		shuffled := append(slices.Clone(h), h[:len(h)/2]...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for batch := range slices.Chunk(shuffled, 1+round) {
			if err := db.Apply(t.Context(), h, batch); err != nil {
				t.Fatal(err)
			}
		}
		check(t, db, want)
	}
}

func TestSeveralProcessesShareTheWork(t *testing.T) {
	h, want := orders(t, 60)
	path := file(t)
	var dbs [3]*DB
	var wg sync.WaitGroup
	for i := range dbs { // they migrate together as well
		wg.Go(func() {
			dbs[i] = New()
			dbs[i].settings.URL = "sqlite:" + path
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

func TestAFailedBatchLeavesNothing(t *testing.T) {
	h, _ := orders(t, 3)
	db := open(t, file(t))
	bad := h[1]
	bad.Data = json.RawMessage(`[]`)
	if err := db.Apply(t.Context(), h, []function.Message{h[0], bad}); !errors.Is(err, function.ErrDecode) {
		t.Fatal(err)
	}
	if o, err := db.Get(t.Context(), h[0].Aggregate); err != nil || o.Exists() {
		t.Fatalf("%+v, %v", o, err)
	}
}

func TestListPagesAreStable(t *testing.T) {
	h, want := orders(t, 50)
	db := open(t, file(t))
	if err := db.Apply(t.Context(), h, h); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Filter{{}, {Customer: "c1"}, {Status: order.Approved}, {Customer: "c2", Status: order.Paid}, {Customer: "nobody"}} {
		var ids []string
		cursor, pages := "", 0
		for {
			page, next, err := db.List(t.Context(), f, cursor, 7)
			if err != nil || len(page) > 7 {
				t.Fatalf("%d orders, %v", len(page), err)
			}
			for _, o := range page {
				if !reflect.DeepEqual(o, want[o.ID]) || f.Customer != "" && o.Customer != f.Customer || f.Status != "" && o.Status != f.Status {
					t.Fatalf("%+v for %+v", o, f)
				}
				ids = append(ids, o.ID)
			}
			// An order that comes between two pages shifts nothing.
			late, err := order.Place(fmt.Sprintf("late%d-%s-%s", pages, f.Customer, f.Status), "c1", "r", "", h0Items(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(late)
			if err != nil {
				t.Fatal(err)
			}
			m := function.Message{Stream: order.Stream, Position: uint64(10_000 + rand.IntN(1<<40)), Aggregate: late.ID, Version: 1, Type: "created", Schema: 1, Data: data}
			if err := db.Apply(t.Context(), history{m}, []function.Message{m}); err != nil {
				t.Fatal(err)
			}
			want[late.ID] = order.Order{}.Evolve(late)
			if pages++; next == "" {
				break
			}
			cursor = next
		}
		for _, o := range want {
			if f.Customer != "" && o.Customer != f.Customer || f.Status != "" && o.Status != f.Status || len(o.ID) > 3 {
				continue
			}
			if n := len(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id != o.ID })); n != 1 {
				t.Fatalf("%+v: order %s is listed %d times", f, o.ID, n)
			}
		}
	}
}

func h0Items() []order.Item {
	return []order.Item{{Code: "a", Name: "b", UnitPrice: 100, Quantity: 1}}
}

func TestBadSettingIsNamed(t *testing.T) {
	db := New()
	db.settings.URL = "postgres://u:secret@h/d"
	err := db.Open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "ORDERS_DB") || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
	for _, bad := range []string{"x y", "-1", "0", "zzzzzzzzzzzzzzzzzzzz"} {
		if _, err := ParseCursor(bad); err == nil {
			t.Errorf("cursor %q was taken", bad)
		}
	}
}
