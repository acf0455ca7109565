package relay

import (
	"sync"

	"github.com/waybill-go/waybill/eventstore"
)

// What waits in memory between a commit and its relay. What does not fit is
// read from SQL.
const (
	maxBuffered      = 16384
	maxBufferedBytes = 32 << 20
)

// buffer holds the events of the latest commits, in order and without gaps.
type buffer struct {
	ready chan struct{} // told when something was added

	mu     sync.Mutex
	events []eventstore.Event
	bytes  int
	begin  uint64 // the first position of the commits that follow each other
	end    uint64 // the last one; 0 when what comes is another run
	head   uint64 // the newest position that was heard of
}

// add takes the events of a commit. It never waits.
func (b *buffer) add(events []eventstore.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		b.head = max(b.head, e.Position)
		if e.Position != b.end+1 {
			b.events, b.bytes, b.begin = nil, 0, e.Position
		}
		b.end = e.Position
		if len(b.events) >= maxBuffered || b.bytes+e.Size() > maxBufferedBytes {
			b.events, b.bytes, b.end = nil, 0, 0 // what comes now is another run
			continue
		}
		b.events = append(b.events, e)
		b.bytes += e.Size()
	}
	b.wake()
}

func (b *buffer) wake() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// after answers at most n events from the one after position on, and forgets
// those before; nothing when they are not here, or nothing tells that they
// follow the event with this id, which is at position. other says that there is
// another one.
func (b *buffer) after(position uint64, id string, n int) (events []eventstore.Event, other bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	drop := 0
	for drop < len(b.events) && b.events[drop].Position <= position {
		if b.events[drop].Position == position && id != "" && b.events[drop].ID != id {
			return nil, true
		}
		b.bytes -= b.events[drop].Size()
		drop++
	}
	b.events = b.events[drop:]
	if len(b.events) == 0 {
		b.events = nil // let go of the array
		return nil, false
	}
	if b.events[0].Position != position+1 || b.begin > position && id != "" {
		return nil, false
	}
	return append([]eventstore.Event(nil), b.events[:min(n, len(b.events))]...), false
}

// hear is heard for a position that somebody tells of.
func (b *buffer) hear(position uint64) {
	b.heard(position)
	b.wake()
}

// notThere notes that SQL has nothing behind a position.
func (b *buffer) notThere(position uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.head = position
	if n := len(b.events); n > 0 { // it came meanwhile
		b.head = max(position, b.events[n-1].Position)
	}
}

// forget lets go of what is held: another carries it.
func (b *buffer) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events, b.bytes, b.end = nil, 0, 0
}

// reset forgets everything, and takes SQL's word for its head.
func (b *buffer) reset(head uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events, b.bytes, b.end, b.head = nil, 0, 0, head
}

// heard notes a position that is in SQL, whoever put it there.
func (b *buffer) heard(position uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.head = max(b.head, position)
}

// newest is the newest position that was heard of.
func (b *buffer) newest() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head
}
