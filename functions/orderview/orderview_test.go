package orderview

import (
	"path/filepath"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/functiontest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// TestTheLastOfThree hands the function the last of an order's events, twice:
// the others, one of them of a newer release, it reads from the store.
func TestTheLastOfThree(t *testing.T) {
	db := orderdb.New()
	functiontest.Open(t, db, "ORDERS_DB=sqlite:"+filepath.Join(t.TempDir(), "orders.db"))
	if n := len(New(db).Needs); n != 1 {
		t.Errorf("the function opens %d resources", n)
	}
	functiontest.Given(t, New(db), order.Created{ID: "o1", Customer: "c", Amount: 1250}, order.Unknown{Type: "tasted"}).Of("o1").
		When(order.PaymentDebited{Amount: 1250}).ThenNothing().
		Again().ThenNothing()
	if o, err := db.Get(t.Context(), "o1"); err != nil || o.Status != order.Paid || o.Version != 3 || o.Amount != 1250 {
		t.Errorf("%+v, %v", o, err)
	}
}
