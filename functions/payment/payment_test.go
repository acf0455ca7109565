package payment

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
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

func TestDebit(t *testing.T) {
	broken := errors.New("broken")
	pending := order.Order{ID: "o1", Status: order.Pending, Amount: 500, Currency: "USD", Version: 1}
	paid := pending
	paid.Status = order.Paid
	for name, c := range map[string]struct {
		order    order.Order
		provider provider
		want     []order.Event
		err      error
		asked    int
	}{
		"pays":        {pending, provider{}, []order.Event{order.PaymentDebited{Amount: 500, Currency: "USD"}}, nil, 1},
		"is declined": {pending, provider{declined: "no"}, []order.Event{order.PaymentDeclined{Reason: "no"}}, nil, 1},
		"is unknown":  {pending, provider{err: broken}, nil, broken, 1},
		"comes late":  {paid, provider{}, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := debit(&c.provider)(t.Context(), c.order, order.Created{})
			if !reflect.DeepEqual(got, c.want) || !errors.Is(err, c.err) || len(c.provider.keys) != c.asked {
				t.Fatalf("%v, %v, asked %v", got, err, c.provider.keys)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	l := NewLimit()
	l.Settings.Most = 1000
	for amount, declined := range map[order.Money]bool{0: false, 1000: false, 1001: true} {
		reason, err := l.Debit(t.Context(), "k", Debit{Customer: "c", Amount: amount, Currency: "USD"})
		if err != nil || (reason != "") != declined {
			t.Errorf("%v: %q, %v", amount, reason, err)
		}
	}
}
