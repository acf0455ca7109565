package payment_test

import (
	"fmt"
	"testing"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/payment"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

// TestWithTheLedger has orders of one customer paid as long as their credit lasts.
func TestWithTheLedger(t *testing.T) {
	l := ledger.New()
	functiontest.Open(t, l, "PAYMENT_CREDIT=10")
	f := payment.New(l)
	if n := len(f.Needs); n != 1 {
		t.Errorf("the function opens %d resources", n)
	}
	h := functiontest.Given(t, f)
	for i, want := range []string{"paymentdebited", "paymentdeclined"} {
		id := fmt.Sprint("o", i)
		created, err := order.Place(id, "c", "r", "USD", []order.Item{{Code: "a", Name: "b", UnitPrice: 900, Quantity: 1}}, functiontest.Now)
		if err != nil {
			t.Fatal(err)
		}
		done := h.Of(id).When(created)
		if done.Err != nil || len(done.Appended) != 1 || done.Appended[0].Type != want {
			t.Fatalf("%s: %+v, %v", id, done.Appended, done.Err)
		}
		done.Again().ThenNothing()
	}
}
