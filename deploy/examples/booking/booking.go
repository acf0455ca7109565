package main

import (
	"encoding/json"

	"github.com/waybill-go/waybill/runtime/function"
)

// Booking is what a booking's events fold to.
type Booking struct {
	ID        string `json:"booking_id"`
	Seats     int    `json:"seats"`
	Confirmed bool   `json:"confirmed"`
}

// Event is something that happened to a booking.
type Event interface{ EventType() string }

type (
	// Requested: somebody wants seats.
	Requested struct {
		ID    string `json:"booking_id"`
		Seats int    `json:"seats"`
	}
	// Confirmed: they have them.
	Confirmed struct{}
)

// EventType names the event in the store and in subjects: BOOKINGS.requested.
func (Requested) EventType() string { return "requested" }
func (Confirmed) EventType() string { return "confirmed" }

// Stream is where bookings are kept.
func (Booking) Stream() string { return "BOOKINGS" }

// Decode makes an event of its stored form.
func (Booking) Decode(typ string, _ int, data []byte) (Event, error) {
	if typ == "confirmed" {
		return Confirmed{}, nil
	}
	var e Requested
	err := json.Unmarshal(data, &e)
	return e, err
}

// Evolve is the booking after the event.
func (b Booking) Evolve(e Event) Booking {
	switch e := e.(type) {
	case Requested:
		b.ID, b.Seats = e.ID, e.Seats
	case Confirmed:
		b.Confirmed = true
	}
	return b
}

// Request asks for seats. Asking again under the same id books nothing twice.
type Request Requested

// AggregateID says what the request is about.
func (r Request) AggregateID() string { return r.ID }

// Check refuses what can't be right. It is called after decoding.
func (r *Request) Check() error {
	if r.Seats < 1 || r.Seats > 9 {
		return function.Invalid("seats", "are %d; allowed are 1 to 9", r.Seats)
	}
	return nil
}
