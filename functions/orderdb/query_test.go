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
	from, before := time.Unix(10, 0), time.Unix(40, 1) // of those at 0 to 49 s
	for _, f := range []Filter{
		{}, {Customer: "c1"}, {Status: order.Approved}, {Customer: "c2", Status: order.Paid}, {Customer: "nobody"},
		{CreatedFrom: from}, {CreatedBefore: before}, {CreatedFrom: from, CreatedBefore: before}, {CreatedBefore: from.Add(-time.Hour)},
		{Customer: "c1", CreatedFrom: from}, {Status: order.Paid, CreatedBefore: before},
		{Customer: "c0", Status: order.Approved, CreatedFrom: from, CreatedBefore: before},
	} {
		var ids []string
		cursor, last := "", time.Time{}
		for {
			page, next, err := db.List(t.Context(), f, cursor, 7)
			if err != nil || len(page) > 7 {
				t.Fatalf("%d orders, %v", len(page), err)
			}
			for _, o := range page {
				if !reflect.DeepEqual(o, want[o.ID]) || !f.holds(o) {
					t.Fatalf("%+v for %+v", o, f)
				}
				if len(ids) > 0 && o.CreatedOn.After(last) {
					t.Fatalf("%s comes after an older one", o.ID)
				}
				ids, last = append(ids, o.ID), o.CreatedOn
			}
			// An order that comes between two pages shifts nothing.
			late, err := order.Place(fmt.Sprintf("late%d", len(want)), "c1", "r", "", h0Items(), time.Now())
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
			if next == "" {
				break
			}
			cursor = next
		}
		for _, o := range want {
			if !f.holds(o) || len(o.ID) > 3 {
				continue
			}
			if n := len(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id != o.ID })); n != 1 {
				t.Fatalf("%+v: order %s is listed %d times", f, o.ID, n)
			}
		}
	}
}

// holds is what a filter means.
func (f Filter) holds(o order.Order) bool {
	return (f.Customer == "" || o.Customer == f.Customer) && (f.Status == "" || o.Status == f.Status) &&
		!o.CreatedOn.Before(f.CreatedFrom) && (f.CreatedBefore.IsZero() || o.CreatedOn.Before(f.CreatedBefore))
}

func h0Items() []order.Item {
	return []order.Item{{Code: "a", Name: "b", UnitPrice: 100, Quantity: 1}}
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
