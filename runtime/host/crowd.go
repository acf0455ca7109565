package host

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// crowd knows when so many events are in backoff that they would hold up the
// others: the server delivers nothing while MaxAckPending are unacknowledged,
// and one that comes again later is.
type crowd struct {
	mu      sync.Mutex
	durable jetstream.Consumer
	looked  time.Time
	pending int // unacknowledged then, in all replicas, but for what this process had parked
	putOff  int // by this process since
}

// lookEvery is how often the server is asked at the most.
const lookEvery = 250 * time.Millisecond

// at says which durable it is about.
func (c *crowd) at(durable jetstream.Consumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.durable, c.looked = durable, time.Time{}
}

// admits tells whether one more may be put off, and counts it. The last quarter
// is for what is not in backoff. It begins there, and not at half: what replicas
// have in hand is unacknowledged too, and can be half of it (see newDurable).
func (c *crowd) admits(ctx context.Context, park *parking) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.durable == nil {
		return true
	}
	if time.Since(c.looked) > lookEvery {
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		// When the server can't be asked, what was counted here still holds.
		if info, err := c.durable.Info(ctx); err == nil {
			c.pending, c.putOff = info.NumAckPending-park.count(), 0
		}
		c.looked = time.Now()
	}
	if most := c.durable.CachedInfo().Config.MaxAckPending; most > 0 && c.pending+c.putOff >= most-most/4 {
		return false
	}
	c.putOff++
	return true
}
