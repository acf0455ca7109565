package host

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/function"
)

const (
	// batchSize is how many events a projection gets at the most.
	batchSize     = 256
	batchCapacity = prefetchPerSlot * batchSize
	// After a batch a projection pauses, pauseFactor times as long as that took and
	// longestPause at the most, or until so many wait that it is worth a batch: what
	// one costs however small it is would take the processors from what is on its
	// way otherwise.
	batchWorth   = batchSize / 4
	pauseFactor  = 4
	longestPause = 10 * time.Millisecond
)

// batchDoor gathers what came while the last batch was applied, and a while after.
type batchDoor struct {
	c    *consumer
	door *function.Projection
	log  function.Log
	// each is apply, but in tests.
	each func(batch []*delivery)

	mu      sync.Mutex
	waiting []*delivery
	running bool
	worth   chan struct{} // told when so many wait that a pause ends
	idle    sync.WaitGroup
}

func newBatchDoor(c *consumer, d *function.Projection) *batchDoor {
	c.oneByOne = true
	b := &batchDoor{c: c, door: d, log: c.h.runner.Log(d.Stream), worth: make(chan struct{}, 1)}
	b.each = b.apply
	return b
}

func (b *batchDoor) doorOf(string) string { return b.door.Subject() }

func (b *batchDoor) capacity() int { return batchCapacity }

func (b *batchDoor) add(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, d)
	if !b.running {
		b.running = true
		b.idle.Go(b.run)
	}
	if len(b.waiting) >= batchWorth {
		select {
		case b.worth <- struct{}{}:
		default:
		}
	}
}

// run applies batches until nothing waits.
func (b *batchDoor) run() {
	for {
		b.mu.Lock()
		n := min(len(b.waiting), batchSize)
		batch := slices.Clone(b.waiting[:n])
		b.waiting = slices.Delete(b.waiting, 0, n)
		b.running = n > 0
		b.mu.Unlock()
		if n == 0 {
			return
		}
		if b.c.stopping() {
			for _, d := range batch {
				b.c.giveBack(d)
			}
			continue
		}
		slices.SortFunc(batch, func(a, b *delivery) int { return cmp.Compare(a.position, b.position) })
		began := time.Now()
		b.each(batch)
		b.pause(min(pauseFactor*time.Since(began), longestPause))
	}
}

// pause lets events come together, unless the function stops.
func (b *batchDoor) pause(d time.Duration) {
	b.mu.Lock()
	enough := len(b.waiting) >= batchWorth
	select {
	case <-b.worth: // of those that were there before
	default:
	}
	b.mu.Unlock()
	if enough {
		return
	}
	select {
	case <-b.worth:
	case <-b.c.pull.Done():
	case <-time.After(d):
	}
}

// apply hands those that come for the first time to the handler, together, and then
// each of the others by itself. Those are few, unless somebody gave much back, and may
// be poison. When the batch fails, each of it is applied by itself too. So what takes
// all its time holds up the others for two deadlines at its first attempt (and for
// StoreCheckInterval, when that time was the event store's), and for one at each later one.
func (b *batchDoor) apply(batch []*delivery) {
	again := func(d *delivery) bool { return d.deliveries > 1 }
	first, others := slices.DeleteFunc(slices.Clone(batch), again), slices.DeleteFunc(batch, func(d *delivery) bool { return !again(d) })
	if len(first) > 1 {
		if err := b.c.beside(func() error { return b.handle(first) }); err == nil {
			for _, d := range first {
				b.c.settle(d, nil)
			}
			first = nil
		}
	}
	for _, d := range slices.Concat(first, others) {
		b.c.untilStored(d, func() error { return b.handle([]*delivery{d}) })
	}
}

func (b *batchDoor) handle(batch []*delivery) error {
	defer b.c.calls(batch...)()
	ctx, cancel := context.WithTimeout(b.c.h.work, b.c.h.f.Deadline)
	defer cancel()
	events, observed := make([]eventstore.Event, len(batch)), make([]Observation, len(batch))
	for i, d := range batch {
		events[i], observed[i] = d.event, d.observed
		d.observed.Begin()
	}
	ctx, done := b.c.h.opts.Observer.Batch(ctx, observed)
	err := b.guarded(ctx, events)
	done(err)
	return err
}

func (b *batchDoor) guarded(ctx context.Context, events []eventstore.Event) (err error) {
	defer recovered(&err)
	return b.door.Apply(ctx, b.log, events)
}

func (b *batchDoor) replay(d *delivery) error {
	return b.c.beside(func() error { return b.handle([]*delivery{d}) })
}

func (b *batchDoor) drain() { b.idle.Wait() }
