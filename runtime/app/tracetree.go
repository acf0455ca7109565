package app

import (
	"cmp"
	"slices"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/deadletter"
)

// traced is what trace tells of an aggregate.
type traced struct {
	ID string `json:"id"`
	// Began is the time of the first event, UTC.
	Began time.Time `json:"began"`
	// Events is how many the tree has.
	Events int `json:"events"`
	// Roots are the events whose cause is none of the tree's: a request, a timer,
	// or an event that is not shown. The earliest comes first.
	Roots []*node `json:"roots"`
	// Notes say what is left out.
	Notes []string `json:"notes,omitempty"`
}

// node is an event in the tree of causes.
type node struct {
	Stream    string    `json:"stream"`
	Aggregate string    `json:"aggregate"`
	Version   uint64    `json:"version"`
	Position  uint64    `json:"position"`
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	// SinceStart is since Began, in nanoseconds.
	SinceStart time.Duration `json:"since_start_ns"`
	// Source is the function that appended it.
	Source        string `json:"source,omitempty"`
	CausationID   string `json:"causation_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	Traceparent   string `json:"traceparent,omitempty"`
	// DeadLetters are those of the event, one for each function that gave up on it,
	// and those of timers that its aggregate waits for since; their stream is TIMERS.
	DeadLetters []deadletter.Summary `json:"dead_letters,omitempty"`
	// Timer is what caused it, when a timer did.
	Timer *timer `json:"timer,omitempty"`
	// Children are the events that it caused, the earliest first.
	Children []*node `json:"children,omitempty"`

	parent *node
}

// timer is one that fired: CausationID is its id.
type timer struct {
	Function string    `json:"function"`
	Due      time.Time `json:"due"`
}

func newNode(e eventstore.Event) *node {
	return &node{
		Stream: e.Stream, Aggregate: e.Aggregate, Version: e.Version, Position: e.Position,
		Type: e.Type, ID: e.ID, Time: e.Time.UTC(), Source: e.Source,
		CausationID: e.CausationID, CorrelationID: e.CorrelationID, Traceparent: e.Traceparent,
	}
}

// causes makes the tree of the events, each once: under the event that caused it,
// or as a root where that is none of them.
func causes(id string, nodes []*node) *traced {
	t := &traced{ID: id, Events: len(nodes), Roots: []*node{}}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *node) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Position, b.Position))
	})
	byID := map[string]*node{}
	for _, n := range nodes {
		if byID[n.ID] == nil { // an id is unique in its stream only
			byID[n.ID] = n
		}
	}
	for _, n := range nodes {
		if t.Began.IsZero() {
			t.Began = n.Time
		}
		n.SinceStart = n.Time.Sub(t.Began)
		cause := byID[n.CausationID]
		if cause == nil || cause.isOf(n) {
			t.Roots = append(t.Roots, n)
			continue
		}
		n.parent = cause
		cause.Children = append(cause.Children, n)
	}
	return t
}

// isOf tells whether an event is another one, or comes of it. What functions
// append is no ring of causes; what anybody may append can be.
func (n *node) isOf(other *node) bool {
	for ; n != nil; n = n.parent {
		if n == other {
			return true
		}
	}
	return false
}
