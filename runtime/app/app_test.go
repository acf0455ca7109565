package app

import (
	"context"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/runtime/function"
)

// booking is a request about a trip.
type booking struct {
	ID string `json:"id"`
}

func (b booking) AggregateID() string { return b.ID }

// TestSubjectsAreOnesOwn: what two answer to would be handled twice, and what is
// the runtime's would stop it.
func TestSubjectsAreOnesOwn(t *testing.T) {
	at := func(name, subject string) function.Function {
		return function.Function{Name: name, Doors: []function.Door{
			function.Endpoint(subject, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }),
		}}
	}
	// It only appends to the stream TRIPS.
	books := function.Function{Name: "books", Doors: []function.Door{
		function.Command("trips.book", func(context.Context, trip, booking) ([]event, error) { return nil, nil }),
	}}
	for subject, says := range map[string]string{
		"TRIPS.x": "runtime's own", "loans.ask": `function "first" too`, "deadletters.list": "runtime's own", "eventstore.refill": "runtime's own",
		"feed.LOANS.x": "runtime's own", "TIMERS.x": "runtime's own", "DEADLETTERS.buried": "runtime's own", "loans.tell": "",
	} {
		err := Program{Functions: []function.Function{at("first", "loans.ask"), books, at("second", subject)}}.check()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), subject)) {
			t.Errorf("%s: %v, want %q", subject, err, says)
		}
	}
}
