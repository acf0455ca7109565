// Package order is the order itself: its events, what they make of it, and the
// rules it keeps. It knows nothing of how it is stored, sent or asked for.
//
//	created → paymentdebited → approved
//	        ↘ paymentdeclined ↘ rejected
package order

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Stream is the log of all orders.
const Stream = "ORDERS"

// Status is how far an order has come.
type Status string

// The states of an order. Rejected is an end, and has a reason.
const (
	Pending  Status = "Pending"
	Paid     Status = "Paid"
	Approved Status = "Approved"
	Rejected Status = "Rejected"
)

// Statuses are all of them, in the order that an order meets them.
var Statuses = []Status{Pending, Paid, Approved, Rejected}

// Order is the state that an order's events fold to. The zero value is an
// order that was not placed.
type Order struct {
	ID         string    `json:"order_id"`
	Customer   string    `json:"customer_id"`
	Restaurant string    `json:"restaurant_id"`
	Status     Status    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	CreatedOn  time.Time `json:"created_on"` // UTC
	Currency   string    `json:"currency"`
	Amount     Money     `json:"amount"`
	Items      []Item    `json:"order_items"`
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

// Event is something that happened to an order.
type Event interface {
	// EventType names it in the store and in subjects: ORDERS.created.
	EventType() string
}

// The events of an order.
type (
	// Created: a customer placed it. It carries the whole order.
	Created struct {
		ID         string    `json:"order_id"`
		Customer   string    `json:"customer_id"`
		Restaurant string    `json:"restaurant_id"`
		CreatedOn  time.Time `json:"created_on"`
		Currency   string    `json:"currency"`
		Amount     Money     `json:"amount"`
		Items      []Item    `json:"order_items"`
	}
	// PaymentDebited: the customer paid.
	PaymentDebited struct {
		Amount   Money  `json:"amount"`
		Currency string `json:"currency"`
	}
	// PaymentDeclined: the customer can't or may not pay.
	PaymentDeclined struct {
		Reason string `json:"reason"`
	}
	// WasApproved: it may be prepared and shipped.
	WasApproved struct{}
	// WasRejected: it may not, and why.
	WasRejected struct {
		Reason string `json:"reason"`
	}
	// Unknown is an event of a release newer than this one. It only counts.
	Unknown struct{ Type string }
)

// EventType implements Event.
func (Created) EventType() string         { return "created" }
func (PaymentDebited) EventType() string  { return "paymentdebited" }
func (PaymentDeclined) EventType() string { return "paymentdeclined" }
func (WasApproved) EventType() string     { return "approved" }
func (WasRejected) EventType() string     { return "rejected" }
func (u Unknown) EventType() string       { return u.Type }

// Stream is where orders are kept.
func (Order) Stream() string { return Stream }

// Exists tells whether the order was placed.
func (o Order) Exists() bool { return o.Version > 0 }

// decoders are all types of events, as they are stored. Schema 1 is the only
// one so far.
var decoders = map[string]func(data []byte) (Event, error){
	Created{}.EventType():         decode[Created],
	PaymentDebited{}.EventType():  decode[PaymentDebited],
	PaymentDeclined{}.EventType(): decode[PaymentDeclined],
	WasApproved{}.EventType():     decode[WasApproved],
	WasRejected{}.EventType():     decode[WasRejected],
}

// Types are the types of events that Decode knows, in no order.
func Types() []string { return slices.Collect(maps.Keys(decoders)) }

// Decode makes an event of its stored form.
func (Order) Decode(typ string, _ int, data []byte) (Event, error) {
	if decode, ok := decoders[typ]; ok {
		return decode(data)
	}
	return Unknown{typ}, nil
}

func decode[E Event](data []byte) (Event, error) {
	var e E
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) { // null would pass as an empty event
		return nil, fmt.Errorf("decode %s: not a JSON object", e.EventType())
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.EventType(), err)
	}
	return e, nil
}

// Evolve is the order after the event. Every event counts a version; one that
// does not go with the state, since it came too late or is unknown, changes
// nothing else. So no history is without a fold, and an end stays an end.
func (o Order) Evolve(e Event) Order {
	o.Version++
	switch e := e.(type) {
	case Created:
		if o.Status == "" {
			o.ID, o.Customer, o.Restaurant = e.ID, e.Customer, e.Restaurant
			o.CreatedOn, o.Currency, o.Amount, o.Items = e.CreatedOn, e.Currency, e.Amount, e.Items
			o.Status = Pending
		}
	case PaymentDebited:
		o.move(Paid, "", Pending)
	case PaymentDeclined:
		o.move(Rejected, e.Reason, Pending)
	case WasApproved:
		o.move(Approved, "", Paid)
	case WasRejected:
		o.move(Rejected, e.Reason, Pending, Paid)
	}
	return o
}

// move changes the status if it is one of those that to can follow.
func (o *Order) move(to Status, reason string, from ...Status) {
	if slices.Contains(from, o.Status) {
		o.Status, o.Reason = to, reason
	}
}
