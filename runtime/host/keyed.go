package host

import (
	"context"
	"sync"
)

// keyed runs jobs: at most so many at once, never two of one key, those of one
// key in the order they came. It holds at most limit, waiting and running.
type keyed struct {
	slots chan struct{}
	limit int

	mu     sync.Mutex
	held   int
	queues map[string][]func() // the jobs that wait behind a key's running one
	idle   chan struct{}       // closed while nothing is held
}

func newKeyed(concurrency, limit int) *keyed {
	k := &keyed{
		slots: make(chan struct{}, concurrency), limit: limit,
		queues: map[string][]func(){}, idle: make(chan struct{}),
	}
	close(k.idle)
	return k
}

// add takes a job, or answers false when it holds as many as it may. Jobs with
// an empty key wait for no other.
func (k *keyed) add(key string, job func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held >= k.limit {
		return false
	}
	if k.held == 0 {
		k.idle = make(chan struct{})
	}
	k.held++
	if key != "" {
		if waiting, running := k.queues[key]; running {
			k.queues[key] = append(waiting, job)
			return true
		}
		k.queues[key] = nil
	}
	go k.run(key, job)
	return true
}

func (k *keyed) run(key string, job func()) {
	for job != nil {
		k.slots <- struct{}{}
		job()
		<-k.slots
		job = k.next(key)
	}
}

// next ends a job, and answers the next one of its key.
func (k *keyed) next(key string) func() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held--
	if k.held == 0 {
		close(k.idle)
	}
	if key == "" {
		return nil
	}
	waiting := k.queues[key]
	if len(waiting) == 0 {
		delete(k.queues, key)
		return nil
	}
	k.queues[key] = waiting[1:]
	return waiting[0]
}

// wait returns when nothing is held, or the context ends.
func (k *keyed) wait(ctx context.Context) error {
	k.mu.Lock()
	idle := k.idle
	k.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
