package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

const (
	// prefetchPerSlot is how many messages are in hand for each that is
	// handled: one waits while one runs.
	prefetchPerSlot = 2
	// The lease of a message runs from its delivery, and is extended three
	// times as often as it would end. It is longer than a handler may take, and
	// no longer than need be: what a process that was killed had in hand comes
	// to another when it ends.
	leaseParts  = 3
	leastLease  = 15 * time.Second
	apiTimeout  = 5 * time.Second
	longestWait = 5 * time.Second
)

// consumer pulls from the function's durable for as long as the host lives,
// and finds it again, or makes it anew, whenever it is gone.
type consumer struct {
	h       *Host
	log     *slog.Logger
	js      jetstream.JetStream
	durable Durable
	stream  string
	subject string
	// stats are by the subject of the door.
	stats map[string]*discovery.Endpoint
	door  dispatcher
	// found is called each time that the durable was found; also tells of another
	// problem. Either may be nil.
	found func()
	also  func() string
	// oneByOne says that what waits in hand holds up all others.
	oneByOne bool
	failures *counter
	begun    *counter // of suspects
	crowd    crowd    // in backoff
	park     *parking // may be nil
	// wide says that what is pulled from brings more than the door handles, and
	// wider when somebody was seen last who handles that. Both are of the loop that pulls.
	wide  bool
	wider time.Time

	pull    context.Context //nolint:containedctx // ends when the drain begins
	endPull context.CancelFunc
	loops   sync.WaitGroup

	mu    sync.Mutex
	held  map[*delivery]struct{}
	runs  map[*delivery]*run // those that a handler was called for
	freed chan struct{}      // told when a delivery is let go
	cut   chan error         // told why no more may be pulled by this process
	state error              // why nothing is pulled; nil when it is
	since time.Time          // when that began
	told  string             // what the log says of it
	waits int                // deliveries in hand that wait for what is away
	why   string             // what that is
}

// dispatcher hands deliveries to a handler.
type dispatcher interface {
	// doorOf is the subject of the door that takes a message; empty if none does.
	doorOf(subject string) string
	// capacity is how many deliveries may be in hand.
	capacity() int
	// add takes one; there is always room, since capacity is kept.
	add(*delivery)
	// replay handles an event that nobody delivered, and answers how it went.
	replay(*delivery) error
	// drain waits for what runs, and gives back what does not.
	drain()
}

// delivery is a message in hand.
type delivery struct {
	msg        jetstream.Msg // nil of a replay
	door       string        // its subject; empty if there is none for it
	event      eventstore.Event
	deliveries uint64
	position   uint64
	stored     time.Time // by the server's clock; zero of a replay
	began      time.Time
	edited     bool // the event's data is not what is stored
	waited     bool // for something that was away
	// due is until when its aggregate waits, if it is to be parked once it is handled.
	due      time.Time
	observed Observation
}

// newConsumer makes a consumer; it pulls when it has a door, and was begun.
func (h *Host) newConsumer(js jetstream.JetStream, durable Durable, stats map[string]*discovery.Endpoint) *consumer {
	stream := durable.Stream
	c := &consumer{
		h: h, js: js, durable: durable, stream: stream, subject: durable.Config.FilterSubject, stats: stats,
		log:  h.log.With("stream", stream),
		held: map[*delivery]struct{}{}, runs: map[*delivery]*run{}, freed: make(chan struct{}, 1), cut: make(chan error, 1),
		state:    errors.New("starting"),
		failures: newCounter(js, h.f.Name+"."+stream), begun: newCounter(js, h.f.Name+"."+stream+".began"),
	}
	c.since = time.Now()
	c.pull, c.endPull = context.WithCancel(context.Background())
	return c
}

// begin has it pull.
func (c *consumer) begin(door dispatcher) {
	c.door = door
	for _, s := range c.stats {
		s.Problem(c.problem)
	}
	c.loops.Go(c.run)
	if c.park != nil {
		c.loops.Go(c.park.run)
	}
}

func (c *consumer) stopping() bool { return c.pull.Err() != nil }

// run finds the durable and pulls from it, until the drain begins.
func (c *consumer) run() {
	wait := newBackoff()
	for !c.stopping() {
		durable, err := c.find(c.pull)
		if err == nil {
			err = c.reachStore()
		}
		if err == nil {
			c.became(nil)
			began := time.Now()
			err = c.pullFrom(durable)
			if time.Since(began) > longestWait {
				wait.Reset()
			}
		}
		if c.stopping() {
			return
		}
		c.became(err)
		select {
		case <-c.pull.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 20*time.Millisecond, time.Second
	return b
}

// find looks the durable up, and makes it if it is not there.
func (c *consumer) find(ctx context.Context) (jetstream.Consumer, error) {
	if !c.h.opts.Conn.IsConnected() {
		return nil, errNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := FindStream(ctx, c.js, c.durable.Stream)
	if err != nil {
		return nil, err
	}
	found, _, err := c.durable.Ensure(ctx, stream)
	if err != nil {
		return nil, err
	}
	if c.isWide(found) {
		if err := c.mayTake(ctx); err != nil {
			return nil, err
		}
	}
	if c.found != nil {
		c.found()
	}
	return found, nil
}

// reachStore tells whether the event store answers. A process that can't reach
// it must not take events that others could handle.
func (c *consumer) reachStore() error {
	ctx, cancel := context.WithTimeout(c.h.work, apiTimeout)
	defer cancel()
	read := eventstore.StreamRead{Stream: c.stream, From: eventstore.MaxPosition, Limit: 1}
	if _, err := eventstore.Collect(c.h.opts.Store.ReadStream(ctx, read)); err != nil {
		return fmt.Errorf("reach event store: %w", err)
	}
	return nil
}

// take makes a delivery of a message and hands it on.
func (c *consumer) take(m jetstream.Msg) {
	d := &delivery{msg: m, door: c.door.doorOf(m.Subject()), began: time.Now(), observed: nobody{}}
	meta, err := m.Metadata()
	if err != nil {
		c.log.Error("message without metadata", "subject", m.Subject(), "error", err)
		return // no message of a stream: there is nothing to acknowledge
	}
	d.deliveries, d.position, d.stored = meta.NumDelivered, meta.Sequence.Stream, meta.Timestamp
	if d.door != "" {
		d.observed = c.h.opts.Observer.Observe(Taken{
			Function: c.h.f.Name, Door: d.door, Subject: m.Subject(), Header: m.Headers(), Size: len(m.Data()), At: d.began,
			Stream: c.stream, Position: d.position, Deliveries: d.deliveries,
		})
	}
	c.mu.Lock()
	c.held[d] = struct{}{}
	c.mu.Unlock()
	if c.stopping() {
		c.giveBack(d)
		return
	}
	if foreign := c.subject != all(c.stream) && m.Subject() != c.subject; foreign && !c.wide {
		c.giveBack(d)
		c.cutOff(errWidened)
		return
	}
	if d.door == "" { // the durable brings all types
		c.ack(d)
		return
	}
	d.event, err = envelope.Parse(m.Subject(), m.Headers(), m.Data(), d.position)
	if err != nil {
		c.settle(d, fmt.Errorf("%w: %w", function.ErrDecode, err))
		return
	}
	c.door.add(d)
}

// cutOff has this process pull no more until it finds the durable, and the event
// store, again.
func (c *consumer) cutOff(why error) {
	select {
	case c.cut <- why:
	default: // it is being told
	}
}

// context is the host's, with what belongs to the delivery.
func (c *consumer) context(d *delivery) context.Context { return d.observed.Context(c.h.work) }

// letGo takes a delivery out of hand.
func (c *consumer) letGo(d *delivery) {
	d.observed.End()
	c.mu.Lock()
	delete(c.held, d)
	c.mu.Unlock()
	select {
	case c.freed <- struct{}{}:
	default:
	}
}

// awaitNone waits until nothing is in hand. Nothing is pulled meanwhile.
func (c *consumer) awaitNone() {
	for {
		c.mu.Lock()
		n := len(c.held)
		c.mu.Unlock()
		if n == 0 {
			return
		}
		<-c.freed
	}
}

// drain pulls no more and waits for what runs.
func (c *consumer) drain() {
	c.endPull()
	c.loops.Wait()
	c.door.drain()
}
