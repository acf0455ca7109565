// Package groupcommit queues appends and commits them in groups: whatever came
// while the last commit ran goes into the next one. There is no timer: a lone
// append is committed at once, and a thousand at once share one fsync.
package groupcommit

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/waybill-go/waybill/eventstore"
)

// The limits of a queue and of a batch.
const (
	maxQueued      = 8192
	maxQueuedBytes = 64 << 20
	maxBatch       = 512
	maxBatchBytes  = 4 << 20
	// maxScan is how far into the queue a batch is looked for, past appends
	// that must wait for the next one.
	maxScan = 4 * maxBatch
)

// Request is an append that was checked and stamped.
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

// Commit stores a batch in one transaction, and answers each request. No two
// requests of a batch are of the same aggregate or have an id in common.
type Commit func(batch []Request) []Outcome

// Committer is a queue with one goroutine that commits.
type Committer struct {
	commit Commit

	mu     sync.Mutex
	queue  []*waiting
	bytes  int
	closed bool
	wake   chan struct{}
	done   chan struct{}
}

type waiting struct {
	Request
	size    int
	gone    bool // its caller gave up before it was taken
	outcome chan Outcome
}

// New starts a committer. Close it to end its goroutine.
func New(commit Commit) *Committer {
	c := &Committer{commit: commit, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go c.run()
	return c
}

// Append queues a request and waits for its outcome. When ctx ends while the
// request is queued it is not stored; when it ends later the outcome is
// unknown. A full queue is eventstore.ErrOverloaded, at once.
func (c *Committer) Append(ctx context.Context, r Request) (eventstore.Appended, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Appended{}, err
	}
	w := &waiting{Request: r, outcome: make(chan Outcome, 1)}
	for _, e := range r.Events {
		w.size += e.Size()
	}
	if err := c.enqueue(w); err != nil {
		return eventstore.Appended{}, err
	}
	select {
	case o := <-w.outcome:
		return o.Appended, o.Err
	case <-ctx.Done():
	}
	c.mu.Lock()
	w.gone = true
	c.mu.Unlock()
	select {
	case o := <-w.outcome: // it was done after all
		return o.Appended, o.Err
	default:
		return eventstore.Appended{}, ctx.Err()
	}
}

func (c *Committer) enqueue(w *waiting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return fmt.Errorf("append to %s: closing: %w", w.Stream, eventstore.ErrUnavailable)
	case len(c.queue) >= maxQueued || c.bytes+w.size > maxQueuedBytes:
		return fmt.Errorf("append to %s: %d appends are queued: %w", w.Stream, len(c.queue), eventstore.ErrOverloaded)
	}
	c.queue = append(c.queue, w)
	c.bytes += w.size
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// Close commits what is queued and returns when it is.
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
	for {
		_, open := <-c.wake
		for {
			batch := c.take()
			if len(batch) == 0 {
				break
			}
			c.settle(batch)
		}
		if !open {
			return
		}
	}
}

// settle commits a batch and tells its callers. A panic of the backend is
// their error, and not the end of the process.
func (c *Committer) settle(batch []*waiting) {
	requests := make([]Request, len(batch))
	for i, w := range batch {
		requests[i] = w.Request
	}
	outcomes := c.guarded(requests)
	for i, w := range batch {
		w.outcome <- outcomes[i]
	}
}

func (c *Committer) guarded(requests []Request) (outcomes []Outcome) {
	defer func() {
		if p := recover(); p != nil {
			outcomes = Failed(requests, fmt.Errorf("commit: panic: %v\n%s: %w", p, debug.Stack(), eventstore.ErrUnavailable))
		}
	}()
	return c.commit(requests)
}

// Failed answers every request with the same error.
func Failed(requests []Request, err error) []Outcome {
	outcomes := make([]Outcome, len(requests))
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}

// take makes the next batch. An append to an aggregate, or with an id, that
// one before it in the queue has too stays for a later batch: so each request
// is decided on what the ones before it left.
func (c *Committer) take() []*waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	var (
		batch []*waiting
		left  []*waiting
		size  int
		taken = make(map[key]struct{}, 2*min(len(c.queue), maxBatch))
	)
	for i, w := range c.queue {
		if w.gone {
			c.bytes -= w.size
			continue
		}
		full := len(batch) >= maxBatch || size > 0 && size+w.size > maxBatchBytes
		if full || i >= maxScan {
			left = append(left, c.queue[i:]...)
			break
		}
		if claim(taken, w) {
			batch = append(batch, w)
			size += w.size
			c.bytes -= w.size
		} else {
			left = append(left, w)
		}
	}
	c.queue = left
	return batch
}

type key struct{ stream, aggregate, id string }

// claim notes a request's aggregate and ids, also when one was noted before:
// whoever comes later must wait for this one as well.
func claim(taken map[key]struct{}, w *waiting) bool {
	free := true
	note := func(k key) {
		if _, ok := taken[k]; ok {
			free = false
		}
		taken[k] = struct{}{}
	}
	note(key{stream: w.Stream, aggregate: w.Aggregate})
	for _, e := range w.Events {
		note(key{stream: w.Stream, id: e.ID})
	}
	return free
}
