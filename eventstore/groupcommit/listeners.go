package groupcommit

import (
	"sync"

	"github.com/waybill-go/waybill/eventstore"
)

// Listeners are those who are told of commits; see eventstore.Backend. The zero
// value has none.
type Listeners struct {
	mu  sync.RWMutex
	all []func(stream string, events []eventstore.Event)
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
	if len(l.all) == 0 {
		return
	}
	for len(events) > 0 {
		stream := events[0].Stream
		var of, others []eventstore.Event
		of, others = split(events, stream)
		for _, f := range l.all {
			f(stream, of)
		}
		events = others
	}
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
