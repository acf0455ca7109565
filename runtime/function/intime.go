package function

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// inTime is a store whose slowness is its own: a handler whose time ends in it
// did not fail, so it must not be counted as if it had. After one that was away
// nothing is remembered: it may come back with less than it had.
type inTime struct {
	eventstore.Store
	cache *Cache
}

func (s inTime) seen(err error) error {
	if errors.Is(err, eventstore.ErrUnavailable) {
		s.cache.known.Purge()
	}
	return err
}

// appendTime is what a store needs for an append at the very most, however many
// wait. One that was given as much and ended late was not late by its message's
// fault: a store may well answer reads and hang on every commit.
const appendTime = time.Second

// late is the error of a call that had time when it began.
func late(began, err error) error {
	if began == nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, eventstore.ErrUnavailable) {
		return fmt.Errorf("%w: %w: %w", eventstore.ErrUnavailable, ErrLate, err)
	}
	return err
}

func (s inTime) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	began := ctx.Err()
	until, bounded := ctx.Deadline()
	enough := !bounded || time.Until(until) >= appendTime
	done, err := s.Store.Append(ctx, a)
	if enough && began == nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: it did not answer in time: %w", eventstore.ErrUnavailable, err)
	}
	return done, s.seen(late(began, err))
}

func (s inTime) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		began := ctx.Err()
		for e, err := range s.Store.ReadAggregate(ctx, r) {
			if !yield(e, s.seen(late(began, err))) {
				return
			}
		}
	}
}
