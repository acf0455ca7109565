package shipping

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// Carrier moves goods. Both of its calls are idempotent by key: the first outcome
// of a key stands, and asking again answers it. Any other error than a decline means
// that the outcome is unknown, and is asked for again; one that wraps
// function.ErrUnavailable is not counted as a failed attempt.
type Carrier interface {
	// Ship sends the order's goods to its customer, once for each key, and
	// answers the number that they can be followed by. That the carrier does not
	// take them, for good, is an [order.DeclinedError].
	Ship(ctx context.Context, key string, o order.Order) (tracking string, err error)
	// Recall has the goods of a key come back, if they were sent. A key under
	// which nothing was sent is closed by it: a Ship that comes later fails.
	Recall(ctx context.Context, key string) error
}

// Courier is a carrier that moves nothing and remembers nothing: it makes a
// tracking number of the key, or fails, by the restaurant. So it answers alike
// however often it is asked, and has nothing to recall.
type Courier struct {
	function.Configured[struct {
		FailFor []string `env:"SHIPPING_FAIL_FOR" help:"restaurants, with commas between, whose orders the carrier does not take"`
	}]
}

// NewCourier makes the carrier; its settings come from the environment.
func NewCourier() *Courier { return &Courier{} }

// Ship implements Carrier.
func (c *Courier) Ship(_ context.Context, key string, o order.Order) (tracking string, err error) {
	if slices.Contains(c.Settings.FailFor, o.Restaurant) {
		return "", &order.DeclinedError{Reason: fmt.Sprintf("shipping failed: nobody goes to restaurant %q", o.Restaurant)}
	}
	number := strings.ReplaceAll(function.DeriveID("shipment", key), "-", "")
	return "WB" + strings.ToUpper(number[:12]), nil
}

// Recall implements Carrier. There is nothing to recall.
func (*Courier) Recall(context.Context, string) error { return nil }
