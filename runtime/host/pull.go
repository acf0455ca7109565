package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// lookAgain is how many pulls' time lies between two looks at the durable.
const lookAgain = 10

// errCut ends the pulling when the event store can't be reached from here.
var errCut = errors.New("the event store can't be reached from here")

// errWidened ends it when what comes is not what the durable filtered.
var errWidened = errors.New("a newer release has widened the durable")

// errAnew ends it when the durable was lost and made anew, so that it is found
// again.
var errAnew = errors.New("the durable was made anew")

// errLook interrupts it.
var errLook = errors.New("time to look at the durable")

// pullFrom pulls until the drain begins, the durable is lost, or the event
// store.
func (c *consumer) pullFrom(durable jetstream.Consumer) error {
	select {
	case why := <-c.cut:
		c.log.Debug("was told before", "error", why)
	default:
	}
	c.crowd.at(durable)
	if c.park != nil {
		c.park.bound(durable.CachedInfo().Config)
	}
	if c.wide = c.isWide(durable); c.wide {
		c.log.Warn("the durable was widened by a release with more event doors, of which none runs: events without a door here are acknowledged unseen",
			"durable", c.h.f.Name, "subject", c.subject)
	}
	leases, endLeases := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.extend(leases, durable.CachedInfo().Config.AckWait/leaseParts) })
	defer func() { endLeases(); wg.Wait() }()
	made := durable.CachedInfo().Created
	look := time.NewTicker(lookAgain * c.h.opts.PullExpiry)
	defer look.Stop()
	for {
		free, err := c.awaitRoom(look.C)
		if errors.Is(err, errLook) {
			if err := c.isStill(made); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			// What is in hand may run for as long as a drain lets it.
			c.door.drain()
			return err
		}
		// A pull that is left alone ends by itself, so nothing that the server
		// sends is ever missed: not at a drain either.
		batch, err := durable.Fetch(free, jetstream.FetchMaxWait(c.h.opts.PullExpiry))
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		for m := range batch.Messages() {
			c.take(m)
		}
		if err := batch.Error(); err != nil {
			return fmt.Errorf("pull: %w", err)
		}
	}
}

// isStill tells whether the durable is the one that is pulled from. One that was
// lost and made anew answers the next pull as if nothing had happened, when none
// was open meanwhile: because no place is free, say.
func (c *consumer) isStill(made time.Time) error {
	ctx, cancel := context.WithTimeout(c.pull, apiTimeout)
	defer cancel()
	durable, err := c.js.Consumer(ctx, c.durable.Stream, c.durable.Config.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("look at durable: %w", err)
	case err != nil:
		return nil // it can't be asked; the pulls tell what else there is
	case !durable.CachedInfo().Created.Equal(made):
		return errAnew
	case c.wide:
		if err := c.mayTake(ctx); err != nil {
			c.cutOff(err) // what is in hand is finished first
		}
	}
	return nil
}

// awaitRoom waits until half of what may be in hand is free, so that one pull
// brings many. An error says why there will be no more pulls; errLook, that the
// durable is to be looked at first.
func (c *consumer) awaitRoom(look <-chan time.Time) (free int, err error) {
	most := c.door.capacity()
	for {
		if c.stopping() {
			return 0, c.pull.Err()
		}
		select {
		case <-look:
			return 0, errLook
		default:
		}
		c.mu.Lock()
		free = most - len(c.held)
		c.mu.Unlock()
		if free >= max(1, most/2) {
			select {
			case err := <-c.cut:
				return 0, err
			default:
				return free, nil
			}
		}
		select {
		case <-c.freed:
		case err := <-c.cut:
			return 0, err
		case <-look:
			return 0, errLook
		case <-c.pull.Done():
		}
	}
}

// extend prolongs the lease of everything in hand, and with it the time until
// the server would give it to another.
func (c *consumer) extend(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		c.tellOverdue()
		c.mu.Lock()
		held := make([]*delivery, 0, len(c.held))
		for d := range c.held {
			held = append(held, d)
		}
		c.mu.Unlock()
		if c.park != nil {
			held = append(held, c.park.deliveries()...)
		}
		for _, d := range held {
			// One that was acknowledged meanwhile refuses, as it should.
			_ = d.msg.InProgress()
		}
	}
}
