// Package paged reads events page by page, for backends: each page is a
// finished query, so that a reader that takes its time holds no connection and
// no snapshot.
package paged

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/waybill-go/waybill/eventstore"
)

// A page is what one query brings. The first is short: most readers want a few
// events.
const (
	firstPage = 64   // events
	maxPage   = 1024 // events

	// MaxBytes is how much data ends a page too, with the event that reaches it.
	MaxBytes = 1 << 20
)

// Query brings at most n events, the first of them behind after, which is nil
// at first. It stops after MaxBytes, and then says that there may be more. Its
// errors are those of eventstore.Store.
type Query func(ctx context.Context, after *eventstore.Event, n int) (events []eventstore.Event, more bool, err error)

// Events yields page after page, at most limit events if that is not zero. what
// begins the error of a context that ended.
func Events(ctx context.Context, what string, limit int, query Query) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		var after *eventstore.Event
		left := limit
		for n := firstPage; ; n = min(4*n, maxPage) {
			if limit > 0 {
				n = min(n, left)
			}
			if err := ctx.Err(); err != nil { // it may have ended while the page was looked at
				yield(eventstore.Event{}, fmt.Errorf("%s: %w", what, err))
				return
			}
			events, more, err := query(ctx, after, n)
			if err != nil {
				yield(eventstore.Event{}, err)
				return
			}
			for i := range events {
				if !yield(events[i], nil) {
					return
				}
			}
			left -= len(events)
			if !more && len(events) < n || limit > 0 && left == 0 {
				return
			}
			after = &events[len(events)-1]
		}
	}
}

// Source is what a backend reads a stream with.
type Source struct {
	// From makes the query of the events from a position on.
	From func(position uint64) Query
	// Await returns when there is an event behind a position.
	Await func(ctx context.Context, position uint64) error
}

// Stream yields what r asks for. what begins the error of a context that ended.
func Stream(ctx context.Context, what string, r eventstore.StreamRead, s Source) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		left, position := r.Limit, max(r.From, 1)-1
		for {
			limit := left
			if len(r.Types) > 0 {
				limit = 0 // what is passed over does not count
			}
			for e, err := range Events(ctx, what, limit, s.From(position+1)) {
				if err != nil {
					yield(e, err)
					return
				}
				position = e.Position
				if len(r.Types) > 0 && !slices.Contains(r.Types, e.Type) {
					continue
				}
				if !yield(e, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if !r.Follow {
				return
			}
			if err := s.Await(ctx, position); err != nil {
				if ctx.Err() != nil {
					err = fmt.Errorf("%s: %w", what, ctx.Err())
				}
				yield(eventstore.Event{}, err)
				return
			}
		}
	}
}

// Fails yields an error and nothing else.
func Fails(err error) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) { yield(eventstore.Event{}, err) }
}
