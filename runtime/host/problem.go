package host

import (
	"fmt"
	"time"
)

// quietFor is how long a stream may be away before the log says so: at a start
// it is made at the same time.
const quietFor = time.Second

// became notes why nothing is pulled, and logs it once when it lasts.
func (c *consumer) became(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if c.told != "" {
			c.log.Info("consuming again", "subject", c.subject)
		}
		c.state, c.told, c.since = nil, "", time.Time{}
		return
	}
	if c.since.IsZero() {
		c.since = time.Now()
	}
	if time.Since(c.since) > quietFor && c.told != err.Error() {
		c.told = err.Error()
		c.log.Warn("not consuming", "subject", c.subject, "durable", c.h.f.Name, "error", err)
	}
	c.state = err
}

// problem says what keeps the function from its events, once that lasts.
func (c *consumer) problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state != nil && time.Since(c.since) > quietFor:
		return c.state.Error()
	case c.waits > 0:
		return fmt.Sprintf("%d in hand wait: %s", c.waits, c.why)
	case c.also != nil:
		return c.also()
	default:
		return ""
	}
}

// waiting notes one more delivery that waits; the answer takes it back.
func (c *consumer) waiting(why error) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits, c.why = c.waits+1, why.Error()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waits--
	}
}

func (c *consumer) ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != nil {
		return fmt.Errorf("consume %s: %w", c.subject, c.state)
	}
	return nil
}
