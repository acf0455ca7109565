package saga

import (
	"context"
	"iter"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// timeouts are how long an order waits for each step.
type timeouts struct {
	function.Configured[struct {
		Payment  time.Duration `env:"PAYMENT_TIMEOUT, default=15m" min:"0s" max:"8760h" help:"how long an order waits for its payment, then it is cancelled; 0s is for ever"`
		Review   time.Duration `env:"REVIEW_TIMEOUT, default=24h" min:"0s" max:"8760h" help:"how long an order waits for a decision, orders.review, then it is rejected; 0s is for ever"`
		Shipping time.Duration `env:"SHIPPING_TIMEOUT, default=24h" min:"0s" max:"8760h" help:"how long an order waits for the carrier, then it is cancelled; 0s is for ever"`
	}]
}

// Orders knows which orders may be waiting: orderdb.DB.
type Orders interface {
	Waiting(ctx context.Context) iter.Seq2[string, error]
}

// deadlines end an order that waited too long. What was done for it is undone
// when that event comes by, like any other end.
type deadlines struct {
	timeouts *timeouts
	orders   Orders
}

var _ function.Deadlines[order.Order, order.Event] = deadlines{}

func (d deadlines) limits() order.Timeouts { return order.Timeouts(d.timeouts.Settings) }

// Due implements function.Deadlines.
func (d deadlines) Due(o order.Order) time.Time { return o.WaitsUntil(d.limits()) }

// Waiting implements function.Deadlines.
func (d deadlines) Waiting(ctx context.Context) iter.Seq2[string, error] {
	return d.orders.Waiting(ctx)
}

// Fire implements function.Deadlines.
func (d deadlines) Fire(ctx context.Context, o order.Order) ([]order.Event, error) {
	if e := o.TimedOut(d.limits(), function.Now(ctx)); e != nil {
		return []order.Event{e}, nil
	}
	return nil, nil
}
