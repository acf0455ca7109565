// Package placeorder takes orders in.
//
//	orders.place → placeorder → created
package placeorder

import (
	"context"
	"fmt"

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

// place makes the order. One that is there already was placed by the same
// request before, or by another that took its id.
func place(ctx context.Context, placed order.Order, r Request) ([]order.Event, error) {
	created, err := r.order(ctx)
	switch {
	case err != nil:
		return nil, err
	case placed.SameAs(created):
		return nil, nil
	case placed.Exists():
		return nil, function.Conflict("order_id", "order %q was placed before with other content", created.ID)
	}
	return []order.Event{created}, nil
}

// Request places an order. The amount is never the caller's to say. What has
// no default is a pointer where its zero could be meant.
type Request struct {
	// OrderID is the caller's idempotency key; made here if left out.
	OrderID    *string `json:"order_id"`
	Customer   string  `json:"customer_id" required:"true"`
	Restaurant string  `json:"restaurant_id" required:"true"`
	// Currency is a code of ISO 4217; order.DefaultCurrency if left out.
	Currency string `json:"currency"`
	Items    []Item `json:"order_items" required:"true"`
}

// Item is a line of a request.
type Item struct {
	Code      string       `json:"code" required:"true"`
	Name      string       `json:"name" required:"true"`
	UnitPrice *order.Money `json:"unit_price" required:"true"`
	Quantity  *int64       `json:"quantity" required:"true"`
}

// AggregateID is the order's.
func (r Request) AggregateID() string { return *r.OrderID }

// Check gives the order its id, and refuses what no order can be made of.
func (r *Request) Check() error {
	if r.OrderID == nil {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make an order id: %w", err)
		}
		r.OrderID = new(id.String())
	}
	_, err := r.order(context.Background())
	return err
}

// order is the order as it would be placed now.
func (r Request) order(ctx context.Context) (order.Created, error) {
	items := make([]order.Item, len(r.Items))
	for i, item := range r.Items {
		switch {
		case item.UnitPrice == nil:
			return order.Created{}, function.Invalid(fmt.Sprintf("order_items[%d].unit_price", i), "is missing")
		case item.Quantity == nil:
			return order.Created{}, function.Invalid(fmt.Sprintf("order_items[%d].quantity", i), "is missing")
		}
		items[i] = order.Item{Code: item.Code, Name: item.Name, UnitPrice: *item.UnitPrice, Quantity: *item.Quantity}
	}
	return order.Place(*r.OrderID, r.Customer, r.Restaurant, r.Currency, items, function.Now(ctx))
}
