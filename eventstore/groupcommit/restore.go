package groupcommit

import (
	"fmt"

	"github.com/waybill-go/waybill/eventstore"
)

// Restoring makes requests of events that are to be restored: with the facts
// about these, [PlanRestore] decides.
func Restoring(events []eventstore.Event) []Request {
	requests := make([]Request, len(events))
	for i, e := range events {
		requests[i] = Request{Stream: e.Stream, Aggregate: e.Aggregate, Events: events[i : i+1]}
	}
	return requests
}

// PlanRestore decides on events that eventstore.CheckRestore takes: all of them
// are inserted as they are, or refused with an InvalidError and a plan that
// does nothing.
func PlanRestore(events []eventstore.Event, f Facts) (Planned, error) {
	stream, last := events[0].Stream, events[len(events)-1].Position
	if head := f.Heads[stream]; events[0].Position != head+1 {
		return refuse(0, "position", "is %d; the last event of %s is at %d, so %d comes", events[0].Position, stream, head, head+1)
	}
	versions := map[string]uint64{}
	for i, e := range events {
		if stored, taken := f.Stored[Key{stream, e.ID}]; taken {
			return refuse(i, "id", "%q is at position %d already", e.ID, stored.Position)
		}
		version, moved := versions[e.Aggregate]
		if !moved {
			version = f.Versions[Key{stream, e.Aggregate}]
		}
		if e.Version != version+1 {
			return refuse(i, "version", "is %d; aggregate %q is at version %d, so %d comes", e.Version, e.Aggregate, version, version+1)
		}
		versions[e.Aggregate] = e.Version
	}
	return Planned{Insert: events, Heads: map[string]uint64{stream: last}}, nil
}

func refuse(i int, field, format string, args ...any) (Planned, error) {
	return Planned{}, &eventstore.InvalidError{Field: fmt.Sprintf("events[%d].%s", i, field), Reason: fmt.Sprintf(format, args...)}
}

// Restored tells whether the events are there, each at its place: what a
// restore that broke off may have left.
func Restored(events []eventstore.Event, f Facts) bool {
	for _, e := range events {
		stored, there := f.Stored[Key{e.Stream, e.ID}]
		if !there || stored.Position != e.Position || stored.Version != e.Version || stored.Aggregate != e.Aggregate {
			return false
		}
	}
	return true
}
