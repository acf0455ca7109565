package review

import (
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

func TestApprovesWhatIsPaid(t *testing.T) {
	paid := order.PaymentDebited{Amount: 500, Currency: "USD"}
	functiontest.Given(t, New(), order.Created{}).When(paid).Then(order.WasApproved{}).Again().ThenNothing()
	for name, meanwhile := range map[string]function.DomainEvent{
		"approved": order.WasApproved{}, "rejected": order.WasRejected{Reason: "no"},
	} {
		t.Run(name, func(t *testing.T) {
			functiontest.Given(t, New(), order.Created{}).Meanwhile(meanwhile).When(paid).ThenNothing()
		})
	}
	functiontest.Given(t, New(), order.Created{}, order.WasRejected{Reason: "no"}).When(paid).ThenNothing()
}
