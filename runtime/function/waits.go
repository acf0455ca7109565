package function

import (
	"fmt"
	"time"
)

// Waiting is a timer that an aggregate waits, or waited, for.
type Waiting struct {
	// Function has the timer, and ID is the timer's: the cause of what it appends.
	Function, ID string
	// Since is the id of the event since which the aggregate waits for it.
	Since string
	Due   time.Time
}

// Waits are the timers that an aggregate had, in the order of its events, by the
// functions' [Deadlines] as they are set now. events are all of one aggregate,
// from the first on.
//
// Errors: those of the State's Decode.
func Waits(functions []Function, events []Message) (all []Waiting, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	stream, aggregate := events[0].Stream, events[0].Aggregate
	for _, f := range functions {
		for _, d := range f.Doors {
			timed, ok := d.(*Timed)
			if !ok || timed.Stream != stream || timed.dues == nil {
				continue
			}
			dues, err := timed.dues(events)
			if err != nil {
				return nil, fmt.Errorf("find what %s %q waited for: %w", stream, aggregate, err)
			}
			for i, due := range dues {
				due = due.UTC().Truncate(time.Microsecond) // as it is armed
				if due.IsZero() || i > 0 && due.Equal(dues[i-1].UTC().Truncate(time.Microsecond)) {
					continue
				}
				all = append(all, Waiting{Function: f.Name, ID: TimerID(f.Name, stream, aggregate, due), Since: events[i].ID, Due: due})
			}
		}
	}
	return all, nil
}

// duesOf answers until when an aggregate waits after each of its events.
func duesOf[S State[S, D], D DomainEvent](t Deadlines[S, D], events []Message) ([]time.Time, error) {
	dues := make([]time.Time, len(events))
	var known loaded[S]
	for i := range events {
		var err error
		if known, err = fold(known, events[i:i+1]); err != nil {
			return nil, err
		}
		dues[i] = t.Due(known.state)
	}
	return dues, nil
}
