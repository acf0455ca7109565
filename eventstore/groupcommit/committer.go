// Package groupcommit queues appends and commits them in groups: whatever came
// while the last commit ran goes into the next one. There is no timer: a lone
// append is committed at once, and a thousand at once share one fsync.
//
// A backend gives [New] a function that stores a batch in one transaction, and
// in it asks [Plan] what to do with each append of the batch.
package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// Request is an append that was checked, and whose events are ready to be
// stored: stamped, and with data that nobody else writes to.
type Request struct {
	Stream    string
	Aggregate string
	Expected  eventstore.Expected
	Events    []eventstore.Event
}

// Outcome answers a Request.
type Outcome struct {
	Appended eventstore.Appended
	Err      error
}

// Commit stores a batch in one transaction, and answers each request at its
// index. No two requests of a batch are of the same aggregate, or have an id in
// common. Calls come one after the other, from one goroutine. The batch is the
// committer's again when Commit returns; the answer may be used again then.
type Commit func(batch []Request) []Outcome

// Limits bound a committer's queue and its batches. A zero is the default.
type Limits struct {
	Queued      int // appends that wait; default 8192
	QueuedBytes int // their events, as Event.Size counts; default 64 MiB
	Batch       int // appends in one commit; default 512
	BatchBytes  int // their events; default 4 MiB. One append always fits
}

func (l Limits) orDefault() Limits {
	for _, f := range []struct {
		value    *int
		fallback int
	}{{&l.Queued, 8192}, {&l.QueuedBytes, 64 << 20}, {&l.Batch, 512}, {&l.BatchBytes, 4 << 20}} {
		if *f.value <= 0 {
			*f.value = f.fallback
		}
	}
	return l
}

// Committer is a queue with one goroutine that commits. It is safe for
// concurrent use.
type Committer struct {
	commit Commit
	limits Limits

	mu     sync.Mutex
	queue  queue
	closed bool
	stats  Stats
	began  time.Time     // of the commit under way; zero: none is
	failed time.Time     // when the last one failed; zero: it did not
	why    string        // it failed
	wake   chan struct{} // holds one; closed by Close
	done   chan struct{} // closed when the goroutine has ended

	// What the goroutine uses again for each batch.
	batch    []*waiting
	requests []Request
	claimed  claims
}

// PanicError tells that a backend's commit panicked. Whether the batch was
// stored is unknown.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("commit: panic: %v\n%s", e.Value, e.Stack) }

// New starts a committer. Close it to end its goroutine.
func New(commit Commit, limits Limits) *Committer {
	c := &Committer{
		commit: commit, limits: limits.orDefault(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), claimed: claims{},
	}
	go c.run()
	return c
}

// Append checks an append, queues it and waits for its outcome. The caller may
// write to the events and their data as soon as it returns.
//
// Errors: InvalidError; ErrOverloaded, at once, when the queue is full;
// ErrUnavailable after Close; what the backend answered; or the context's. An
// append whose context ends while it is queued is never stored; when it ends
// later, whether it is stored is unknown.
func (c *Committer) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if err := a.Check(); err != nil {
		return eventstore.Appended{}, err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Appended{}, fmt.Errorf("append to %s: %w", a.Stream, err)
	}
	w := newWaiting(a, time.Now())
	if err := c.enqueue(w); err != nil {
		return eventstore.Appended{}, err
	}
	select {
	case o := <-w.outcome:
		return o.Appended, o.Err
	case <-ctx.Done():
	}
	c.withdraw(w)
	select {
	case o := <-w.outcome: // it was done after all
		return o.Appended, o.Err
	default:
		return eventstore.Appended{}, fmt.Errorf("append to %s: %w", a.Stream, ctx.Err())
	}
}

// newWaiting makes the request of a checked append. It copies the data: a
// caller that gives up may use its buffers again while the commit runs.
func newWaiting(a eventstore.Append, now time.Time) *waiting {
	w := &waiting{
		Request: Request{Stream: a.Stream, Aggregate: a.Aggregate, Expected: a.Expected, Events: a.Stamp(now)},
		outcome: make(chan Outcome, 1),
	}
	total := 0
	for i := range w.Events {
		w.size += w.Events[i].Size()
		total += len(w.Events[i].Data)
	}
	buffer := make([]byte, 0, total)
	for i := range w.Events {
		from := len(buffer)
		buffer = append(buffer, w.Events[i].Data...)
		w.Events[i].Data = buffer[from:len(buffer):len(buffer)]
	}
	return w
}

func (c *Committer) enqueue(w *waiting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("append to %s: closing: %w", w.Stream, eventstore.ErrUnavailable)
	}
	if c.queue.len >= c.limits.Queued || c.queue.bytes+w.size > c.limits.QueuedBytes && c.queue.len > 0 {
		return fmt.Errorf("append to %s: %d appends of %d bytes are queued: %w",
			w.Stream, c.queue.len, c.queue.bytes, eventstore.ErrOverloaded)
	}
	c.queue.push(w)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// Stats is what a committer has done since it began, and what waits now.
type Stats struct {
	Commits, Appends    uint64 // appends are those that were handed to a commit
	Queued, QueuedBytes int
	// Problem is why nothing is stored: the last commit failed not long ago, or
	// one takes very long. Empty when all is well.
	Problem string
}

const (
	// longCommit is what is told of before it has ended.
	longCommit = 2 * time.Second
	// toldFor is how long a failure is told of that no commit has followed.
	toldFor = time.Minute
)

// Plus adds what another committer says.
func (s Stats) Plus(o Stats) Stats {
	problem := s.Problem
	if problem == "" {
		problem = o.Problem
	}
	return Stats{s.Commits + o.Commits, s.Appends + o.Appends, s.Queued + o.Queued, s.QueuedBytes + o.QueuedBytes, problem}
}

// Stats tells how much was committed, and how much waits.
func (c *Committer) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Queued, s.QueuedBytes = c.queue.len, c.queue.bytes
	switch now := time.Now(); {
	case !c.began.IsZero() && now.Sub(c.began) > longCommit:
		s.Problem = fmt.Sprintf("a commit takes %v already", now.Sub(c.began).Round(time.Second))
	case !c.failed.IsZero() && now.Sub(c.failed) < toldFor:
		s.Problem = fmt.Sprintf("a commit failed %v ago: %s", now.Sub(c.failed).Round(time.Second), c.why)
	}
	return s
}

// withdraw takes a request out of the queue if it is still there.
func (c *Committer) withdraw(w *waiting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.queued {
		c.queue.remove(w)
	}
}

// Close commits what is queued and returns when it is. Appends that come later
// fail with ErrUnavailable.
func (c *Committer) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.wake)
	}
	c.mu.Unlock()
	<-c.done
}

func (c *Committer) run() {
	defer close(c.done)
	for open := true; open; {
		_, open = <-c.wake
		for gather(); c.take(); gather() {
			c.settle()
		}
	}
}

// yields is enough for callers that were just answered to come again, some
// goroutines away.
const yields = 3

// gather lets others run who can, before a batch is taken: where the processors
// are busy some of them are about to append, and a commit of many costs hardly
// more than one of few. Where nobody else can run it takes no time.
func gather() {
	for range yields {
		runtime.Gosched()
	}
}

// take moves the next batch out of the queue, and tells whether there is one.
func (c *Committer) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch = c.queue.take(c.batch[:0], c.limits, c.claimed)
	if len(c.claimed) > 4*c.limits.Batch {
		c.claimed = claims{} // clearing costs what the map once held
	}
	clear(c.claimed)
	if len(c.batch) == 0 {
		return false
	}
	c.stats.Commits++
	c.stats.Appends += uint64(len(c.batch))
	c.began = time.Now()
	return true
}

// settle commits the batch and tells its callers.
func (c *Committer) settle() {
	c.requests = c.requests[:0]
	for _, w := range c.batch {
		c.requests = append(c.requests, w.Request)
	}
	outcomes := c.guarded()
	c.note(outcomes)
	for i, w := range c.batch {
		w.outcome <- outcomes[i]
	}
	// What is answered must not be kept in memory until the next commit.
	clear(c.batch)
	clear(c.requests)
}

// note keeps whether the commit failed, as one: then all of it did.
func (c *Committer) note(outcomes []Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began, c.failed = time.Time{}, time.Time{}
	for _, o := range outcomes {
		if !errors.Is(o.Err, eventstore.ErrUnavailable) {
			return
		}
	}
	c.failed = time.Now()
	c.why, _, _ = strings.Cut(outcomes[0].Err.Error(), "\n")
}

// guarded commits the batch. A panic of the backend is its callers' error, and
// not the end of the process.
func (c *Committer) guarded() (outcomes []Outcome) {
	defer func() {
		if p := recover(); p != nil {
			outcomes = Failed(len(c.requests), fmt.Errorf("%w: %w", eventstore.ErrUnavailable, &PanicError{Value: p, Stack: debug.Stack()}))
		}
	}()
	outcomes = c.commit(c.requests)
	if len(outcomes) != len(c.requests) {
		return Failed(len(c.requests), fmt.Errorf("commit: %d outcomes for %d appends: %w",
			len(outcomes), len(c.requests), eventstore.ErrUnavailable))
	}
	return outcomes
}

// Failed answers n requests with the same error.
func Failed(n int, err error) []Outcome {
	outcomes := make([]Outcome, n)
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}
