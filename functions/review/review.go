// Package review decides whether a paid order may be shipped.
//
//	paymentdebited → review → approved
package review

import (
	"context"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function.
func New() function.Function {
	return function.Function{
		Name:        "review",
		Description: "Approves what is paid.",
		Doors:       []function.Door{function.On(approve)},
	}
}

func approve(_ context.Context, o order.Order, _ order.PaymentDebited) ([]order.Event, error) {
	if o.Status != order.Paid {
		return nil, nil
	}
	return []order.Event{order.WasApproved{}}, nil
}
