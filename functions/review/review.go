// Package review decides whether a paid order may be shipped: by itself up to a
// limit, by a person above it.
//
//	paymentdebited → review → approved
//	orders.review  → review → approved | rejected
package review

import (
	"context"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// Rule says what a person has to look at.
type Rule struct {
	function.Configured[struct {
		Limit order.Limit `env:"REVIEW_LIMIT, default=none" help:"an order above it waits for a person's decision, orders.review"`
	}]
}

// NewRule makes the rule; its settings come from the environment.
func NewRule() *Rule { return &Rule{} }

// New declares the function.
func New(r *Rule) function.Function {
	return function.Function{
		Name:        "review",
		Description: "Approves what is paid, or leaves it to a person.",
		Doors:       []function.Door{function.On(approve(r)), function.Command("orders.review", review)},
		Needs:       function.Needs(r),
	}
}

func approve(r *Rule) func(context.Context, order.Order, order.PaymentDebited) ([]order.Event, error) {
	return func(ctx context.Context, o order.Order, _ order.PaymentDebited) ([]order.Event, error) {
		if !o.Allows(order.WasApproved{}) || r.Settings.Limit.Exceeded(o.Amount) {
			return nil, nil
		}
		return []order.Event{order.WasApproved{At: function.Now(ctx)}}, nil
	}
}

// Request is a person's decision.
type Request struct {
	OrderID  string `json:"order_id" required:"true"`
	Decision string `json:"decision" required:"true"` // approve or reject
	// Reason may be left out of an approval.
	Reason string `json:"reason"`
	By     string `json:"by" required:"true"`
}

// AggregateID says what the request is about.
func (r Request) AggregateID() string { return r.OrderID }

// Check refuses what can't be right.
func (r *Request) Check() error {
	if r.Decision != "approve" && r.Decision != "reject" {
		return function.Invalid("decision", "is %.40q; it is approve or reject", r.Decision)
	}
	if r.Decision == "reject" || r.Reason != "" {
		if err := order.CheckText("reason", r.Reason); err != nil {
			return err
		}
	}
	return order.CheckText("by", r.By)
}

func review(ctx context.Context, o order.Order, r Request) ([]order.Event, error) {
	var decided order.Event = order.WasApproved{Reason: r.Reason, By: r.By, At: function.Now(ctx)}
	if r.Decision == "reject" {
		decided = order.WasRejected{Reason: r.Reason, By: r.By}
	}
	switch {
	case o.Allows(decided):
		return []order.Event{decided}, nil
	case o.ReviewedBy == r.By && (o.Status == order.Rejected) == (r.Decision == "reject"):
		return nil, nil // the same request again
	case o.Status == order.Pending:
		return nil, function.Conflict("order_id", "order %q is Pending, and not paid yet", o.ID)
	}
	by := ""
	if o.ReviewedBy != "" {
		by = ", and " + o.ReviewedBy + " has decided on it"
	}
	return nil, function.Conflict("order_id", "order %q is %s already%s", o.ID, o.Status, by)
}
