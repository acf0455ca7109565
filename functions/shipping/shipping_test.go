package shipping

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

// carrier answers what a test wants.
type carrier struct {
	err  error
	keys []string
}

func (c *carrier) Ship(_ context.Context, key string, _ order.Order) (tracking string, err error) {
	c.keys = append(c.keys, key)
	return "n1", c.err
}

func (*carrier) Recall(context.Context, string) error { return nil }

var (
	past    = []function.DomainEvent{order.Created{ID: "o1"}, order.PaymentDebited{}}
	shipped = order.WasShipped{Tracking: "n1"}
)

func TestShip(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		carrier   carrier
		meanwhile function.DomainEvent
		want      function.DomainEvent
		asked     bool
	}{
		"goes":  {want: shipped, asked: true},
		"fails": {carrier: carrier{err: &order.DeclinedError{Reason: "rain"}}, want: order.ShippingFailed{Reason: "rain"}, asked: true},
		"fails without a word": {
			carrier: carrier{err: fmt.Errorf("ship: %w", &order.DeclinedError{})},
			want:    order.ShippingFailed{Reason: "declined, and nobody said why"}, asked: true,
		},
		"is unknown":  {carrier: carrier{err: broken}, asked: true},
		"comes late":  {meanwhile: shipped},
		"is too late": {meanwhile: order.WasCancelled{Reason: "ill"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := functiontest.Given(t, New(&c.carrier), past...)
			if c.meanwhile != nil {
				h.Meanwhile(c.meanwhile)
			}
			got := h.When(order.WasApproved{})
			switch {
			case errors.Is(c.carrier.err, broken):
				got.ThenFails(broken)
			case c.want == nil:
				got.ThenNothing()
			default:
				got.Then(c.want).Again().ThenNothing()
			}
			if !c.asked && c.meanwhile != nil && len(c.carrier.keys) > 1 {
				t.Errorf("asked under %v", c.carrier.keys)
			}
			for _, key := range c.carrier.keys { // every time the same
				if key != "o1" {
					t.Errorf("asked under the key %q", key)
				}
			}
		})
	}
}

func TestDeliver(t *testing.T) {
	const subject = "orders.deliver"
	ask := DeliverRequest{OrderID: "o1"}
	functiontest.Given(t, New(&carrier{}), append(past, order.WasApproved{}, shipped)...).
		WhenAsked(subject, ask).Then(order.WasDelivered{}).
		Again().ThenNothing()
	functiontest.Given(t, New(&carrier{}), past...).WhenAsked(subject, ask).ThenRefused(function.CodeConflict, "order_id")
	functiontest.Given(t, New(&carrier{})).WhenAsked(subject, ask).ThenRefused(function.CodeNotFound, "order_id")
}

func TestCourier(t *testing.T) {
	c := NewCourier()
	functiontest.Open(t, c, "SHIPPING_FAIL_FOR=moon,mars")
	if n := len(New(c).Needs); n != 1 {
		t.Errorf("the function opens %d resources", n)
	}
	numbers := map[string]bool{}
	for _, key := range []string{"o1", "o1", "o2"} {
		number, err := c.Ship(t.Context(), key, order.Order{Restaurant: "cgh"})
		if err != nil || !regexp.MustCompile(`^WB[0-9A-F]{12}$`).MatchString(number) {
			t.Errorf("%s: %q, %v", key, number, err)
		}
		numbers[number] = true
	}
	if len(numbers) != 2 {
		t.Errorf("two keys have the numbers %v", numbers)
	}
	for _, r := range []string{"moon", "mars"} {
		number, err := c.Ship(t.Context(), "o3", order.Order{Restaurant: r})
		if _, declined := errors.AsType[*order.DeclinedError](err); number != "" || !declined {
			t.Errorf("%s: %q, %v", r, number, err)
		}
	}
	if err := c.Recall(t.Context(), "o1"); err != nil {
		t.Error(err)
	}
}
