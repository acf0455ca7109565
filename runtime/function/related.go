package function

import (
	"fmt"
	"maps"
	"slices"
)

// Reference names an aggregate.
type Reference struct{ Stream, Aggregate string }

// Related are the other aggregates that one refers to, as an order to its
// customer's account: those that its State tells, after these events of it, with
// a method that a State may have:
//
//	Related() map[string][]string // ids by stream
//
// events are all of one aggregate, from the first on. There are none when no
// door of the functions knows such a State, or it has no such method.
//
// Errors: those of the State's Decode.
func Related(functions []Function, events []Message) ([]Reference, error) {
	if len(events) == 0 {
		return nil, nil
	}
	for _, f := range functions {
		for _, d := range f.Doors {
			var related func([]Message) (map[string][]string, error)
			switch d := d.(type) {
			case *Event:
				related = d.related
			case *Timed:
				related = d.related
			case *Request:
				related = d.related
			}
			if related == nil || streamOf(d) != events[0].Stream {
				continue
			}
			ids, err := related(events)
			if err != nil {
				return nil, fmt.Errorf("find what %s %q refers to: %w", events[0].Stream, events[0].Aggregate, err)
			}
			return references(ids), nil
		}
	}
	return nil, nil
}

// Streams are those that functions read or append to, each once, in the order
// of the functions.
func Streams(functions []Function) []string {
	var all []string
	for _, f := range functions {
		for _, d := range f.Doors {
			if s := streamOf(d); s != "" && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// streamOf is the stream of a door; empty if it has none.
func streamOf(d Door) string {
	switch d := d.(type) {
	case *Event:
		return d.Stream
	case *Projection:
		return d.Stream
	case *Timed:
		return d.Stream
	case *Request:
		return d.Stream
	default:
		return ""
	}
}

func references(ids map[string][]string) []Reference {
	var all []Reference
	for _, stream := range slices.Sorted(maps.Keys(ids)) {
		for _, id := range ids[stream] {
			all = append(all, Reference{stream, id})
		}
	}
	return all
}

// relatedOf asks the State of a door.
func relatedOf[S State[S, D], D DomainEvent](events []Message) (map[string][]string, error) {
	folded, err := fold(loaded[S]{}, events)
	if err != nil {
		return nil, err
	}
	if s, ok := any(folded.state).(interface{ Related() map[string][]string }); ok {
		return s.Related(), nil
	}
	return nil, nil
}
