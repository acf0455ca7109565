// Package placeorder takes orders in.
//
//	orders.place → placeorder → created
package placeorder

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function.
func New() function.Function {
	return function.Function{
		Name:        "placeorder",
		Description: "Places an order: checks it, adds it up, stores it.",
		Doors:       []function.Door{function.Create("orders.place", place)},
	}
}

// Request places an order. The amount is never the caller's to say.
type Request struct {
	// OrderID is the caller's idempotency key; made here if left out.
	OrderID    string       `json:"order_id"`
	Customer   string       `json:"customer_id"`
	Restaurant string       `json:"restaurant_id"`
	Currency   string       `json:"currency"`
	Items      []order.Item `json:"order_items"`
}

// AggregateID is the order's.
func (r Request) AggregateID() string { return r.OrderID }

// Check refuses what no order can be made of.
func (r *Request) Check() error {
	if r.OrderID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		r.OrderID = id.String()
	}
	_, err := order.Place(r.OrderID, r.Customer, r.Restaurant, r.Currency, r.Items, function.Now(context.Background()))
	var field *order.FieldError
	if errors.As(err, &field) {
		return function.Invalid(field.Field, "%s", field.Reason)
	}
	return err
}

// place makes the order. One that is there already was placed by the same
// request before, or by another that took its id.
func place(ctx context.Context, placed order.Order, r Request) ([]order.Event, error) {
	created, err := order.Place(r.OrderID, r.Customer, r.Restaurant, r.Currency, r.Items, function.Now(ctx))
	switch {
	case err != nil:
		return nil, err
	case placed.SameAs(created):
		return nil, nil
	case placed.Exists():
		return nil, function.Conflict("order_id", "order %q was placed before with other content", r.OrderID)
	}
	return []order.Event{created}, nil
}
