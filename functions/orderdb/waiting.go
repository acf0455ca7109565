package orderdb

import (
	"context"
	"iter"

	"github.com/waybill-go/waybill/functions/order"
)

// waitingPage is how many orders are read at once.
const waitingPage = 500

// Waiting yields the ids of all orders that wait for their next step, as far as
// the view has come; one may come twice. An order that goes on meanwhile is
// not missed: its next state is listed later.
func (db *DB) Waiting(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, s := range order.Statuses { // in the order that an order meets them
			if !s.Waits() {
				continue
			}
			for cursor, more := "", true; more; more = cursor != "" {
				orders, next, err := db.List(ctx, Filter{Status: s}, cursor, waitingPage)
				if err != nil {
					yield("", err)
					return
				}
				for _, o := range orders {
					if !yield(o.ID, nil) {
						return
					}
				}
				cursor = next
			}
		}
	}
}
