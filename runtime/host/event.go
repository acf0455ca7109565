package host

import (
	"context"
	"math"

	"github.com/waybill-go/waybill/runtime/function"
)

// eventDoor handles one message at a time of an aggregate, many at once.
type eventDoor struct {
	c *consumer
	// jobs are those of the whole function: an aggregate's event and its timer
	// are not handled at once.
	jobs *keyed
	one  func(ctx context.Context, d *delivery) error
	// of is the subject of the door that takes a message; empty if none does.
	of func(subject string) string
}

// newJobs makes the places of a function's event doors.
func newJobs(f function.Function) *keyed { return newKeyed(f.Concurrency, math.MaxInt, math.MaxInt) }

// newEventDoor takes events to the door that listens to their subject, and then
// to the timers. Either may be missing.
func newEventDoor(c *consumer, jobs *keyed, doors map[string]*function.Event, t *timers) *eventDoor {
	return &eventDoor{
		c: c, jobs: jobs,
		of: func(subject string) string {
			switch {
			case doors[subject] != nil:
				return subject
			case t != nil:
				return all(c.stream)
			}
			return ""
		},
		one: func(ctx context.Context, d *delivery) error {
			if door := doors[d.door]; door != nil {
				if err := door.Handle(ctx, c.h.runner, d.event); err != nil {
					return err
				}
			}
			if t == nil {
				return nil
			}
			return t.follow(ctx, d)
		},
	}
}

// EventDoors are the subjects of the doors of events and timers, as an [Observer]
// is told of them.
func EventDoors(f function.Function) (doors []string) {
	for _, d := range f.Doors {
		switch d := d.(type) {
		case *function.Event, *function.Projection:
			doors = append(doors, d.Subject())
		case *function.Timed:
			doors = append(doors, all(d.Stream), timerSubject(f.Name))
		}
	}
	return doors
}

func (e *eventDoor) doorOf(subject string) string { return e.of(subject) }

func (e *eventDoor) capacity() int { return eventCapacity(e.c.h.f) }

func eventCapacity(f function.Function) int { return prefetchPerSlot * f.Concurrency }

// add always finds room: the consumer holds no more deliveries than there is.
func (e *eventDoor) add(d *delivery) {
	_ = e.jobs.add(d.event.Aggregate, func(bool) {
		if e.c.stopping() {
			e.c.giveBack(d)
			return
		}
		e.c.untilStored(d, func() error { return e.handle(d) })
	})
}

func (e *eventDoor) handle(d *delivery) (err error) {
	defer recovered(&err)
	defer e.c.calls(d)()
	d.observed.Begin()
	ctx, cancel := context.WithTimeout(e.c.context(d), e.c.h.f.Deadline)
	defer cancel()
	if d.edited {
		ctx = function.WithEdited(ctx)
	}
	if d.deliveries > 1 || d.waited {
		ctx = function.WithVerify(ctx)
	}
	return e.one(ctx, d)
}

func (e *eventDoor) replay(d *delivery) error {
	done := make(chan error, 1)
	_ = e.jobs.add(d.event.Aggregate, func(bool) { done <- e.c.beside(func() error { return e.handle(d) }) })
	select { // every job before it has a deadline, and so has it
	case err := <-done:
		return err
	case <-e.c.h.work.Done():
		return e.c.h.work.Err()
	}
}

// drain waits for this door's own, each of which has a deadline: the other doors
// may go on.
func (e *eventDoor) drain() {
	e.c.awaitNone()
	if e.c.stopping() {
		e.jobs.rest()
	}
}
