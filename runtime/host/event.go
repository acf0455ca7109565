package host

import (
	"context"
	"math"

	"github.com/waybill-go/waybill/runtime/function"
)

// eventDoor handles one event at a time of an aggregate, many at once.
type eventDoor struct {
	c    *consumer
	door *function.Event
	jobs *keyed
}

func newEventDoor(c *consumer, d *function.Event) *eventDoor {
	n := c.h.f.Concurrency
	return &eventDoor{c: c, door: d, jobs: newKeyed(n, math.MaxInt)}
}

func (e *eventDoor) capacity() int { return eventCapacity(e.c.h.f) }

func eventCapacity(f function.Function) int { return prefetchPerSlot * f.Concurrency }

// add always finds room: the consumer holds no more deliveries than there is.
func (e *eventDoor) add(d *delivery) {
	e.jobs.add(d.event.Aggregate, func() {
		if e.c.stopping() {
			e.c.giveBack(d)
			return
		}
		e.c.untilStored(d, func() error { return e.handle(d) })
	})
}

func (e *eventDoor) handle(d *delivery) (err error) {
	defer recovered(&err)
	d.observed.Begin()
	ctx, cancel := context.WithTimeout(e.c.context(d), e.c.h.f.Deadline)
	defer cancel()
	if d.edited {
		ctx = function.WithEdited(ctx)
	}
	return e.door.Handle(ctx, e.c.h.runner, d.event)
}

func (e *eventDoor) replay(d *delivery) error {
	done := make(chan error, 1)
	e.jobs.add(d.event.Aggregate, func() { done <- e.c.beside(func() error { return e.handle(d) }) })
	return <-done // every job before it has a deadline, and so has it
}

func (e *eventDoor) drain() {
	_ = e.jobs.wait(context.Background()) // every job has a deadline
	if e.c.stopping() {
		e.jobs.rest()
	}
}
