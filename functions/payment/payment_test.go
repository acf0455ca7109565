package payment

import (
	"context"
	"errors"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

// provider answers what a test wants.
type provider struct {
	declined string
	err      error
	keys     []string
}

func (p *provider) Debit(_ context.Context, key string, _ Debit) (string, error) {
	p.keys = append(p.keys, key)
	return p.declined, p.err
}

func (p *provider) Void(context.Context, string) error { return nil }

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
	debited := order.PaymentDebited{Amount: 500, Currency: "USD"}
	for name, c := range map[string]struct {
		provider  provider
		meanwhile []function.DomainEvent
		want      []function.DomainEvent
		err       error
	}{
		"pays":        {provider: provider{}, want: []function.DomainEvent{debited}},
		"is declined": {provider: provider{declined: "no"}, want: []function.DomainEvent{order.PaymentDeclined{Reason: "no"}}},
		"is unknown":  {provider: provider{err: broken}, err: broken},
		"comes late":  {provider: provider{}, meanwhile: []function.DomainEvent{debited}},
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

func TestLimit(t *testing.T) {
	l := NewLimit()
	l.Settings.Most = 1000
	if n := len(New(l).Needs); n != 1 {
		t.Errorf("the function opens %d resources", n)
	}
	for amount, declined := range map[order.Money]bool{0: false, 1000: false, 1001: true} {
		reason, err := l.Debit(t.Context(), "k", Debit{Customer: "c", Amount: amount, Currency: "USD"})
		if err != nil || (reason != "") != declined {
			t.Errorf("%v: %q, %v", amount, reason, err)
		}
	}
}

func TestSetting(t *testing.T) {
	for value, want := range map[string]order.Money{"": 1000000, "0": 0, "12.5": 1250, "-1": -1, "1e-30": -1, "abc": -1} {
		l := NewLimit()
		err := config.Load(t.Context(), func(string) (string, bool) { return value, value != "" }, l.Config())
		if wrong, refused := errors.AsType[*config.Error](err); refused != (want < 0) || refused && wrong.Variable != "PAYMENT_LIMIT" || !refused && l.Settings.Most != want {
			t.Errorf("PAYMENT_LIMIT=%q: %v, %v", value, l.Settings.Most, err)
		}
	}
}
