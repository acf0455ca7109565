package host

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/function"
)

// A timer waits as a schedule on a subject of its own for every function,
// aggregate and due time, and fires as a message to the function's subject:
//
//	TIMERS.saga.o1.1767323045678901 → (at its time) → TIMERS.saga
//
// So what is armed is never replaced by something else, whichever replica comes
// first, and arming it again changes nothing.
const (
	headerSchedule = "Nats-Schedule"
	headerTarget   = "Nats-Schedule-Target"
	headerTTL      = "Nats-Schedule-TTL"
	// firedKept is how long a timer that fired waits for its function.
	firedKept = 7 * 24 * time.Hour
	// maxArmed bounds what a process remembers to have armed.
	maxArmed = 16 << 10
	// armWindow is how many timers are on their way to the server at once when all
	// are armed again, and armWait how long one may be.
	armWindow = 256
	armWait   = 5 * time.Second
)

func timerSubject(name string) string { return function.TimersStream + "." + name }

func hasTimer(f function.Function) bool {
	for _, d := range f.Doors {
		if _, ok := d.(*function.Timed); ok {
			return true
		}
	}
	return false
}

// Timers is the stream of timers, and the durables of those functions that have
// one. A message goes when it is acknowledged: of a schedule that is when it
// fires. There is no limit that could refuse one.
func Timers(replicas int, functions ...function.Function) (stream jetstream.StreamConfig, durables []jetstream.ConsumerConfig) {
	for _, f := range functions {
		for _, d := range DurablesOf(f) {
			if d.Stream == function.TimersStream {
				durables = append(durables, d.Config)
			}
		}
	}
	return jetstream.StreamConfig{
		Name: function.TimersStream, Description: "timers of functions: armed until they fire, fired until they are handled",
		Subjects: []string{all(function.TimersStream)}, Storage: jetstream.FileStorage, Replicas: replicas,
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardOld,
		AllowMsgSchedules: true, AllowMsgTTL: true, AllowRollup: true,
		Metadata: map[string]string{envelope.MetadataReady: "yes"},
	}, durables
}

// timers arms the timers of a function, and takes them when they fired.
type timers struct {
	h     *Host
	door  *function.Timed
	js    jetstream.JetStream
	fired *consumer
	park  *parking // events before their timers are armed

	// armed is until when an aggregate has a timer, as far as this process knows.
	// It saves publishing one again, and nothing depends on it.
	armed *lru.Cache[string, time.Time]
	again chan struct{} // told when all are to be armed again

	mu      sync.Mutex
	problem string // why not all are armed; empty when they are
}

func newTimers(h *Host, d *function.Timed) (*timers, error) {
	js, err := jetstream.NewWithAPIPrefix(h.opts.Conn, h.opts.APIPrefix,
		jetstream.WithPublishAsyncMaxPending(2*armWindow), jetstream.WithPublishAsyncTimeout(armWait))
	if err != nil {
		return nil, err
	}
	armed, err := lru.New[string, time.Time](maxArmed)
	if err != nil {
		return nil, err
	}
	return &timers{h: h, door: d, js: js, armed: armed, again: make(chan struct{}, 1)}, nil
}

// begin takes what fires, and arms all timers whenever they may have been lost:
// that is when the durable is found, at the start or again.
func (t *timers) begin(fired *consumer, jobs *keyed) {
	t.fired = fired
	fired.also = t.trouble
	fired.found = func() {
		t.armed.Purge()
		select {
		case t.again <- struct{}{}:
		default:
		}
	}
	fired.loops.Go(t.run)
	fired.begin(&eventDoor{c: fired, jobs: jobs, one: t.fire, of: func(string) string { return fired.subject }})
}

// follow sees to the timer of an event's aggregate, before the event is
// acknowledged: it has the event parked, and where that may not be it arms the
// timer.
func (t *timers) follow(ctx context.Context, d *delivery) error {
	due, err := t.door.Due(ctx, t.h.runner, d.event)
	if err != nil {
		return err
	}
	if !due.IsZero() && !t.isArmed(d.event.Aggregate, due) {
		if t.park.admits(d, due) {
			d.due = due
			return nil
		}
		if err := t.arm(ctx, d.event, due, due); err != nil {
			return err
		}
	}
	t.park.release(d.event)
	return nil
}

// isArmed tells of an aggregate that waits until due. One that is armed for earlier
// will do: when it fires, it is armed anew. So an aggregate that moves on and on
// costs one message.
func (t *timers) isArmed(aggregate string, due time.Time) bool {
	until, ok := t.armed.Get(aggregate)
	return ok && !until.After(due) && until.After(time.Now())
}

// fire handles a timer, and arms it again if it is too early: because the
// aggregate waits for something later now, or because the server's clock is ahead.
func (t *timers) fire(ctx context.Context, d *delivery) error {
	t.armed.Remove(d.event.Aggregate)
	later, err := t.door.Fire(ctx, t.h.runner, d.event)
	if err != nil || later.IsZero() {
		return err
	}
	at := later
	if ahead := d.stored.Sub(d.began); ahead > 0 {
		at = at.Add(ahead)
	}
	return t.arm(ctx, d.event, later, at)
}

// arm publishes a timer, to be fired at a time by the server's clock, and returns
// when it is stored. Until that is done the message that led to it waits in hand.
func (t *timers) arm(ctx context.Context, by function.Message, due, at time.Time) error {
	m, err := t.message(by, due, at)
	if err != nil {
		return err
	}
	if _, err := t.js.PublishMsg(ctx, m, jetstream.WithExpectStream(function.TimersStream)); err != nil {
		return fmt.Errorf("arm timer: %w: %w", function.ErrUnavailable, err)
	}
	t.armed.Add(by.Aggregate, due)
	return nil
}

// message is a timer in an event's envelope.
func (t *timers) message(by function.Message, due, at time.Time) (*nats.Msg, error) {
	due = due.UTC().Truncate(time.Microsecond)
	name, stream := t.h.f.Name, t.door.Stream
	data, err := json.Marshal(struct {
		Stream    string    `json:"stream"`
		Aggregate string    `json:"aggregate"`
		Due       time.Time `json:"due"`
	}{stream, by.Aggregate, due})
	if err != nil {
		return nil, fmt.Errorf("arm timer of %s %q: %w", stream, by.Aggregate, err)
	}
	m := &nats.Msg{
		Subject: timerSubject(name) + "." + by.Aggregate + "." + strconv.FormatInt(due.UnixMicro(), 10),
		Header: envelope.Header(eventstore.Event{
			ID:   function.TimerID(name, stream, by.Aggregate, due),
			Type: name, Source: name, Aggregate: by.Aggregate, Time: due, Version: 1, Schema: 1,
			CorrelationID: by.CorrelationID, Traceparent: by.Traceparent,
		}),
		Data: data,
	}
	// By hand: the client's option cuts the time to whole seconds.
	m.Header.Set(headerSchedule, "@at "+at.UTC().Format(time.RFC3339Nano))
	m.Header.Set(headerTarget, timerSubject(name))
	m.Header.Set(headerTTL, firedKept.String())
	return m, nil
}

// run arms all timers when it is told to, and every while, until the drain begins.
func (t *timers) run() {
	defer t.js.CleanupPublisher()
	wait := newBackoff()
	var next <-chan time.Time // after the first time
	for {
		select {
		case <-t.fired.pull.Done():
			return
		case <-t.again:
		case <-next:
		}
		after := function.Jitter(t.h.opts.ArmAgain)
		n, err := t.armAll(t.fired.pull)
		if t.fired.stopping() {
			return
		}
		if skipped, ok := errors.AsType[*skippedError](err); ok {
			// Their events became dead letters, which say so until somebody sees to it.
			t.fired.log.Warn("some have no timer", "error", skipped)
			err = nil
		}
		t.note(err)
		if err == nil {
			wait.Reset()
			t.fired.log.Debug("armed all timers", "timers", n)
		} else {
			after = wait.NextBackOff()
		}
		next = time.After(after)
	}
}

// skippedError tells of aggregates whose state can't be made.
type skippedError struct {
	n     int
	first error
}

func (e *skippedError) Error() string {
	return fmt.Sprintf("%d aggregates can't be loaded, and have no timer: %v", e.n, e.first)
}

// armAll arms the timers of all aggregates that may be waiting, some at a time.
func (t *timers) armAll(ctx context.Context) (armed int, err error) {
	defer recovered(&err)
	ctx, cancel := context.WithTimeout(ctx, max(t.h.opts.ArmAgain, t.h.f.Deadline))
	defer cancel()
	var (
		sent    []jetstream.PubAckFuture
		skipped skippedError
	)
	for id, err := range t.door.Waiting(ctx) {
		if err != nil {
			return armed, fmt.Errorf("list what waits: %w", err)
		}
		due, err := t.dueOf(ctx, id)
		switch fate := function.FateOf(err, ctx.Err() != nil); {
		case fate == function.Buried, fate == function.Failed, errors.Is(err, function.ErrLate) && t.fired.reachStore() == nil:
			if skipped.n++; skipped.first == nil {
				skipped.first = err
			}
			continue
		case err != nil:
			return armed, err
		case due.IsZero():
			continue
		}
		m, err := t.message(function.Message{Aggregate: id}, due, due)
		if err != nil {
			return armed, err
		}
		future, err := t.js.PublishMsgAsync(m, jetstream.WithExpectStream(function.TimersStream), jetstream.WithStallWait(armWait))
		if err != nil {
			return armed, fmt.Errorf("arm timers: %w", err)
		}
		armed++
		if sent = append(sent, future); len(sent) == armWindow {
			if err := stored(ctx, sent); err != nil {
				return armed, err
			}
			sent = sent[:0]
		}
	}
	if err := stored(ctx, sent); err != nil {
		return armed, err
	}
	if skipped.n > 0 {
		return armed, &skipped
	}
	return armed, ctx.Err()
}

func (t *timers) dueOf(ctx context.Context, id string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, t.h.f.Deadline)
	defer cancel()
	return t.door.DueOf(ctx, t.h.runner, id)
}

// stored waits until all are stored; the client bounds how long that takes.
func stored(ctx context.Context, sent []jetstream.PubAckFuture) error {
	for _, future := range sent {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return fmt.Errorf("arm timers: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// note keeps what is wrong with arming all, and logs it once.
func (t *timers) note(err error) {
	problem := ""
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n") // the log has the rest
		problem = "not all timers are armed: " + first
	}
	t.mu.Lock()
	before := t.problem
	t.problem = problem
	t.mu.Unlock()
	if problem != "" && problem != before {
		t.fired.log.Warn("not all timers are armed", "error", err)
	}
}

func (t *timers) trouble() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.problem
}
