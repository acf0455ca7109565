package host

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/waybill-go/waybill/internal/crash"
	"github.com/waybill-go/waybill/runtime/function"
)

// parking holds events back whose aggregates wait, before their timers are armed:
// nearly every aggregate has moved on a moment later, and then needed none.
//
//	an event comes, and its aggregate waits → handled, and parked: not acknowledged
//	a later one comes → that one is parked instead, or nothing waits any more: acknowledged
//	the while is over → what waits then is armed; acknowledged
//
// So at any time the latest event of an aggregate that waits is unacknowledged, or
// its timer is armed: what was parked when a process dies comes again. Nothing is
// parked whose timer would be late then, nor what came again.
//
// What is parked was handled. It has no place among those in hand, and only the
// server still counts it.
type parking struct {
	c     *consumer // of the events
	t     *timers
	while time.Duration

	mu     sync.Mutex
	of     map[string]*parked   // by aggregate
	all    map[*parked]struct{} // those too that are being armed
	most   int
	least  time.Duration // what is due sooner is not parked
	closed bool
}

// parked is an event, and until when its aggregate waits.
type parked struct {
	d     *delivery
	due   time.Time
	until time.Time
}

const (
	// maxParked is how many a process may have parked: what comes in a while of two
	// seconds, at a thousand a second; and maxParkedSize how large each may be, so that
	// all are 32 MiB at most. The timers of others are armed at once.
	maxParked     = 2048
	maxParkedSize = 16 << 10
	// parkLooks is how often in a while those are looked for whose while is over.
	parkLooks = 8
	// armAtOnce is how many of them are armed at once.
	armAtOnce = 16
)

func newParking(c *consumer, t *timers) *parking {
	return &parking{c: c, t: t, while: c.h.opts.Park, of: map[string]*parked{}, all: map[*parked]struct{}{}}
}

// Lag is how many of a function's events may wait or be unacknowledged for each
// replica, before there is to be one more: those that it declares, and those that a
// replica may have parked, which are no work.
func Lag(f function.Function) int {
	if f = f.WithDefaults(); hasTimer(f) {
		return f.Scale.TargetLag + maxParked
	}
	return f.Scale.TargetLag
}

// bound fits it to the durable. One that an older release made has no room for what
// is parked.
func (p *parking) bound(cfg jetstream.ConsumerConfig) {
	most := maxParked
	if cfg.MaxAckPending > 0 {
		most = min(most, (cfg.MaxAckPending-unacknowledged(p.c.h.f, eventCapacity(p.c.h.f)))/p.c.h.f.Scale.Max)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most, p.least = most, cfg.AckWait+2*p.while
}

// admits tells whether an event may be parked whose aggregate waits until a time.
func (p *parking) admits(d *delivery, due time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A replay is nobody's to hold back.
	return d.msg != nil && d.deliveries == 1 && d.event.Size() <= maxParkedSize && !p.closed && time.Until(due) > p.least &&
		(len(p.all) < p.most || p.of[d.event.Aggregate] != nil)
}

// add parks an event that was admitted and handled. It answers false when the drain
// has begun since.
func (p *parking) add(d *delivery) bool {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return false
	}
	done := p.put(&parked{d: d, due: d.due, until: time.Now().Add(p.while)})
	p.mu.Unlock()
	if done != nil {
		p.ack(done)
	}
	return true
}

// put keeps the later of two events of an aggregate, until when the earlier one
// was; the answer is to be acknowledged.
func (p *parking) put(e *parked) (done *delivery) {
	was := p.of[e.d.event.Aggregate]
	switch {
	case was == nil:
		p.of[e.d.event.Aggregate], p.all[e] = e, struct{}{}
		return nil
	case was.d.event.Version > e.d.event.Version:
		delete(p.all, e)
		return e.d
	}
	delete(p.all, was)
	e.until = was.until
	p.of[e.d.event.Aggregate], p.all[e] = e, struct{}{}
	if was.d.position == e.d.position {
		return nil // it was delivered twice, and is one
	}
	return was.d
}

// release lets the event go that is parked of an aggregate, if it is not later than
// this one: now nothing waits, or its timer is armed.
func (p *parking) release(by function.Message) {
	p.mu.Lock()
	e := p.of[by.Aggregate]
	if e == nil || e.d.event.Version > by.Version {
		p.mu.Unlock()
		return
	}
	delete(p.of, by.Aggregate)
	delete(p.all, e)
	p.mu.Unlock()
	p.ack(e.d)
}

// run arms the timers of those whose while is over, until the drain begins. What is
// parked then is given back.
func (p *parking) run() {
	defer p.close()
	ticker := time.NewTicker(max(p.while/parkLooks, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-p.c.pull.Done():
			return
		case <-ticker.C:
		}
		if err := p.armAll(p.over(time.Now())); err != nil && !p.c.stopping() {
			p.c.log.Warn("events wait for their timers to be armed", "error", err)
		}
	}
}

// armAll arms the timers of some. When one can't be armed, the others would fare no
// better, and are parked again with it.
func (p *parking) armAll(all []*parked) error {
	if len(all) == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(p.c.pull)
	g.SetLimit(armAtOnce)
	for _, e := range all {
		g.Go(func() error {
			err := p.arm(ctx, e)
			p.done(e, err)
			return err
		})
	}
	return g.Wait()
}

// over takes those whose while is over.
func (p *parking) over(now time.Time) (all []*parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for aggregate, e := range p.of {
		if !now.Before(e.until) {
			delete(p.of, aggregate)
			all = append(all, e)
		}
	}
	return all
}

// arm arms the timer of what an aggregate waits for now: another replica may have
// had its later events. If that can't be known, it is what it waited for then: such
// a timer finds out when it fires.
func (p *parking) arm(ctx context.Context, e *parked) error {
	due, err := p.dueNow(ctx, e)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.c.log.DebugContext(ctx, "can't tell what an aggregate waits for now", "aggregate", e.d.event.Aggregate, "error", err)
		due = e.due
	case due.IsZero():
		return nil
	}
	return p.t.arm(ctx, e.d.event, due, due)
}

func (p *parking) dueNow(ctx context.Context, e *parked) (due time.Time, err error) {
	defer recovered(&err)
	return p.t.dueOf(ctx, e.d.event.Aggregate)
}

// done lets go of one that needs nothing more, or parks it again when its timer
// could not be armed.
func (p *parking) done(e *parked, err error) {
	done := e.d
	p.mu.Lock()
	if err == nil {
		delete(p.all, e)
	} else {
		e.until = time.Now().Add(p.while)
		done = p.put(e)
	}
	p.mu.Unlock()
	if done != nil {
		p.ack(done)
	}
}

// close gives back what is parked, and takes no more.
func (p *parking) close() {
	p.mu.Lock()
	p.closed = true
	all := p.of
	p.of, p.all = nil, nil
	p.mu.Unlock()
	for _, e := range all {
		p.c.tell(e.d, "give back", e.d.msg.Nak())
	}
}

func (p *parking) ack(d *delivery) {
	crash.At(crash.BeforeAck)
	p.c.tell(d, "acknowledge", d.msg.Ack())
}

// deliveries are those whose leases are to be extended.
func (p *parking) deliveries() []*delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*delivery, 0, len(p.all))
	for e := range p.all {
		all = append(all, e.d)
	}
	return all
}

// count is how many there are.
func (p *parking) count() int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}
