// Package ledger keeps what customers have and owe, in the stream ACCOUNTS: one
// aggregate for each customer, of which every entry carries the balances after it.
package ledger

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/waybill-go/waybill/functions/order"
)

// Stream is the log of all accounts.
const Stream = order.Accounts

// Account is what a customer has, in each currency; below zero is what they owe.
// The zero value is an account without entries.
type Account struct {
	Customer string                 `json:"customer_id"`
	Balances map[string]order.Money `json:"balances"`
}

// The kinds of entries, which are their types in the store.
const (
	Deposited = "deposited" // the customer paid in
	Debited   = "debited"   // an order was paid
	Declined  = "declined"  // it was not, or could not be paid in, and why: nothing moved
	Closed    = "closed"    // a payment was called off before it was debited: nothing moved, and nothing will
	Voided    = "voided"    // a debit was undone
)

// Entry is one line of an account. Its JSON has no kind, since that is the
// event's type.
type Entry struct {
	Kind     string      `json:"-"`
	Customer string      `json:"customer_id"`
	Key      string      `json:"key"` // of the payment or the deposit
	Amount   order.Money `json:"amount"`
	Currency string      `json:"currency"`
	Reason   string      `json:"reason,omitempty"`
	// Balances are those after the entry.
	Balances map[string]order.Money `json:"balances"`
}

// EventType implements function.DomainEvent.
func (e Entry) EventType() string { return e.Kind }

// unknown is the error of a kind that a newer release knows: whether money moved is
// for that one to say.
func (e Entry) unknown() error {
	return fmt.Errorf("read what became of %q: this release knows no entry %q", e.Key, e.Kind)
}

// Stream is where accounts are kept.
func (Account) Stream() string { return Stream }

// Whole says that the last entry is all that need be read.
func (Account) Whole() {}

// Decode makes an entry of its stored form. One of a kind that a newer release
// knows has its balances too.
func (Account) Decode(typ string, _ int, data []byte) (Entry, error) {
	e := Entry{}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("decode %s: %w", typ, err)
	}
	if e.Customer == "" || e.Balances == nil {
		return e, fmt.Errorf("decode %s: it carries no account", typ)
	}
	e.Kind = typ
	return e, nil
}

// Evolve is the account after the entry, which says it all.
func (Account) Evolve(e Entry) Account { return Account{e.Customer, e.Balances} }

// entry is a next line, which moves so much: below zero, the customer pays.
func (a Account) entry(kind, key string, c order.Charge, move order.Money, reason string) Entry {
	balances := maps.Clone(a.Balances)
	if balances == nil {
		balances = map[string]order.Money{}
	}
	if move != 0 {
		balances[c.Currency] += move
	}
	return Entry{Kind: kind, Customer: c.Customer, Key: key, Amount: c.Amount, Currency: c.Currency, Reason: reason, Balances: balances}
}
