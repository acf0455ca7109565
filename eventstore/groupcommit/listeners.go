package groupcommit

import (
	"context"
	"sync"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// Listeners are those who are told of commits; see eventstore.Backend. The zero
// value has none.
type Listeners struct {
	mu  sync.RWMutex
	all []func(stream string, events []eventstore.Event)
	// next is closed by the next commit to the stream.
	next map[string]chan struct{}
}

// Add registers one.
func (l *Listeners) Add(f func(stream string, events []eventstore.Event)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, f)
}

// Tell tells of the events of a commit, stream by stream: those of a stream are
// in the order of their positions.
func (l *Listeners) Tell(events []eventstore.Event) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for len(events) > 0 && len(l.all)+len(l.next) > 0 {
		stream := events[0].Stream
		var of, others []eventstore.Event
		of, others = split(events, stream)
		for _, f := range l.all {
			f(stream, of)
		}
		l.wake(stream)
		events = others
	}
}

// wake needs no more than the read lock: one committer commits to a stream.
func (l *Listeners) wake(stream string) {
	if next, ok := l.next[stream]; ok {
		select {
		case <-next:
		default:
			close(next)
		}
	}
}

// Await returns when there is something, and asks after each commit to the
// stream, and every while, for what others commit.
func (l *Listeners) Await(ctx context.Context, stream string, every time.Duration, something func() (bool, error)) error {
	for {
		next := l.after(stream)
		if there, err := something(); there || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		case <-time.After(every):
		}
	}
}

// after is closed by a commit that comes after now.
func (l *Listeners) after(stream string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, ok := l.next[stream]
	if ok {
		select {
		case <-next: // of an earlier one
			ok = false
		default:
		}
	}
	if !ok {
		if l.next == nil {
			l.next = map[string]chan struct{}{}
		}
		next = make(chan struct{})
		l.next[stream] = next
	}
	return next
}

// split answers the events of a stream, and the others. It copies only when
// there are others.
func split(events []eventstore.Event, stream string) (of, others []eventstore.Event) {
	mixed := false
	for i := range events {
		if events[i].Stream != stream {
			mixed = true
			break
		}
	}
	if !mixed {
		return events, nil
	}
	for _, e := range events {
		if e.Stream == stream {
			of = append(of, e)
		} else {
			others = append(others, e)
		}
	}
	return of, others
}
