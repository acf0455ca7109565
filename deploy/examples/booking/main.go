// Booking takes bookings: bookings.request → booking → requested → confirm → confirmed
package main

import (
	"context"

	"github.com/waybill-go/waybill/runtime/app"
	"github.com/waybill-go/waybill/runtime/function"
)

func main() { app.Main(booking, confirmation) }

var (
	booking      = function.Function{Name: "booking", Doors: []function.Door{function.Create("bookings.request", request)}}
	confirmation = function.Function{Name: "confirm", Doors: []function.Door{function.On(confirm)}}
)

func request(_ context.Context, b Booking, r Request) ([]Event, error) {
	if b.Seats == r.Seats {
		return nil, nil // the same request again
	}
	return []Event{Requested(r)}, nil
}

func confirm(_ context.Context, b Booking, _ Requested) ([]Event, error) {
	if b.Confirmed {
		return nil, nil // the same event again
	}
	return []Event{Confirmed{}}, nil
}
