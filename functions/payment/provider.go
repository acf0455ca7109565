package payment

import (
	"context"

	"github.com/waybill-go/waybill/functions/order"
)

// Provider moves money. Both of its calls are idempotent by key: the first
// outcome of a key stands, and asking again answers it. Any other error than a
// decline means that the outcome is unknown, and is asked for again; one that wraps
// function.ErrUnavailable is not counted as a failed attempt. Two calls of one
// key may run at once.
//
// functions/ledger is the one that is there. To write one for a card processor:
//
//   - Make its payment with the key as its idempotency key and as its order
//     number, and answer its own id as the reference.
//   - Such keys expire, often after a day, and an event may come again after
//     weeks: look the order number up before you make the payment, always.
//   - A result that is pending is no outcome yet. Wait for it as long as ctx
//     allows, then return an error: the event comes again after a backoff, and
//     the look-up finds what became of it. Give the function as many Attempts as
//     outlast the longest pending result.
//   - Authorize in Debit and capture at once. What is captured later can fail
//     later, when the goods are gone.
//   - Void first closes the key, in a table of your own that Debit writes the key
//     into before it calls the processor: whoever is second finds the row. Of a
//     key that Debit had taken, Void looks the order number up, and refunds or
//     cancels what it finds; while the result is pending, it returns an error.
type Provider interface {
	// Debit has the customer pay, once for each key, and answers what the
	// provider knows that by. A debit that is declined, for good, is an
	// [order.DeclinedError].
	Debit(ctx context.Context, key string, c order.Charge) (reference string, err error)
	// Void undoes the debit of a key, once. A key that was never debited is
	// closed by it: a debit that comes later is declined.
	Void(ctx context.Context, key string, c order.Charge) error
}
