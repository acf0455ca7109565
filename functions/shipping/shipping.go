// Package shipping hands approved orders to a carrier, and takes note of
// delivery.
//
//	approved       → shipping → shipped | shippingfailed
//	orders.deliver → shipping → delivered
package shipping

import (
	"context"
	"errors"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function; c is who moves the goods.
func New(c Carrier) function.Function {
	return function.Function{
		Name:        "shipping",
		Description: "Ships what is approved, and takes note of delivery.",
		Doors:       []function.Door{function.On(ship(c)), function.Command("orders.deliver", deliver)},
		Needs:       function.Needs(c),
	}
}

// ship asks the carrier under the order's id, so that asking again, after a crash
// before the append, sends nothing twice.
func ship(c Carrier) func(context.Context, order.Order, order.WasApproved) ([]order.Event, error) {
	return func(ctx context.Context, o order.Order, _ order.WasApproved) ([]order.Event, error) {
		if !o.Allows(order.WasShipped{}) {
			return nil, nil
		}
		tracking, err := c.Ship(ctx, o.ID, o)
		if declined, ok := errors.AsType[*order.DeclinedError](err); ok {
			return []order.Event{order.ShippingFailed{Reason: declined.Error()}}, nil
		} else if err != nil {
			return nil, err
		}
		return []order.Event{order.WasShipped{Tracking: tracking}}, nil
	}
}

// DeliverRequest says that the customer has the goods.
type DeliverRequest struct {
	OrderID string `json:"order_id" required:"true"`
}

// AggregateID says what the request is about.
func (r DeliverRequest) AggregateID() string { return r.OrderID }

func deliver(_ context.Context, o order.Order, _ DeliverRequest) ([]order.Event, error) {
	switch {
	case o.Status == order.Delivered:
		return nil, nil // the same request again
	case !o.Allows(order.WasDelivered{}):
		return nil, function.Conflict("order_id", "order %q is %s; what is Shipped can be delivered", o.ID, o.Status)
	}
	return []order.Event{order.WasDelivered{}}, nil
}
