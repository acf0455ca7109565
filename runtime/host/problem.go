package host

import (
	"errors"
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
	overdue := c.overdue()
	switch {
	case c.state != nil && time.Since(c.since) > quietFor:
		return c.state.Error()
	case overdue != "":
		return overdue
	case c.waits > 0:
		return fmt.Sprintf("%d in hand wait: %s", c.waits, c.why)
	case c.also != nil:
		return c.also()
	default:
		return ""
	}
}

// Problems says, of each stream that the function takes messages from, what keeps
// it from them; empty if nothing does.
func (h *Host) Problems() map[string]string {
	all := make(map[string]string, len(h.consumers))
	for _, c := range h.consumers {
		all[c.durable.Stream] = c.problem()
	}
	return all
}

// run is a call of a handler.
type run struct {
	began time.Time
	told  bool // the log says that it is overdue
}

// calls notes that a handler is called for deliveries; the answer takes it back.
func (c *consumer) calls(all ...*delivery) (returned func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, d := range all {
		c.runs[d] = &run{began: now}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, d := range all {
			delete(c.runs, d)
		}
	}
}

// late is how long a run is past its deadline; 0 until that is as long again: one
// that heeds its context has returned by then.
func (c *consumer) late(r *run) time.Duration {
	if past := time.Since(r.began) - c.h.f.Deadline; past > c.h.f.Deadline {
		return past
	}
	return 0
}

// overdue says how many handlers do not return, and tells of the one that is
// longest about it: such a one has a place for ever.
func (c *consumer) overdue() string {
	var (
		n    int
		most time.Duration
		of   uint64
	)
	for d, r := range c.runs {
		if past := c.late(r); past > 0 {
			if n++; past > most {
				most, of = past, d.position
			}
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d runs %v past its deadline (position %d)", n, most.Round(time.Second), of)
}

// tellOverdue logs each once.
func (c *consumer) tellOverdue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, r := range c.runs {
		if past := c.late(r); past > 0 && !r.told {
			r.told = true
			c.log.Warn("handler does not return", "position", d.position, "event_id", d.event.ID, "deadline", c.h.f.Deadline, "past", past)
		}
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
	if errors.Is(c.state, errWider) {
		return nil // its work is done; and who replaces one by the other waits for this
	}
	if c.state != nil {
		return fmt.Errorf("consume %s: %w", c.subject, c.state)
	}
	return nil
}
