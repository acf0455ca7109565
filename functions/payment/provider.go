package payment

import (
	"context"
	"fmt"

	"github.com/waybill-go/waybill/functions/order"
)

// Provider moves money. Both of its calls are idempotent by key: the first
// outcome of a key stands, and asking again answers it. An error means that
// the outcome is unknown, and is asked for again.
type Provider interface {
	// Debit takes the amount from the customer, once for each key. A declined
	// debit says why, for the customer to read; that is no error.
	Debit(ctx context.Context, key string, d Debit) (declined string, err error)
	// Void undoes the debit of a key, once. A key that was never debited is
	// closed by it: a debit that comes later is declined.
	Void(ctx context.Context, key string) error
}

// Debit is what to take, and from whom.
type Debit struct {
	Customer string
	Amount   order.Money
	Currency string
}

// Limit is a provider that moves nothing and remembers nothing: it declines
// what is above PAYMENT_LIMIT, and so answers alike however often it is asked.
type Limit struct {
	Settings struct {
		Most order.Money `env:"PAYMENT_LIMIT, default=10000.00" min:"0" help:"an order above it is declined"`
	}
}

// NewLimit makes the provider; its settings come from the environment.
func NewLimit() *Limit { return &Limit{} }

// Debit implements Provider.
func (l *Limit) Debit(_ context.Context, _ string, d Debit) (declined string, err error) {
	if d.Amount > l.Settings.Most {
		return fmt.Sprintf("payment declined: %v %s is above the limit of %v", d.Amount, d.Currency, l.Settings.Most), nil
	}
	return "", nil
}

// Void implements Provider. There is nothing to undo.
func (l *Limit) Void(context.Context, string) error { return nil }

// Config, Open and Close implement function.Resource.
func (l *Limit) Config() any                { return &l.Settings }
func (l *Limit) Open(context.Context) error { return nil }
func (l *Limit) Close() error               { return nil }
