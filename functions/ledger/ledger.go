package ledger

import (
	"context"
	"fmt"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// Ledger moves money between customers and the house. The first outcome of a key,
// also that it was declined, is an entry under that key, and stands: asking
// again answers it. All of its calls are for handlers, in whose event store it
// keeps the entries.
type Ledger struct {
	function.Configured[struct {
		Credit order.Limit `env:"PAYMENT_CREDIT, default=none" help:"how much a customer may owe in each currency; an order that would exceed it is declined"`
	}]
}

// New makes the ledger; its settings come from the environment.
func New() *Ledger { return &Ledger{} }

// maxBalance is how much an account may hold or owe: far more than anyone has, and
// little enough to be added to.
const maxBalance = order.Money(4_000_000_000_000_000_000)

// Debit has the customer pay. The reference is the entry's event id. A debit that
// is declined is an [order.DeclinedError].
func (l *Ledger) Debit(ctx context.Context, key string, c order.Charge) (reference string, err error) {
	id := paymentID(key)
	first, err := function.Once(ctx, c.Customer, id, func(a Account) Entry {
		if why := l.decline(a, c); why != "" {
			return a.entry(Declined, key, c, 0, why)
		}
		return a.entry(Debited, key, c, -c.Amount, "")
	})
	switch {
	case err != nil:
		return "", err
	case first.Amount != c.Amount || first.Currency != c.Currency:
		return "", function.Reject("payment %q was asked for before with %v %s, and now with %v %s", key, first.Amount, first.Currency, c.Amount, c.Currency)
	}
	switch first.Kind {
	case Debited:
		return id, nil
	case Declined, Closed:
		return "", &order.DeclinedError{Reason: first.Reason}
	default:
		return "", first.unknown()
	}
}

// decline says why the account can't pay; empty if it can.
func (l *Ledger) decline(a Account, c order.Charge) string {
	has := a.Balances[c.Currency]
	owes := c.Amount - has
	switch {
	case l.Settings.Credit.Exceeded(owes):
		return fmt.Sprintf("payment declined: the account has %v %s, and may owe no more than %v", has, c.Currency, l.Settings.Credit)
	case owes > maxBalance:
		return fmt.Sprintf("payment declined: the account owes %v %s, which is all that it can hold", -has, c.Currency)
	}
	return ""
}

// Void undoes the debit of a key, once. A key that was never debited is closed by
// it: a debit that comes later is declined.
func (l *Ledger) Void(ctx context.Context, key string, c order.Charge) error {
	first, err := function.Once(ctx, c.Customer, paymentID(key), func(a Account) Entry {
		return a.entry(Closed, key, c, 0, "payment declined: it was called off")
	})
	switch {
	case err != nil:
		return err
	case first.Kind == Declined || first.Kind == Closed:
		return nil // nothing moved
	case first.Kind != Debited:
		return first.unknown()
	}
	debited := order.Charge{Customer: c.Customer, Amount: first.Amount, Currency: first.Currency}
	_, err = function.Once(ctx, c.Customer, voidID(key), func(a Account) Entry {
		return a.entry(Voided, key, debited, debited.Amount, "")
	})
	return err
}

// Deposit has the customer pay in, once for each of their keys, and answers the
// account right after that. A key that was used with another amount is refused; one
// that was refused since the account is full stays so.
func (l *Ledger) Deposit(ctx context.Context, key string, c order.Charge) (Account, error) {
	first, err := function.Once(ctx, c.Customer, depositID(c.Customer, key), func(a Account) Entry {
		if a.Balances[c.Currency] > maxBalance-c.Amount {
			return a.entry(Declined, key, c, 0, "the account can't hold more "+c.Currency)
		}
		return a.entry(Deposited, key, c, c.Amount, "")
	})
	switch {
	case err != nil:
		return Account{}, err
	case first.Amount != c.Amount || first.Currency != c.Currency:
		return Account{}, function.Conflict("deposit_id", "deposit %q was made before, of %v %s", key, first.Amount, first.Currency)
	}
	switch first.Kind {
	case Deposited:
		return Account{}.Evolve(first), nil
	case Declined:
		return Account{}, function.Reject("%s", first.Reason)
	default:
		return Account{}, first.unknown()
	}
}

// Event ids. What one key can lead to has an id each.
func paymentID(key string) string { return function.DeriveID(Stream, "payment", key) }
func voidID(key string) string    { return function.DeriveID(Stream, "void", key) }
func depositID(customer, key string) string {
	return function.DeriveID(Stream, "deposit", customer, key)
}
