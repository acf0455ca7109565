// Package cancelorder takes orders back, until they are shipped.
//
//	orders.cancel → cancelorder → cancelled
package cancelorder

import (
	"context"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function.
func New() function.Function {
	return function.Function{
		Name:        "cancelorder",
		Description: "Cancels an order that is not shipped yet.",
		Doors:       []function.Door{function.Command("orders.cancel", cancel)},
	}
}

// Request cancels an order.
type Request struct {
	OrderID string `json:"order_id" required:"true"`
	Reason  string `json:"reason" required:"true"`
}

// AggregateID says what the request is about.
func (r Request) AggregateID() string { return r.OrderID }

// Check refuses what can't be right.
func (r *Request) Check() error { return order.CheckText("reason", r.Reason) }

func cancel(_ context.Context, o order.Order, r Request) ([]order.Event, error) {
	switch {
	case o.Status == order.Cancelled && o.Reason == r.Reason:
		return nil, nil // the same request again
	case !o.Allows(order.WasCancelled{}):
		return nil, function.Conflict("order_id", "order %q is %s, and can't be cancelled any more", o.ID, o.Status)
	}
	return []order.Event{order.WasCancelled{Reason: r.Reason}}, nil
}
