package order

import (
	"fmt"
	"time"
)

// Status is how far an order has come.
type Status string

// The states of an order. Delivered, Rejected and Cancelled are ends; the
// latter two have a reason.
const (
	Pending   Status = "Pending"
	Paid      Status = "Paid"
	Approved  Status = "Approved"
	Shipped   Status = "Shipped"
	Delivered Status = "Delivered"
	Rejected  Status = "Rejected"
	Cancelled Status = "Cancelled"
)

// Statuses are all of them, in the order that an order meets them.
var Statuses = []Status{Pending, Paid, Approved, Shipped, Delivered, Rejected, Cancelled}

// life is every transition that there is: what can happen to an order in a
// state, and the state after it. An order that ended without being shipped
// stays where it is when its payment is voided, which happens once.
var life = map[Status]map[string]Status{
	"":        {"created": Pending},
	Pending:   {"paymentdebited": Paid, "paymentdeclined": Rejected, "cancelled": Cancelled, "overdue": Cancelled},
	Paid:      {"approved": Approved, "rejected": Rejected, "cancelled": Cancelled},
	Approved:  {"shipped": Shipped, "shippingfailed": Cancelled, "cancelled": Cancelled, "overdue": Cancelled},
	Shipped:   {"delivered": Delivered},
	Delivered: {},
	Rejected:  {"paymentvoided": Rejected},
	Cancelled: {"paymentvoided": Cancelled},
}

// Done tells whether nothing more can happen to the order: it was delivered, or
// what was done for it is undone.
func (o Order) Done() bool {
	for _, to := range life[o.Status] {
		if to != o.Status || !o.Voided {
			return false
		}
	}
	return true
}

func (o Order) next(e Event) (to Status, ok bool) {
	to, ok = life[o.Status][e.EventType()]
	return to, ok && (!o.Voided || to != o.Status)
}

// Allows tells whether the event can happen to the order in its present state.
func (o Order) Allows(e Event) bool {
	_, ok := o.next(e)
	return ok
}

// CarrierAsked tells whether the carrier was asked for the order's goods, or may be
// at this moment.
func (o Order) CarrierAsked() bool { return !o.ApprovedOn.IsZero() }

// Timeouts are how long an order waits for each step, from the one before; 0 is
// without an end.
type Timeouts struct {
	Payment, Review, Shipping time.Duration
}

// wait is for a step that may not come: since when, how long at the most, and what
// happens then, for a reason.
type wait struct {
	since   func(Order) time.Time
	timeout func(Timeouts) time.Duration
	missing string // the step, in the reason
	end     func(reason string) Event
}

// waits are all states in which an order waits.
var waits = map[Status]wait{
	Pending: {
		since:   func(o Order) time.Time { return o.CreatedOn },
		timeout: func(t Timeouts) time.Duration { return t.Payment },
		missing: "it was not paid",
		end:     func(reason string) Event { return Overdue{Reason: reason} },
	},
	Paid: {
		since:   func(o Order) time.Time { return o.PaidOn },
		timeout: func(t Timeouts) time.Duration { return t.Review },
		missing: "nobody decided on it",
		end:     func(reason string) Event { return WasRejected{Reason: reason} },
	},
	Approved: {
		since:   func(o Order) time.Time { return o.ApprovedOn },
		timeout: func(t Timeouts) time.Duration { return t.Shipping },
		missing: "it was not shipped",
		end:     func(reason string) Event { return Overdue{Reason: reason} },
	},
}

// Waits tells whether an order in this state waits for a step that may not come.
func (s Status) Waits() bool {
	_, ok := waits[s]
	return ok
}

// WaitsUntil is when the order has waited long enough for its next step; the
// zero time when it waits for none, or without an end.
func (o Order) WaitsUntil(t Timeouts) time.Time {
	w, ok := waits[o.Status]
	if !ok || w.timeout(t) == 0 {
		return time.Time{}
	}
	return w.since(o).Add(w.timeout(t))
}

// TimedOut is what happens to an order that has waited long enough at this
// time; nil while it may wait.
func (o Order) TimedOut(t Timeouts, now time.Time) Event {
	until := o.WaitsUntil(t)
	if until.IsZero() || now.Before(until) {
		return nil
	}
	w := waits[o.Status]
	return w.end(fmt.Sprintf("%s within %v", w.missing, w.timeout(t)))
}
