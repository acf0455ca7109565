package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// errCut ends the pulling when the event store can't be reached from here.
var errCut = errors.New("the event store can't be reached from here")

// pull is a request for messages that is under way. One that is left alone ends
// by itself, so nothing that the server sends is ever missed: not at a drain
// either.
type pull struct {
	batch    jetstream.MessageBatch
	messages <-chan jetstream.Msg // nil when it has ended
	asked    int
	left     int // of asked, to come
}

// pullFrom pulls until the drain begins, the durable is lost, or the event
// store.
func (c *consumer) pullFrom(durable jetstream.Consumer) error {
	select {
	case <-c.cut: // of the last time
	default:
	}
	c.crowd.at(durable)
	leases, endLeases := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.extend(leases, durable.CachedInfo().Config.AckWait/leaseParts) })
	defer func() { endLeases(); wg.Wait() }()
	for {
		free, err := c.awaitRoom()
		if err != nil {
			// What is in hand may run for as long as a drain lets it.
			c.door.drain()
			return err
		}
		if err := c.pullWhileMoreComes(durable, free); err != nil {
			return fmt.Errorf("pull: %w", err)
		}
	}
}

// pullWhileMoreComes pulls, and pulls again before the last pull is through for as
// long as they bring much and there is room: so nobody waits for the server while
// events do. It returns when no pull is under way; an error is the first one's.
func (c *consumer) pullWhileMoreComes(durable jetstream.Consumer, free int) error {
	var pulls [2]pull
	failed := c.begin(durable, &pulls[0], free)
	for pulls[0].messages != nil || pulls[1].messages != nil {
		from, other := &pulls[0], &pulls[1]
		var m jetstream.Msg
		var ok bool
		select {
		case m, ok = <-pulls[0].messages:
		case m, ok = <-pulls[1].messages:
			from, other = other, from
		}
		if !ok {
			if err := from.batch.Error(); err != nil && failed == nil {
				failed = err
			}
			*from = pull{}
			continue
		}
		c.take(m)
		from.left--
		if more := c.more(from); other.messages == nil && failed == nil && more > 0 {
			failed = c.begin(durable, other, more)
		}
	}
	return failed
}

// more is for how many a second pull is to ask beside one that is under way: none
// before half of that one came, for there may be no more. The server gives to
// both in turns, so who wants events in order has no second one.
func (c *consumer) more(p *pull) int {
	if c.door.inOrder() || p.left > p.asked/2 || len(c.cut) > 0 || c.stopping() {
		return 0
	}
	if free := c.free() - p.left; free >= max(1, c.door.capacity()/4) {
		return free
	}
	return 0
}

func (c *consumer) begin(durable jetstream.Consumer, p *pull, n int) error {
	batch, err := durable.Fetch(n, jetstream.FetchMaxWait(c.h.opts.Refresh))
	if err != nil {
		return err
	}
	*p = pull{batch: batch, messages: batch.Messages(), asked: n, left: n}
	return nil
}

// free is how many more may be in hand.
func (c *consumer) free() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.door.capacity() - len(c.held)
}

// awaitRoom waits until half of what may be in hand is free, so that one pull
// brings many. An error says why there will be no more pulls.
func (c *consumer) awaitRoom() (free int, err error) {
	most := c.door.capacity()
	for {
		if c.stopping() {
			return 0, c.pull.Err()
		}
		if free = c.free(); free >= max(1, most/2) {
			select {
			case <-c.cut:
				return 0, errCut
			default:
				return free, nil
			}
		}
		select {
		case <-c.freed:
		case <-c.cut:
			return 0, errCut
		case <-c.pull.Done():
		}
	}
}
