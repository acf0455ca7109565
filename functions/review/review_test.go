package review

import (
	"strings"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

var (
	placed   = order.Created{ID: "o1", Amount: 500, CreatedOn: functiontest.Now}
	paid     = order.PaymentDebited{Amount: 500, Currency: "USD", At: functiontest.Now}
	approved = order.WasApproved{At: functiontest.Now}
)

// above is the function with a limit.
func above(limit order.Limit) function.Function {
	r := NewRule()
	r.Settings.Limit = limit
	return New(r)
}

func TestApprovesWhatIsPaid(t *testing.T) {
	for _, f := range []function.Function{New(NewRule()), above(order.AtMost(500))} {
		functiontest.Given(t, f, placed).When(paid).Then(approved).Again().ThenNothing()
		for _, meanwhile := range []function.DomainEvent{approved, order.WasRejected{Reason: "no"}, order.WasCancelled{Reason: "no"}} {
			functiontest.Given(t, f, placed).Meanwhile(meanwhile).When(paid).ThenNothing()
		}
		functiontest.Given(t, f, placed, order.PaymentDeclined{Reason: "no"}).When(paid).ThenNothing()
	}
}

func TestAPersonDecidesAboveTheLimit(t *testing.T) {
	const subject = "orders.review"
	ask := func(decision, reason, by string) Request {
		return Request{OrderID: "o1", Decision: decision, Reason: reason, By: by}
	}
	waits := functiontest.Given(t, above(order.AtMost(499)), placed).Of("o1").When(paid).ThenNothing()
	waits.WhenAsked(subject, Request{OrderID: "o1", Decision: "maybe", By: "ann"}).ThenRefused(function.CodeInvalid, "decision")
	waits.WhenAsked(subject, ask("reject", "", "ann")).ThenRefused(function.CodeInvalid, "reason")
	waits.WhenAsked(subject, ask("approve", strings.Repeat("x", 201), "ann")).ThenRefused(function.CodeInvalid, "reason")
	waits.WhenAsked(subject, ask("approve", "", "")).ThenRefused(function.CodeInvalid, "by")
	yes := waits.WhenAsked(subject, ask("approve", "", "ann")).Then(order.WasApproved{By: "ann", At: functiontest.Now})
	yes.Again().ThenNothing()
	yes.WhenAsked(subject, ask("approve", "", "bob")).ThenRefused(function.CodeConflict, "order_id")
	yes.WhenAsked(subject, ask("reject", "no", "ann")).ThenRefused(function.CodeConflict, "order_id")
	no := functiontest.Given(t, above(order.AtMost(0)), placed, paid).WhenAsked(subject, ask("reject", "never seen", "ann")).Then(order.WasRejected{Reason: "never seen", By: "ann"})
	no.Again().ThenNothing()
	no.WhenAsked(subject, ask("approve", "", "ann")).ThenRefused(function.CodeConflict, "order_id")
	functiontest.Given(t, above(order.AtMost(0)), placed).WhenAsked(subject, ask("approve", "", "ann")).ThenRefused(function.CodeConflict, "order_id")
	functiontest.Given(t, above(order.AtMost(0))).WhenAsked(subject, ask("approve", "", "ann")).ThenRefused(function.CodeNotFound, "order_id")
}

func TestSetting(t *testing.T) {
	for value, want := range map[string]string{"": "none", "none": "none", "0": "0", "12.5": "12.5", "-1": "", "abc": ""} {
		r := NewRule()
		err := config.Load(t.Context(), func(string) (string, bool) { return value, value != "" }, r.Config())
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "REVIEW_LIMIT") {
				t.Errorf("REVIEW_LIMIT=%q: %v", value, err)
			}
		} else if err != nil || r.Settings.Limit.String() != want {
			t.Errorf("REVIEW_LIMIT=%q: %v, %v", value, r.Settings.Limit, err)
		}
	}
}
