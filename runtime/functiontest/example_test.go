package functiontest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

// A domain: bookings of seats, that are requested and then confirmed.
type (
	booking struct {
		ID        string `json:"booking_id"`
		Seats     int    `json:"seats"`
		Confirmed bool   `json:"confirmed"`
	}
	event     interface{ EventType() string }
	requested struct {
		ID    string `json:"booking_id"`
		Seats int    `json:"seats"`
	}
	confirmed struct {
		Seats int `json:"seats"`
	}
)

func (requested) EventType() string { return "requested" }
func (confirmed) EventType() string { return "confirmed" }
func (booking) Stream() string      { return "BOOKINGS" }

func (booking) Decode(typ string, _ int, data []byte) (event, error) {
	if typ == "confirmed" {
		var e confirmed
		err := json.Unmarshal(data, &e)
		return e, err
	}
	var e requested
	err := json.Unmarshal(data, &e)
	return e, err
}

func (b booking) Evolve(e event) booking {
	switch e := e.(type) {
	case requested:
		b.ID, b.Seats = e.ID, e.Seats
	case confirmed:
		b.Confirmed = true
	}
	return b
}

type request requested

func (r request) AggregateID() string { return r.ID }

func (r *request) Check() error {
	if r.Seats < 1 {
		return function.Invalid("seats", "are %d; a booking has at least one", r.Seats)
	}
	return nil
}

// The two functions under test.
var (
	take = function.Function{Name: "take", Doors: []function.Door{
		function.Create("bookings.request", func(_ context.Context, b booking, r request) ([]event, error) {
			if b.Seats == r.Seats {
				return nil, nil
			}
			return []event{requested(r)}, nil
		}),
	}}
	confirm = function.Function{Name: "confirm", Doors: []function.Door{
		function.On(func(_ context.Context, b booking, _ requested) ([]event, error) {
			if b.Confirmed {
				return nil, nil
			}
			return []event{confirmed{b.Seats}}, nil
		}),
	}}
)

// printed stands for a test's *testing.T, which an example does not have: it
// prints what a failed test would.
type printed struct {
	testing.TB
	cleanup []func()
}

func (*printed) Helper()                     {}
func (*printed) Context() context.Context    { return context.Background() }
func (*printed) Errorf(s string, a ...any)   { fmt.Printf(s+"\n", a...) }
func (p *printed) Fatalf(s string, a ...any) { p.Errorf(s, a...); panic("the test ends") }
func (p *printed) Cleanup(f func())          { p.cleanup = append(p.cleanup, f) }

func (p *printed) end() {
	for _, f := range p.cleanup {
		f()
	}
}

func Example() {
	t := &printed{} // in a test, this is its *testing.T
	defer t.end()

	// An event.
	functiontest.Given(t, confirm).When(requested{"b1", 2}).Then(confirmed{2}).Again().ThenNothing()

	// An event that comes late.
	functiontest.Given(t, confirm).Meanwhile(confirmed{2}).When(requested{"b1", 2}).ThenNothing()

	// Requests, the second one after the first.
	functiontest.Given(t, take).
		WhenAsked("bookings.request", `{"booking_id":"b1","seats":2}`).
		Then(requested{"b1", 2}).
		ThenReplies(booking{ID: "b1", Seats: 2}).
		WhenAsked("bookings.request", `{"booking_id":"b1","seats":3}`).
		ThenRefused(function.CodeConflict, "")

	// A test that fails shows what differs.
	functiontest.Given(t, confirm).When(requested{"b1", 2}).Then(confirmed{3})
	// Output:
	// confirm, when requested {"booking_id":"b1","seats":2}: other events were appended ("-" is missing, "+" should not be there)
	//   confirmed {
	// -   "seats": 3
	// +   "seats": 2
	//   }
}
