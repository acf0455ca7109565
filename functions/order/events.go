package order

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Event is something that happened to an order.
type Event interface {
	// EventType names it in the store and in subjects: ORDERS.created.
	EventType() string
}

// The events of an order. Those that begin a wait say when they were decided;
// of schema 1 they don't, and an order waits from the event before.
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
	// PaymentDebited: the customer paid. Reference is what the provider knows
	// the debit by.
	PaymentDebited struct {
		Amount    Money     `json:"amount"`
		Currency  string    `json:"currency"`
		Reference string    `json:"reference,omitempty"`
		At        time.Time `json:"at,omitzero"`
	}
	// PaymentDeclined: the customer can't or may not pay.
	PaymentDeclined struct {
		Reason string `json:"reason"`
	}
	// WasApproved: it may be prepared and shipped. By is the person who said so.
	WasApproved struct {
		Reason string    `json:"reason,omitempty"`
		By     string    `json:"by,omitempty"`
		At     time.Time `json:"at,omitzero"`
	}
	// WasRejected: it may not, and why. By is the person who said so.
	WasRejected struct {
		Reason string `json:"reason"`
		By     string `json:"by,omitempty"`
	}
	// WasShipped: the carrier has it, under this number.
	WasShipped struct {
		Tracking string `json:"tracking_number"`
	}
	// ShippingFailed: the carrier does not take it.
	ShippingFailed struct {
		Reason string `json:"reason"`
	}
	// WasDelivered: the customer has it.
	WasDelivered struct{}
	// WasCancelled: the customer does not want it any more.
	WasCancelled struct {
		Reason string `json:"reason"`
	}
	// Overdue: payment or shipping did not answer in time.
	Overdue struct {
		Reason string `json:"reason"`
	}
	// PaymentVoided: of an order that ended without being shipped no money is
	// kept, and none will be taken.
	PaymentVoided struct{}
	// Unknown is an event of a release newer than this one. It only counts.
	Unknown struct{ Type string }
)

// EventType implements Event.
func (Created) EventType() string         { return "created" }
func (PaymentDebited) EventType() string  { return "paymentdebited" }
func (PaymentDeclined) EventType() string { return "paymentdeclined" }
func (WasApproved) EventType() string     { return "approved" }
func (WasRejected) EventType() string     { return "rejected" }
func (WasShipped) EventType() string      { return "shipped" }
func (ShippingFailed) EventType() string  { return "shippingfailed" }
func (WasDelivered) EventType() string    { return "delivered" }
func (WasCancelled) EventType() string    { return "cancelled" }
func (Overdue) EventType() string         { return "overdue" }
func (PaymentVoided) EventType() string   { return "paymentvoided" }
func (u Unknown) EventType() string       { return u.Type }

// EventSchema is the number of the event's shape, where that is not 1: schema 2
// has more fields than 1, all of which may be left out.
func (PaymentDebited) EventSchema() int { return 2 }
func (WasApproved) EventSchema() int    { return 2 }
func (WasRejected) EventSchema() int    { return 2 }

// decoders are all types of events, as they are stored. One decoder reads all
// schemas of its type.
var decoders = map[string]func(data []byte) (Event, error){
	Created{}.EventType():         decode[Created],
	PaymentDebited{}.EventType():  decode[PaymentDebited],
	PaymentDeclined{}.EventType(): decode[PaymentDeclined],
	WasApproved{}.EventType():     decode[WasApproved],
	WasRejected{}.EventType():     decode[WasRejected],
	WasShipped{}.EventType():      decode[WasShipped],
	ShippingFailed{}.EventType():  decode[ShippingFailed],
	WasDelivered{}.EventType():    decode[WasDelivered],
	WasCancelled{}.EventType():    decode[WasCancelled],
	Overdue{}.EventType():         decode[Overdue],
	PaymentVoided{}.EventType():   decode[PaymentVoided],
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
