// Package paged reads events page by page, for backends: each page is a
// finished query, so that a reader that takes its time holds no connection and
// no snapshot.
package paged

import (
	"context"
	"fmt"
	"iter"

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

// Fails yields an error and nothing else.
func Fails(err error) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) { yield(eventstore.Event{}, err) }
}
