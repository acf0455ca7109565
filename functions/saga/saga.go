// Package saga ends an order that waited too long, and undoes what was done for
// one that ended without being shipped.
//
//	a timeout → saga → overdue | rejected
//	paymentdeclined | rejected | shippingfailed | cancelled | overdue → saga → paymentvoided
package saga

import (
	"context"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// Payment gives money back: payment.Provider.
type Payment interface {
	Void(ctx context.Context, key string, c order.Charge) error
}

// Carrier brings goods back: shipping.Carrier.
type Carrier interface {
	Recall(ctx context.Context, key string) error
}

// New declares the function; p and c are those that payment and shipping use.
func New(p Payment, c Carrier, orders Orders) function.Function {
	t := &timeouts{}
	return function.Function{
		Name:        "saga",
		Description: "Ends orders that waited too long, and undoes what was done for those that were not shipped.",
		Doors: []function.Door{
			function.On(undo[order.PaymentDeclined](p, c)),
			function.On(undo[order.WasRejected](p, c)),
			function.On(undo[order.ShippingFailed](p, c)),
			function.On(undo[order.WasCancelled](p, c)),
			function.On(undo[order.Overdue](p, c)),
			function.Timer(deadlines{t, orders}),
		},
		Needs: function.Needs(p, c, t, orders),
	}
}

// undo asks whether or not a debit is recorded: one may be under way, and would
// go through after the order's end. The void closes its key. With goods that may
// be under way it is the same.
func undo[E order.Event](p Payment, c Carrier) func(context.Context, order.Order, E) ([]order.Event, error) {
	return func(ctx context.Context, o order.Order, _ E) ([]order.Event, error) {
		if !o.Allows(order.PaymentVoided{}) {
			return nil, nil
		}
		if o.CarrierAsked() {
			if err := c.Recall(ctx, o.ID); err != nil {
				return nil, err
			}
		}
		if err := p.Void(ctx, o.ID, o.Charge()); err != nil {
			return nil, err
		}
		return []order.Event{order.PaymentVoided{}}, nil
	}
}
