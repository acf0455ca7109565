// Package accounts answers for what customers have and owe, and takes deposits.
//
//	accounts.get     → accounts → the account's last entry
//	accounts.deposit → accounts → deposited, on the account
package accounts

import (
	"cmp"
	"context"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function; l keeps the accounts.
func New(l *ledger.Ledger) function.Function {
	return function.Function{
		Name:        "accounts",
		Description: "Answers for what a customer has and owes, and takes deposits.",
		Doors: []function.Door{
			function.Read[ledger.Account, GetRequest]("accounts.get"),
			function.Endpoint("accounts.deposit", deposit(l)),
		},
		Needs: function.Needs(l),
	}
}

// GetRequest asks for a customer's account.
type GetRequest struct {
	Customer string `json:"customer_id" required:"true"`
}

// AggregateID says whose account it is.
func (r GetRequest) AggregateID() string { return r.Customer }

// DepositRequest pays in.
type DepositRequest struct {
	Customer string      `json:"customer_id" required:"true"`
	Amount   order.Money `json:"amount" required:"true"`
	// Currency is a code of ISO 4217; order.DefaultCurrency if left out.
	Currency string `json:"currency"`
	// DepositID is the caller's idempotency key, among those of the customer.
	DepositID string `json:"deposit_id" required:"true"`
}

// maxDeposit is the most that one deposit can be.
const maxDeposit = order.Money(1_000_000_000_00)

// Check implements the request's rules.
func (r *DepositRequest) Check() error {
	if r.Currency == "" {
		r.Currency = order.DefaultCurrency
	}
	if r.Amount < 1 || r.Amount > maxDeposit {
		return function.Invalid("amount", "is %v; allowed are 0.01 to %v", r.Amount, maxDeposit)
	}
	return cmp.Or(order.CheckID("customer_id", r.Customer), order.CheckCurrency("currency", r.Currency), order.CheckID("deposit_id", r.DepositID))
}

func deposit(l *ledger.Ledger) func(context.Context, DepositRequest) (ledger.Account, error) {
	return func(ctx context.Context, r DepositRequest) (ledger.Account, error) {
		return l.Deposit(ctx, r.DepositID, order.Charge{Customer: r.Customer, Amount: r.Amount, Currency: r.Currency})
	}
}
