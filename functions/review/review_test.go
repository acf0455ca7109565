package review

import (
	"testing"

	"github.com/waybill-go/waybill/functions/order"
)

func TestApprovesWhatIsPaid(t *testing.T) {
	for status, want := range map[order.Status]int{order.Pending: 0, order.Paid: 1, order.Approved: 0, order.Rejected: 0} {
		got, err := approve(t.Context(), order.Order{Status: status, Version: 2}, order.PaymentDebited{})
		if err != nil || len(got) != want {
			t.Errorf("%s: %v, %v", status, got, err)
		}
	}
}
