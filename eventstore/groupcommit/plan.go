package groupcommit

import (
	"fmt"

	"github.com/waybill-go/waybill/eventstore"
)

// Facts is what a database knows about a batch, read inside its transaction.
type Facts struct {
	// Heads are the streams' last positions; those without events are absent.
	Heads map[string]uint64
	// Versions are the aggregates' versions; those without events are absent.
	Versions map[Key]uint64
	// Stored are the events that have one of the batch's ids, by that id.
	Stored map[Key]eventstore.Event
}

// Key names an aggregate, or an event, of a stream.
type Key struct{ Stream, ID string }

// Planned is what to do with a batch.
type Planned struct {
	// Outcomes answers each request, once Insert and Heads are committed.
	Outcomes []Outcome
	// Insert are the events to store. Those of a stream are in the order of
	// their positions.
	Insert []eventstore.Event
	// Heads are the new last positions of the streams that Insert adds to.
	Heads map[string]uint64
}

// Plan decides on each request of a batch: its events are inserted, with
// versions and positions; or they were stored before, and it is answered with
// them; or it is refused with a ConflictError or an IDError. Ids come before
// versions, so that a repeat is answered however far its aggregate has gone on.
//
// Plan changes nothing but the versions and positions of the batch's events. It
// uses the memory of reuse, which may be empty.
func Plan(batch []Request, f Facts, reuse Planned) Planned {
	p := reuse
	p.Outcomes, p.Insert = p.Outcomes[:0], p.Insert[:0]
	if p.Heads == nil {
		p.Heads = map[string]uint64{}
	}
	clear(p.Heads)
	for i := range batch {
		p.Outcomes = append(p.Outcomes, p.decide(&batch[i], f))
	}
	return p
}

func (p *Planned) decide(r *Request, f Facts) Outcome {
	if len(f.Stored) > 0 {
		stored, err := f.repeated(r)
		if err != nil || stored != nil {
			return Outcome{Appended: eventstore.Appended{Events: stored, Duplicate: stored != nil}, Err: err}
		}
	}
	version := f.Versions[Key{r.Stream, r.Aggregate}]
	if r.Expected != eventstore.Any && r.Expected != eventstore.Exactly(version) {
		return Outcome{Err: &eventstore.ConflictError{
			Stream: r.Stream, Aggregate: r.Aggregate, Expected: r.Expected, Actual: version,
		}}
	}
	position, moved := p.Heads[r.Stream]
	if !moved {
		position = f.Heads[r.Stream]
	}
	for i := range r.Events {
		version++
		position++
		r.Events[i].Version, r.Events[i].Position = version, position
	}
	p.Heads[r.Stream] = position
	p.Insert = append(p.Insert, r.Events...)
	return Outcome{Appended: eventstore.Appended{Events: r.Events}}
}

// repeated answers the stored events when the request was made before, nil when
// none of its ids is there, and an IDError otherwise.
func (f Facts) repeated(r *Request) ([]eventstore.Event, error) {
	var stored []eventstore.Event
	for i := range r.Events {
		if e, ok := f.Stored[Key{r.Stream, r.Events[i].ID}]; ok {
			stored = append(stored, e)
		}
	}
	if len(stored) == 0 {
		return nil, nil
	}
	first := stored[0]
	refuse := func(format string, args ...any) ([]eventstore.Event, error) {
		return nil, &eventstore.IDError{
			Stream: r.Stream, ID: first.ID, Aggregate: first.Aggregate, Reason: fmt.Sprintf(format, args...),
		}
	}
	for _, e := range stored {
		if e.Aggregate != r.Aggregate {
			return refuse("the append is to aggregate %q, and id %q is on %q", r.Aggregate, e.ID, e.Aggregate)
		}
	}
	if len(stored) < len(r.Events) {
		return refuse("only %d of the append's %d ids are there", len(stored), len(r.Events))
	}
	for i, e := range stored {
		if e.Version != first.Version+uint64(i) {
			return refuse("the append's ids are there, but not next to each other in this order")
		}
	}
	return stored, nil
}
