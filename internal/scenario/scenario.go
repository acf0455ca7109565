// Package scenario is what is ordered under load, and what is to become of it:
// for bench and verify.
package scenario

import (
	"fmt"

	"github.com/waybill-go/waybill/functions/order"
)

// Way is what is to become of an order. What really does may be another thing,
// as when it is cancelled too late.
type Way string

// The ways of an order.
const (
	Ship    Way = "ship"
	Decline Way = "decline" // it costs more than anyone may owe
	Reject  Way = "reject"  // it is above the limit, and a person says no
	Cancel  Way = "cancel"  // its customer does not want it any more, right away
	Fail    Way = "fail"    // the carrier does not go to its restaurant
)

// What the functions must be set to, so that each way can be gone.
const (
	Credit      = 1_000_000
	ReviewLimit = 1_000
	NobodyGoes  = "moon" // a restaurant that the carrier does not take orders of
)

// Setting is the setting without which the way can't be gone; empty if it needs
// none.
func (w Way) Setting() string {
	switch w {
	case Decline:
		return fmt.Sprintf("PAYMENT_CREDIT=%d", Credit)
	case Reject:
		return fmt.Sprintf("REVIEW_LIMIT=%d", ReviewLimit)
	case Fail:
		return "SHIPPING_FAIL_FOR=" + NobodyGoes
	default:
		return ""
	}
}

// Settings are all of them.
func Settings() []string { return []string{Decline.Setting(), Reject.Setting(), Fail.Setting()} }

// End is the type of the event that ends an order which goes this way.
func (w Way) End() string {
	switch w {
	case Decline:
		return order.PaymentDeclined{}.EventType()
	case Reject:
		return order.WasRejected{}.EventType()
	case Cancel:
		return order.WasCancelled{}.EventType()
	case Fail:
		return order.ShippingFailed{}.EventType()
	default:
		return order.WasShipped{}.EventType()
	}
}

// Order is an order to place.
type Order struct {
	ID, Customer string
	Restaurant   string
	Price        order.Money // of one of its things
	Quantity     int64
}

// New is an order that goes this way; the price is that of a small thing, and at
// most 200.
func (w Way) New(id, customer string, price order.Money) Order {
	o := Order{ID: id, Customer: customer, Restaurant: "cgh", Price: price, Quantity: 2}
	switch w {
	case Decline:
		o.Price, o.Quantity = order.MaxPrice, order.MaxQuantity
	case Reject:
		o.Price += ReviewLimit * 100
	case Fail:
		o.Restaurant = NobodyGoes
	}
	return o
}

// Amount is what the order costs.
func (o Order) Amount() order.Money { return o.Price * order.Money(o.Quantity) }

// Fields are those of the order's JSON, without its id.
func (o Order) Fields() string {
	return fmt.Sprintf(`"customer_id":%q,"restaurant_id":%q,"order_items":[{"code":"vm","name":"Veg Meals","unit_price":%v,"quantity":%d}]`,
		o.Customer, o.Restaurant, o.Price, o.Quantity)
}

// Share is how many of a hundred orders go a way.
type Share struct {
	Way     Way
	Percent int
}

// Mix deals ways to orders. Of any hundred orders in a row each way has exactly
// its share, spread evenly, so that a short run has all of them.
type Mix [100]Way

// NewMix is made of some shares; all other orders are shipped.
func NewMix(shares ...Share) Mix {
	var m Mix
	for _, s := range shares {
		for i := range s.Percent {
			at := i * len(m) / s.Percent
			for m[at] != "" {
				at = (at + 1) % len(m)
			}
			m[at] = s.Way
		}
	}
	for i := range m {
		if m[i] == "" {
			m[i] = Ship
		}
	}
	return m
}

// Mixed are the shares of the scenario of that name.
func Mixed() []Share { return []Share{{Decline, 5}, {Reject, 5}, {Cancel, 5}, {Fail, 2}} }

// Way is the way of order n; n is not negative.
func (m *Mix) Way(n int64) Way { return m[n%int64(len(m))] }
