package groupcommit

import "github.com/waybill-go/waybill/eventstore"

// Facts is what a database knows about a batch, read inside its transaction.
type Facts struct {
	// Heads are the streams' last positions.
	Heads map[string]uint64
	// Versions are the aggregates' versions; those without events are absent.
	Versions map[Aggregate]uint64
	// Stored are the events that bear one of the batch's ids.
	Stored map[ID]eventstore.Event
}

// Aggregate and ID name one of a stream.
type (
	Aggregate struct{ Stream, ID string }
	ID        struct{ Stream, ID string }
)

// Plan decides on each request of a batch, and gives the events to insert
// their versions and positions. It moves f.Heads on. Ids come before versions,
// so that a repeat is answered however far its aggregate has gone on.
func Plan(batch []Request, f Facts) (outcomes []Outcome, insert []eventstore.Event) {
	outcomes = make([]Outcome, len(batch))
	for i, r := range batch {
		stored, err := f.repeated(r)
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		if stored != nil {
			outcomes[i].Appended = eventstore.Appended{Events: stored, Duplicate: true}
			continue
		}
		actual := f.Versions[Aggregate{r.Stream, r.Aggregate}]
		if r.Expected != eventstore.Any && r.Expected != eventstore.Exactly(actual) {
			outcomes[i].Err = &eventstore.ConflictError{
				Stream: r.Stream, Aggregate: r.Aggregate, Expected: r.Expected, Actual: actual,
			}
			continue
		}
		for j := range r.Events {
			actual++
			f.Heads[r.Stream]++
			r.Events[j].Version, r.Events[j].Position = actual, f.Heads[r.Stream]
		}
		insert = append(insert, r.Events...)
		outcomes[i].Appended = eventstore.Appended{Events: r.Events}
	}
	return outcomes, insert
}

// repeated answers the stored events when the request was made before, and
// nil when none of its ids is there.
func (f Facts) repeated(r Request) ([]eventstore.Event, error) {
	var stored []eventstore.Event
	taken := -1
	for i, e := range r.Events {
		if s, ok := f.Stored[ID{r.Stream, e.ID}]; ok {
			stored = append(stored, s)
			if taken < 0 {
				taken = i
			}
		}
	}
	if taken < 0 {
		return nil, nil
	}
	refuse := func(reason string) ([]eventstore.Event, error) {
		return nil, &eventstore.IDError{
			Stream: r.Stream, ID: r.Events[taken].ID, Aggregate: stored[0].Aggregate, Reason: reason,
		}
	}
	for i, s := range stored {
		switch {
		case s.Aggregate != r.Aggregate:
			return refuse("it is on another aggregate")
		case len(stored) < len(r.Events):
			return refuse("only some of the append's ids are there")
		case s.Version != stored[0].Version+uint64(i):
			return refuse("the append's ids are there in another order")
		}
	}
	return stored, nil
}
