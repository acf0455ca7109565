package orderdb

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
)

// TestWaiting has orders in every state, and more than a page in one of them: all
// that wait are listed, and no other.
func TestWaiting(t *testing.T) {
	each(t, func(t *testing.T, empty func(testing.TB) string) {
		db := open(t, empty(t))
		var all, want []string
		rows := map[order.Status]int{order.Pending: waitingPage + 1}
		tx, err := db.kind.begin(t.Context(), db.write)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }() // after Commit it does nothing
		var stored []*row
		for _, s := range order.Statuses {
			for i := range max(rows[s], 2) {
				id := fmt.Sprintf("%s%d", s, i)
				all = append(all, id)
				if s == order.Pending || s == order.Paid || s == order.Approved {
					want = append(want, id)
				}
				stored = append(stored, &row{id: id, order: order.Order{ID: id, Status: s, Version: 1}, placed: uint64(len(all))})
			}
		}
		if err := db.kind.store(t.Context(), tx, db.tableName(1), stored, nil); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for id, err := range db.Waiting(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%d of %d orders wait, want %d", len(got), len(all), len(want))
		}
		for _, err := range db.Waiting(cancelled(t)) {
			if err == nil {
				t.Error("an order from a database that can't be read")
			}
		}
	})
}

// cancelled is a context that has ended.
func cancelled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
