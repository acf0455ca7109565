package host

import (
	"context"
	"errors"
	"sync"
)

// keyed runs jobs: at most so many at once, never two of one key, those of one
// key in the order they came. It holds at most limit, waiting and running; of one
// key at most share wait behind the one that is ready or runs.
//
// Its workers stay until rest: a goroutine for each job would grow a stack of
// its own each time, which took longer than many a job.
type keyed struct {
	concurrency int

	mu      sync.Mutex
	limit   int
	share   int
	wake    sync.Cond // told when a job is ready, and at rest
	ready   []keyedJob
	queues  map[string][]func(waited bool) // the jobs that wait behind a key's ready or running one
	held    int
	workers int
	idle    int           // workers that wait for a job
	empty   chan struct{} // closed while nothing is held
	resting bool          // workers that find nothing ready end
}

type keyedJob struct {
	key    string
	run    func(waited bool) // whether it waited for another of its key
	waited bool
}

func newKeyed(concurrency, limit, share int) *keyed {
	k := &keyed{concurrency: concurrency, limit: limit, share: share, queues: map[string][]func(bool){}, empty: make(chan struct{})}
	k.wake.L = &k.mu
	close(k.empty)
	return k
}

// hold sets how many it holds and of one key, from now on.
func (k *keyed) hold(limit, share int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit, k.share = limit, share
}

// holds is how many it has, waiting and running.
func (k *keyed) holds() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// full tells whether add would refuse any job.
func (k *keyed) full() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held >= k.limit
}

// The errors of add.
var (
	errFull    = errors.New("it holds as many jobs as it may")
	errKeyFull = errors.New("it holds as many jobs of this key as it may")
)

// add takes a job, or refuses it with errFull or errKeyFull. Jobs with an empty
// key wait for no other.
func (k *keyed) add(key string, job func(waited bool)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	waiting, busy := k.queues[key]
	switch {
	case k.held >= k.limit:
		return errFull
	case len(waiting) >= k.share:
		return errKeyFull
	}
	if k.held == 0 {
		k.empty = make(chan struct{})
	}
	k.held++
	if key != "" {
		if busy {
			k.queues[key] = append(waiting, job)
			return nil
		}
		k.queues[key] = nil
	}
	k.ready = append(k.ready, keyedJob{key, job, false})
	switch {
	case len(k.ready) <= k.idle:
		k.wake.Signal()
	case k.workers < k.concurrency:
		k.workers++
		go k.work()
	}
	return nil
}

// work runs what is ready.
func (k *keyed) work() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		for len(k.ready) == 0 {
			if k.resting {
				k.workers--
				return
			}
			k.idle++
			k.wake.Wait()
			k.idle--
		}
		job := k.ready[0]
		k.ready[0] = keyedJob{}
		k.ready = k.ready[1:]
		k.mu.Unlock()
		job.run(job.waited)
		k.mu.Lock()
		k.done(job.key)
	}
}

// done ends a job; the next one of its key is ready then, behind the others.
func (k *keyed) done(key string) {
	k.held--
	if k.held == 0 {
		close(k.empty)
	}
	if key == "" {
		return
	}
	waiting := k.queues[key]
	if len(waiting) == 0 {
		delete(k.queues, key)
		return
	}
	k.queues[key] = waiting[1:]
	k.ready = append(k.ready, keyedJob{key, waiting[0], true}) // this worker takes one, so none need be woken
}

// wait returns when nothing is held, or the context ends.
func (k *keyed) wait(ctx context.Context) error {
	k.mu.Lock()
	empty := k.empty
	k.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rest ends the workers as soon as they find nothing to do. What is added later
// still runs.
func (k *keyed) rest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.resting = true
	k.wake.Broadcast()
}
