package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/scaling"
)

// crew are the replicas of one function.
type crew struct {
	s        *Supervisor
	name     string
	log      *slog.Logger
	policy   scaling.Policy
	durable  host.Durable
	consumes bool
	serves   bool // a protocol of its own, for which it asks others

	consumer jetstream.Consumer // once it was found

	mu       sync.Mutex
	replicas []*replica // those that are to be
	running  int        // processes
	starts   int
	crashes  []crash   // of late, the oldest first
	awake    time.Time // until when one is to run
	left     sync.WaitGroup
}

// crash is an end of a process that nobody asked for.
type crash struct {
	at        time.Time
	how, said string
}

const (
	// remembers is how long a crash counts, and tooOften after how many ls says so.
	remembers = 5 * time.Minute
	tooOften  = 3
)

// askTimeout is how long JetStream may take to tell what waits.
const askTimeout = 2 * time.Second

// quietFor is how long what waits may be unknown before the log says so: at a
// start the streams are made at the same time.
const quietFor = 2 * time.Second

// run observes and follows the policy, until ctx ends. What is unknown changes
// nothing.
func (c *crew) run(ctx context.Context) {
	state := scaling.State{Wanted: c.policy.Min}
	c.scale(state.Wanted)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	seen := time.Now()
	for {
		o, err := c.observe(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			seen = time.Now()
			was, reason := state.Wanted, ""
			if state, reason = c.policyNow().Next(state, o); reason != "" {
				c.log.Info("scaling", "from", was, "to", state.Wanted, "reason", reason)
				c.scale(state.Wanted)
			}
		case time.Since(seen) > quietFor:
			c.log.Warn("can't see what waits", "replicas", state.Wanted, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// observe asks JetStream what waits. Of a function that takes no events there
// is nothing to ask.
func (c *crew) observe(ctx context.Context) (scaling.Observation, error) {
	o := scaling.Observation{At: time.Now(), Running: c.status().Running}
	if !c.consumes {
		return o, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if c.consumer == nil {
		found, err := c.find(ctx)
		if err != nil {
			return o, err
		}
		c.consumer = found
	}
	info, err := c.consumer.Info(ctx)
	if err != nil {
		c.consumer = nil
		return o, fmt.Errorf("look at durable %s of %s: %w", c.name, c.durable.Stream, err)
	}
	o.At, o.Lag, o.InHand = time.Now(), int(info.NumPending), info.NumAckPending //nolint:gosec // counts of messages
	o.Done = max(info.Delivered.Consumer, uint64(o.InHand)) - uint64(o.InHand)   //nolint:gosec // no less than 0
	return o, nil
}

// find finds the durable, and makes it: at zero replicas nobody else would.
func (c *crew) find(ctx context.Context) (jetstream.Consumer, error) {
	stream, err := host.FindStream(ctx, c.s.opts.JetStream, c.durable.Stream)
	if err != nil {
		return nil, err
	}
	found, _, err := c.durable.Ensure(ctx, stream)
	return found, err
}

// wake has one run, for as long as one that nothing waits for would.
func (c *crew) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awake = time.Now().Add(c.policy.CoolDown)
	c.log.Info("somebody asks for a replica", "until", c.awake)
}

// policyNow is the policy, with one replica more than none while one is to be awake.
func (c *crew) policyNow() scaling.Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.policy
	if time.Now().Before(c.awake) {
		p.Min = max(p.Min, 1)
	}
	return p
}

// scale starts and stops until there are n, the last one first.
func (c *crew) scale(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.replicas) < n {
		r := &replica{c: c, stop: make(chan struct{})}
		c.replicas = append(c.replicas, r)
		c.left.Go(r.run)
	}
	for _, r := range c.replicas[n:] {
		close(r.stop)
	}
	c.replicas = c.replicas[:n]
	if n == 0 {
		c.crashes = nil
	}
}

func (c *crew) status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{
		Function: c.name, Stream: c.durable.Stream, Wanted: len(c.replicas), Min: c.policy.Min, Max: c.policy.Max,
		Running: c.running, Starts: c.starts, Problem: c.problem(time.Now()),
	}
}

// began counts a process that was started.
func (c *crew) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running++
	c.starts++
}

func (c *crew) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
}

// crashed notes a crash, and answers how many there were of late.
func (c *crew) crashed(one crash) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashes = append(c.ofLate(one.at), one)
	return len(c.crashes)
}

func (c *crew) ofLate(now time.Time) []crash {
	return slices.DeleteFunc(c.crashes, func(o crash) bool { return now.Sub(o.at) > remembers })
}

// problem says that processes end again and again; empty if they do not.
func (c *crew) problem(now time.Time) string {
	c.crashes = c.ofLate(now)
	n := len(c.crashes)
	if n < tooOften {
		return ""
	}
	last := c.crashes[n-1]
	text := fmt.Sprintf("%s, %d times in the last %v, last %v ago", last.how, n, remembers, now.Sub(last.at).Round(time.Second))
	if last.said != "" {
		text += ": " + last.said
	}
	return text
}
