package cancelorder

import (
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

func TestCancelUntilShipped(t *testing.T) {
	const subject = "orders.cancel"
	ill := Request{OrderID: "o1", Reason: "ill"}
	var past []function.DomainEvent
	for _, e := range []function.DomainEvent{order.Created{ID: "o1"}, order.PaymentDebited{}, order.WasApproved{}} {
		past = append(past, e)
		done := functiontest.Given(t, New(), past...).WhenAsked(subject, ill).Then(order.WasCancelled{Reason: "ill"})
		done.Again().ThenNothing()
		done.And(order.PaymentVoided{}).WhenAsked(subject, ill).ThenNothing()
		done.WhenAsked(subject, Request{OrderID: "o1", Reason: "late"}).ThenRefused(function.CodeConflict, "order_id")
	}
	for _, e := range []function.DomainEvent{order.WasShipped{Tracking: "n1"}, order.WasDelivered{}} {
		past = append(past, e)
		functiontest.Given(t, New(), past...).WhenAsked(subject, ill).ThenRefused(function.CodeConflict, "order_id")
	}
	functiontest.Given(t, New(), order.Created{ID: "o1"}, order.PaymentDeclined{Reason: "ill"}).WhenAsked(subject, ill).ThenRefused(function.CodeConflict, "order_id")
	functiontest.Given(t, New()).WhenAsked(subject, ill).ThenRefused(function.CodeNotFound, "order_id")
	functiontest.Given(t, New(), past...).WhenAsked(subject, Request{OrderID: "o1"}).ThenRefused(function.CodeInvalid, "reason")
	functiontest.Given(t, New(), past...).WhenAsked(subject, `{"order_id":"o1","reason":"a\u0007"}`).ThenRefused(function.CodeInvalid, "reason")
}
