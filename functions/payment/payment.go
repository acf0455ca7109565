// Package payment has the customer pay.
//
//	created → payment → paymentdebited | paymentdeclined
package payment

import (
	"context"
	"errors"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function; p is who moves the money.
func New(p Provider) function.Function {
	return function.Function{
		Name:        "payment",
		Description: "Debits the customer of a new order.",
		Doors:       []function.Door{function.On(debit(p))},
		Needs:       function.Needs(p),
	}
}

// debit asks for the money under the order's id, so that asking again, after a
// crash before the append, moves nothing twice.
func debit(p Provider) func(context.Context, order.Order, order.Created) ([]order.Event, error) {
	return func(ctx context.Context, o order.Order, _ order.Created) ([]order.Event, error) {
		if !o.Allows(order.PaymentDebited{}) {
			return nil, nil
		}
		reference, err := p.Debit(ctx, o.ID, o.Charge())
		if declined, ok := errors.AsType[*order.DeclinedError](err); ok {
			return []order.Event{order.PaymentDeclined{Reason: declined.Error()}}, nil
		} else if err != nil {
			return nil, err
		}
		return []order.Event{order.PaymentDebited{Amount: o.Amount, Currency: o.Currency, Reference: reference, At: function.Now(ctx)}}, nil
	}
}
