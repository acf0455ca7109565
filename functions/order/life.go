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

// Ended tells whether an order stays in this state.
func (s Status) Ended() bool {
	for _, to := range life[s] {
		if to != s {
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

// MayBeShipped tells of an order that ended whether the carrier was asked for
// it, or may be at this moment.
func (o Order) MayBeShipped() bool { return !o.ApprovedOn.IsZero() }

// Waiting are the states in which an order waits for a step that may not come, in
// the order that it meets them.
var Waiting = []Status{Pending, Paid, Approved}

// Timeouts are how long an order waits for each step, from the one before.
type Timeouts struct {
	Payment, Review, Shipping time.Duration
}

// wait is what an order waits for in its present state, since when, and how
// long.
func (o Order) wait(t Timeouts) (since time.Time, most time.Duration) {
	switch o.Status {
	case Pending:
		return o.CreatedOn, t.Payment
	case Paid:
		return o.PaidOn, t.Review
	case Approved:
		return o.ApprovedOn, t.Shipping
	default:
		return time.Time{}, 0
	}
}

// WaitsUntil is when the order has waited long enough for its next step; the
// zero time when it waits for none, or without an end.
func (o Order) WaitsUntil(t Timeouts) time.Time {
	since, most := o.wait(t)
	if most == 0 {
		return time.Time{}
	}
	return since.Add(most)
}

// TimedOut is what happens to an order that has waited long enough at this
// time; nil while it may wait.
func (o Order) TimedOut(t Timeouts, now time.Time) Event {
	until := o.WaitsUntil(t)
	if until.IsZero() || now.Before(until) {
		return nil
	}
	_, most := o.wait(t)
	switch o.Status {
	case Pending:
		return WasOverdue{Reason: fmt.Sprintf("it was not paid within %v", most)}
	case Paid:
		return WasRejected{Reason: fmt.Sprintf("nobody decided on it within %v", most)}
	default:
		return WasOverdue{Reason: fmt.Sprintf("it was not shipped within %v", most)}
	}
}
