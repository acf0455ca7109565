package orderdb

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestListPagesAreStable(t *testing.T) { each(t, listPagesAreStable) }

func listPagesAreStable(t *testing.T, empty func(testing.TB) string) {
	h, want := orders(t, 50)
	db := open(t, empty(t))
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

// TestListsUseTheirIndex holds the plan of every form of the query: one search
// of an index, and nothing is sorted.
func TestListsUseTheirIndex(t *testing.T) {
	db := open(t, file(t))
	for f, index := range map[Filter]string{
		{}:                                     "orders_placed",
		{Customer: "c"}:                        "orders_customer",
		{Status: order.Paid}:                   "orders_status",
		{Customer: "c", Status: order.Pending}: "orders_customer_status",
	} {
		query, args := f.query(1000, 50)
		var id, parent, unused int
		var detail string
		if err := db.read.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...).Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(detail, "SEARCH orders USING INDEX "+index+" ") {
			t.Errorf("%+v: %s", f, detail)
		}
	}
}

// TestPagesAreBounded lists orders of which one page can't hold many.
func TestPagesAreBounded(t *testing.T) { each(t, pagesAreBounded) }

func pagesAreBounded(t *testing.T, empty func(testing.TB) string) {
	db := open(t, empty(t))
	large := make([]order.Item, order.MaxItems)
	for i := range large {
		large[i] = order.Item{Code: strings.Repeat("c", 200), Name: strings.Repeat("n", 200), UnitPrice: 1, Quantity: 1}
	}
	var h history
	for i := range 7 {
		c, err := order.Place(fmt.Sprintf("o%d", i), "c", "r", "", large, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		h = append(h, function.Message{Stream: order.Stream, Position: uint64(i + 1), Aggregate: c.ID, Version: 1, Type: "created", Schema: 1, Data: data})
	}
	if err := db.Apply(t.Context(), h, h); err != nil {
		t.Fatal(err)
	}
	seen, cursor, pages := 0, "", 0
	for {
		page, next, err := db.List(t.Context(), Filter{}, cursor, 500)
		if err != nil || len(page) == 0 {
			t.Fatalf("%d orders, %v", len(page), err)
		}
		data, err := json.Marshal(page)
		if err != nil || len(data) > 1<<20 {
			t.Fatalf("a page of %d bytes, %v", len(data), err)
		}
		seen, pages, cursor = seen+len(page), pages+1, next
		if next == "" {
			break
		}
	}
	if seen != 7 || pages < 2 {
		t.Fatalf("%d orders on %d pages", seen, pages)
	}
}
