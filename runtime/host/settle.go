package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/internal/crash"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
)

// suspected is how many deliveries, for each allowed attempt, make a message
// suspect of ending the process that handles it. It may be a neighbour of the
// one that does.
const suspected = 2

var errCrashLoop = errors.New("the process ends whenever it handles this")

// untilStored runs the handler and settles its outcome. While something that it
// needs is away the delivery stays in hand, its lease extended: nothing is
// counted against it, and nothing more is pulled than there is room for. When
// it is the event store, for long, the events are given back once, for a
// process that can reach it, and none is pulled here until this one can. When the
// store answers, what runs out of its time in it all the same has failed: it would
// have a place here for ever.
func (c *consumer) untilStored(d *delivery, handle func() error) {
	wait, held := newBackoff(), false
	var asked time.Time
	for {
		var err error
		if c.suspects(d) {
			err = c.handleAlone(d, handle)
		} else {
			err = c.beside(handle)
		}
		if function.FateOf(err, c.h.work.Err() != nil) != function.Held {
			c.settle(d, err)
			return
		}
		c.log.WarnContext(c.context(d), "event waits in hand", "position", d.position, "error", err)
		if !held {
			held, d.waited, asked = true, true, time.Now()
			defer c.waiting(err)()
		}
		// One that was late before is not waited for where it holds up all others.
		again := c.oneByOne && d.deliveries > 1 && errors.Is(err, function.ErrLate)
		if again || time.Since(asked) > c.h.opts.StoreCheckInterval {
			if asked = time.Now(); c.reachStore() != nil {
				c.cutOff(errCut)
				c.giveBack(d)
				return
			}
			if errors.Is(err, function.ErrLate) {
				c.settleAs(d, function.Failed, err)
				return
			}
		}
		if !c.pause(wait.NextBackOff()) {
			c.giveBack(d)
			return
		}
	}
}

// suspects tells whether the message may be one that ends the process.
func (c *consumer) suspects(d *delivery) bool {
	return d.deliveries > uint64(suspected*c.h.f.Attempts) //nolint:gosec // small and positive
}

// beside handles something that others may be handled beside.
func (c *consumer) beside(handle func() error) error {
	end, err := c.h.opts.Alone.beside(c.h.work)
	if err != nil {
		return errStopping
	}
	defer end()
	return handle()
}

// errStopping has an event given back that was not begun.
var errStopping = fmt.Errorf("%w: stopping", function.ErrUnavailable)

// handleAlone handles a suspect while nothing else of this process is handled,
// and notes that it began before it does: what ends the process is found by what
// began and never ended, and its neighbours are not taken for it. While that
// can't be noted it is handled nevertheless: to wait would stop the innocent.
func (c *consumer) handleAlone(d *delivery, handle func() error) error {
	end, alone, err := c.h.opts.Alone.alone(c.h.work)
	if err != nil {
		return errStopping
	}
	defer end()
	if c.stopping() {
		return errStopping
	}
	if !alone {
		c.log.WarnContext(c.context(d), "suspect is not handled alone: a handler does not return", "position", d.position)
		return handle()
	}
	n, err := c.begun.add(c.h.work, d.position)
	if err != nil {
		c.log.WarnContext(c.context(d), "suspect is noted by this process alone", "position", d.position, "error", err)
	}
	if n > c.h.f.Attempts {
		return fmt.Errorf("%w: it was begun %d times and never ended", errCrashLoop, n-1)
	}
	defer c.begun.forget(context.WithoutCancel(c.h.work), d.position)
	return handle()
}

// pause waits, or answers false when the drain begins.
func (c *consumer) pause(d time.Duration) bool {
	select {
	case <-c.pull.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// settle does with a delivery what its handler's error asks for.
func (c *consumer) settle(d *delivery, err error) {
	fate := function.FateOf(err, c.h.work.Err() != nil)
	if errors.Is(err, errCrashLoop) {
		fate = function.Buried
	}
	c.settleAs(d, fate, err)
}

func (c *consumer) settleAs(d *delivery, fate function.Fate, err error) {
	failure := ""
	if err != nil {
		failure = headerText(err.Error())
	}
	took := time.Since(d.began)
	c.stats[d.door].Done(took, failure)
	d.observed.Settle(fate.String(), took, err)
	switch fate {
	case function.Handled:
		switch {
		case d.due.IsZero():
			c.ack(d)
		case c.park.add(d):
			c.letGo(d)
		default:
			c.giveBack(d)
		}
	case function.Buried:
		reason := deadletter.ReasonRejected
		switch {
		case errors.Is(err, errCrashLoop):
			reason = deadletter.ReasonCrashLoop
		case errors.Is(err, function.ErrDecode):
			reason = deadletter.ReasonDecode
		}
		c.bury(d, reason, err, 0)
	case function.GivenBack:
		c.giveBack(d)
	case function.Yielded, function.Held:
		c.nak(d, function.Jitter(c.h.f.Backoff))
	case function.Failed:
		c.failed(d, err)
	}
}

// failed counts the failure, and buries the message at the last attempt; or
// before, when so many are in backoff that they would hold up the others: then
// the office replays it.
func (c *consumer) failed(d *delivery, cause error) {
	n, err := c.failures.add(c.h.work, d.position)
	if err != nil {
		c.log.WarnContext(c.context(d), "failure is counted by this process alone", "position", d.position, "error", err)
	}
	if n >= c.h.f.Attempts {
		c.bury(d, deadletter.ReasonAttempts, cause, n)
		return
	}
	if !c.crowd.admits(c.h.work, c.park) {
		c.bury(d, deadletter.ReasonCrowded, cause, n)
		return
	}
	wait := c.h.f.BackoffAfter(n)
	c.log.WarnContext(c.context(d), "event failed; comes again", "position", d.position, "event_id", d.event.ID,
		"attempt", n, "wait", wait, "error", cause)
	c.nak(d, wait)
}

// bury appends the dead letter, then acknowledges: in this order, so that a
// crash between the two buries again, which appends nothing.
func (c *consumer) bury(d *delivery, reason string, cause error, attempts int) {
	letter := deadletter.Letter{
		Function: c.h.f.Name, Reason: reason, Error: cause.Error(), Attempts: attempts, Deliveries: d.deliveries,
		Stream: c.stream, Subject: d.msg.Subject(), Position: d.position,
		Header: d.msg.Headers(), Data: d.msg.Data(),
		EventID: d.event.ID, CorrelationID: d.event.CorrelationID,
	}
	wait := newBackoff()
	for {
		ctx, cancel := context.WithTimeout(c.context(d), c.h.f.Deadline)
		err := deadletter.Bury(ctx, c.h.opts.Store, letter)
		cancel()
		if err == nil {
			c.log.ErrorContext(c.context(d), "event buried", "position", d.position, "event_id", d.event.ID, "reason", reason, "error", cause,
				"dead_letter", letter.ID())
			d.observed.Buried(letter.ID(), reason)
			c.failures.forget(c.h.work, d.position)
			if reason == deadletter.ReasonCrashLoop {
				c.begun.forget(c.h.work, d.position)
			}
			c.ack(d)
			return
		}
		c.log.WarnContext(c.context(d), "dead letter waits in hand", "position", d.position, "error", err)
		if !c.pause(wait.NextBackOff()) {
			c.giveBack(d)
			return
		}
	}
}

func (c *consumer) ack(d *delivery) {
	crash.At(crash.BeforeAck)
	c.done(d, "acknowledge", d.msg.Ack())
}

// giveBack lets another process have it at once.
func (c *consumer) giveBack(d *delivery) { c.done(d, "give back", d.msg.Nak()) }

func (c *consumer) nak(d *delivery, wait time.Duration) {
	c.done(d, "put off", d.msg.NakWithDelay(wait))
}

// done lets go. When the server can't be told the message comes again, and
// finds what it decided in the store.
func (c *consumer) done(d *delivery, what string, err error) {
	c.tell(d, what, err)
	c.letGo(d)
}

func (c *consumer) tell(d *delivery, what string, err error) {
	if err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		c.log.WarnContext(c.context(d), fmt.Sprintf("could not %s", what), "position", d.position, "error", err)
	}
}
