package payment

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

// provider answers what a test wants.
type provider struct {
	err  error
	keys []string
}

func (p *provider) Debit(_ context.Context, key string, c order.Charge) (reference string, err error) {
	p.keys = append(p.keys, key)
	if c != (order.Charge{Customer: "c", Amount: 500, Currency: "USD"}) {
		p.err = fmt.Errorf("charged %+v", c)
	}
	return "r1", p.err
}

func (p *provider) Void(context.Context, string, order.Charge) error { return nil }

// created is an order of five dollars that was placed.
func created(t *testing.T) order.Created {
	t.Helper()
	c, err := order.Place("o1", "c", "r", "USD", []order.Item{{Code: "a", Name: "b", UnitPrice: 500, Quantity: 1}}, functiontest.Now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDebit(t *testing.T) {
	broken := errors.New("broken")
	debited := order.PaymentDebited{Amount: 500, Currency: "USD", Reference: "r1", At: functiontest.Now}
	for name, c := range map[string]struct {
		provider  provider
		meanwhile []function.DomainEvent
		want      []function.DomainEvent
		err       error
	}{
		"pays":        {provider: provider{}, want: []function.DomainEvent{debited}},
		"is declined": {provider: provider{err: &order.DeclinedError{Reason: "no"}}, want: []function.DomainEvent{order.PaymentDeclined{Reason: "no"}}},
		"is declined without a word": {
			provider: provider{err: fmt.Errorf("debit: %w", &order.DeclinedError{})},
			want:     []function.DomainEvent{order.PaymentDeclined{Reason: "declined, and nobody said why"}},
		},
		"is unknown":  {provider: provider{err: broken}, err: broken},
		"comes late":  {provider: provider{}, meanwhile: []function.DomainEvent{debited}},
		"is too late": {provider: provider{}, meanwhile: []function.DomainEvent{order.WasCancelled{Reason: "ill"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := functiontest.Given(t, New(&c.provider)).Meanwhile(c.meanwhile...).When(created(t))
			if c.err != nil {
				got.ThenFails(c.err)
			} else {
				got.Then(c.want...).Again().ThenNothing()
			}
			for _, key := range c.provider.keys { // every time the same
				if key != "o1" {
					t.Errorf("asked under the key %q", key)
				}
			}
		})
	}
}

// TestPaidIsLeft has an order that was paid before the function sees it: nobody
// is asked for money.
func TestPaidIsLeft(t *testing.T) {
	var p provider
	functiontest.Given(t, New(&p), order.Created{ID: "o1"}, order.PaymentDebited{}).When(created(t)).ThenNothing()
	if len(p.keys) != 0 {
		t.Errorf("asked under %v", p.keys)
	}
}
