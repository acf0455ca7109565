package saga

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

// providers note what they are asked, and may break.
type providers struct {
	asked []string
	err   error
}

func (p *providers) Void(_ context.Context, key string, c order.Charge) error {
	p.asked = append(p.asked, "void "+key+" of "+c.Customer+" "+c.Amount.String()+c.Currency)
	return p.err
}

func (p *providers) Recall(_ context.Context, key string) error {
	p.asked = append(p.asked, "recall "+key)
	return p.err
}

// start is the function, with timeouts of an hour, two and three.
func start(t *testing.T, p *providers) function.Function {
	t.Helper()
	f := New(p, p, nil)
	if len(f.Needs) != 1 {
		t.Fatalf("the function opens %d resources", len(f.Needs))
	}
	functiontest.Open(t, f.Needs[0], "PAYMENT_TIMEOUT=1h", "REVIEW_TIMEOUT=2h", "SHIPPING_TIMEOUT=3h")
	return f
}

func TestUndo(t *testing.T) {
	const void, recall = "void o1 of c 5USD", "recall o1"
	created := order.Created{ID: "o1", Customer: "c", Amount: 500, Currency: "USD", CreatedOn: functiontest.Now}
	debited, approved := order.PaymentDebited{At: functiontest.Now}, order.WasApproved{At: functiontest.Now}
	for name, c := range map[string]struct {
		past  []function.DomainEvent
		end   function.DomainEvent
		asked []string
	}{
		"declined":               {nil, order.PaymentDeclined{Reason: "no"}, []string{void}},
		"cancelled unpaid":       {nil, order.WasCancelled{Reason: "ill"}, []string{void}},
		"cancelled paid":         {[]function.DomainEvent{debited}, order.WasCancelled{Reason: "ill"}, []string{void}},
		"cancelled approved":     {[]function.DomainEvent{debited, approved}, order.WasCancelled{Reason: "ill"}, []string{recall, void}},
		"rejected":               {[]function.DomainEvent{debited}, order.WasRejected{Reason: "no"}, []string{void}},
		"not shipped":            {[]function.DomainEvent{debited, approved}, order.ShippingFailed{Reason: "no"}, []string{recall, void}},
		"not shipped in time":    {[]function.DomainEvent{debited, approved}, order.Overdue{Reason: "late"}, []string{recall, void}},
		"cancelled when shipped": {[]function.DomainEvent{debited, approved, order.WasShipped{}}, order.WasCancelled{Reason: "ill"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var p providers
			past := append([]function.DomainEvent{created}, c.past...)
			got := functiontest.Given(t, start(t, &p), past...).When(c.end)
			if c.asked == nil {
				got.ThenNothing()
			} else {
				got.Then(order.PaymentVoided{}).Again().ThenNothing()
			}
			if !slices.Equal(p.asked, c.asked) {
				t.Errorf("asked for %q, want %q", p.asked, c.asked)
			}
			broken := providers{err: errors.New("broken")}
			if again := functiontest.Given(t, start(t, &broken), past...).When(c.end); c.asked != nil {
				again.ThenFails(broken.err)
			}
		})
	}
}

// TestDoors: every end but the good one has a door, as the rules have it.
func TestDoors(t *testing.T) {
	var want, got []string
	for _, d := range start(t, &providers{}).Doors {
		if e, ok := d.(*function.Event); ok {
			got = append(got, e.Type)
		}
	}
	for _, e := range []order.Event{
		order.PaymentDebited{}, order.PaymentDeclined{}, order.WasApproved{}, order.WasRejected{}, order.WasShipped{}, order.ShippingFailed{},
		order.WasDelivered{}, order.WasCancelled{}, order.Overdue{}, order.PaymentVoided{},
	} {
		for _, s := range order.Statuses {
			if o := (order.Order{Status: s}).Evolve(e); o.Status != s && (o.Status == order.Rejected || o.Status == order.Cancelled) && !slices.Contains(want, e.EventType()) {
				want = append(want, e.EventType())
			}
		}
	}
	if !slices.Equal(want, got) {
		t.Errorf("doors %v, want %v", got, want)
	}
}

func TestTimeouts(t *testing.T) {
	created := order.Created{ID: "o1", Customer: "c", Amount: 500, Currency: "USD", CreatedOn: functiontest.Now}
	after := functiontest.Now.Add
	debited, approved := order.PaymentDebited{At: after(time.Minute)}, order.WasApproved{At: after(2 * time.Minute)}
	for name, c := range map[string]struct {
		past []function.DomainEvent
		due  time.Time
		ends function.DomainEvent
	}{
		"not paid":    {[]function.DomainEvent{created}, after(time.Hour), order.Overdue{Reason: "it was not paid within 1h0m0s"}},
		"not decided": {[]function.DomainEvent{created, debited}, after(2*time.Hour + time.Minute), order.WasRejected{Reason: "nobody decided on it within 2h0m0s"}},
		"not shipped": {[]function.DomainEvent{created, debited, approved}, after(3*time.Hour + 2*time.Minute), order.Overdue{Reason: "it was not shipped within 3h0m0s"}},
		"shipped":     {[]function.DomainEvent{created, debited, approved, order.WasShipped{}}, time.Time{}, nil},
		"cancelled":   {[]function.DomainEvent{created, order.WasCancelled{Reason: "ill"}}, time.Time{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			given := func() *functiontest.History {
				return functiontest.Given(t, start(t, &providers{}), c.past...).ThenWaits(c.due)
			}
			if c.ends == nil {
				given().WhenTimeIs(after(1000 * time.Hour)).ThenNothing()
				return
			}
			given().WhenTimeIs(c.due.Add(-1)).ThenNothing()
			given().WhenTimeIs(c.due).Then(c.ends).Again().ThenNothing()
		})
	}
}
