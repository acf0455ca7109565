package host

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Alone has one event handled while no other is in the whole process: a crash
// ends all of it, and what had begun by then is taken for the cause. The hosts of
// a process share one.
type Alone struct {
	places  *semaphore.Weighted // one for each that is handled; all of them for a suspect
	longest atomic.Int64        // of the deadlines of those who share it
}

const allPlaces = 1 << 30

// aloneSlack is how much longer than the longest deadline a handler may take, one
// that heeds its deadline.
const aloneSlack = time.Second

// NewAlone makes one that nobody shares yet.
func NewAlone() *Alone { return &Alone{places: semaphore.NewWeighted(allPlaces)} }

// share takes in a host whose handlers have a deadline.
func (a *Alone) share(deadline time.Duration) {
	for {
		longest := a.longest.Load()
		if longest >= int64(deadline) || a.longest.CompareAndSwap(longest, int64(deadline)) {
			return
		}
	}
}

// bound is how long a suspect waits for the others, and how long they wait for it:
// longer than any handler takes, except one that never returns. That one must not
// stop the process.
func (a *Alone) bound() time.Duration { return time.Duration(a.longest.Load()) + aloneSlack }

// beside begins something that others may be handled beside. It fails when ctx ends.
func (a *Alone) beside(ctx context.Context) (end func(), err error) {
	if err := a.places.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { a.places.Release(1) }, nil
}

// alone begins the handling of a suspect. It answers false when the others did not
// end within their time: then it is one beside them.
func (a *Alone) alone(ctx context.Context) (end func(), is bool, err error) {
	wait, cancel := context.WithTimeout(ctx, a.bound())
	defer cancel()
	if a.places.Acquire(wait, allPlaces) != nil {
		end, err = a.beside(ctx)
		return end, false, err
	}
	// Whichever comes first lets the others go on.
	free := time.AfterFunc(a.bound(), func() { a.places.Release(allPlaces) })
	return func() {
		if free.Stop() {
			a.places.Release(allPlaces)
		}
	}, true, nil
}
