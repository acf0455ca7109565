// Package order is the order itself: its events, what they make of it, and the
// rules it keeps. It knows nothing of how it is stored, sent or asked for.
//
//	created → paymentdebited → approved → shipped → delivered
//
// What else can happen, and what becomes of it, is the table in life.go.
package order

import (
	"cmp"
	"time"
)

// Stream is the log of all orders; Accounts that of what customers have and owe.
const (
	Stream   = "ORDERS"
	Accounts = "ACCOUNTS"
)

// Order is the state that an order's events fold to. The zero value is an
// order that was not placed.
type Order struct {
	ID         string    `json:"order_id"`
	Customer   string    `json:"customer_id"`
	Restaurant string    `json:"restaurant_id"`
	Status     Status    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	CreatedOn  time.Time `json:"created_on"` // UTC, like all times
	Currency   string    `json:"currency"`
	Amount     Money     `json:"amount"`
	Items      []Item    `json:"order_items"`
	// PaidOn and ApprovedOn are when that was decided; zero if it was not.
	PaidOn     time.Time `json:"paid_on,omitzero"`
	ApprovedOn time.Time `json:"approved_on,omitzero"`
	// ReviewedBy is who decided, if that was a person.
	ReviewedBy string `json:"reviewed_by,omitempty"`
	Tracking   string `json:"tracking_number,omitempty"`
	// Voided says that no money is kept for an order that was not shipped.
	Voided bool `json:"payment_voided,omitzero"`
	// Version counts the order's events.
	Version uint64 `json:"version"`
}

// Item is one line of an order.
type Item struct {
	Code      string `json:"code"`
	Name      string `json:"name"`
	UnitPrice Money  `json:"unit_price"`
	Quantity  int64  `json:"quantity"`
}

// Charge is what is to be paid, and by whom.
type Charge struct {
	Customer string
	Amount   Money
	Currency string
}

// Charge is what the order costs.
func (o Order) Charge() Charge { return Charge{o.Customer, o.Amount, o.Currency} }

// Stream is where orders are kept.
func (Order) Stream() string { return Stream }

// Exists tells whether the order was placed.
func (o Order) Exists() bool { return o.Version > 0 }

// Evolve is the order after the event. Every event counts a version; one that
// does not go with the state, since it came too late or is unknown, changes
// nothing else. So no history is without a fold, and an end stays an end.
func (o Order) Evolve(e Event) Order {
	o.Version++
	to, ok := o.next(e)
	if !ok {
		return o
	}
	o.Status = to
	switch e := e.(type) {
	case Created:
		o.ID, o.Customer, o.Restaurant = e.ID, e.Customer, e.Restaurant
		o.CreatedOn, o.Currency, o.Amount, o.Items = e.CreatedOn, e.Currency, e.Amount, e.Items
	case PaymentDebited:
		o.PaidOn = cmp.Or(e.At, o.CreatedOn)
	case PaymentDeclined:
		o.Reason = e.Reason
	case WasApproved:
		o.ApprovedOn, o.ReviewedBy = cmp.Or(e.At, o.PaidOn), e.By
	case WasRejected:
		o.Reason, o.ReviewedBy = e.Reason, e.By
	case WasShipped:
		o.Tracking = e.Tracking
	case ShippingFailed:
		o.Reason = e.Reason
	case WasCancelled:
		o.Reason = e.Reason
	case Overdue:
		o.Reason = e.Reason
	case PaymentVoided:
		o.Voided = true
	}
	return o
}

// Related are what else an order's flow touches, for waybill trace: ids by stream.
func (o Order) Related() map[string][]string {
	if o.Customer == "" {
		return nil
	}
	return map[string][]string{Accounts: {o.Customer}}
}
