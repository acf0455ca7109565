package function

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/waybill-go/waybill/eventstore"
)

// inTime is a store whose slowness is its own: a handler whose time ends in it
// did not fail, so it must not be counted as if it had.
type inTime struct{ eventstore.Store }

// late is the error of a call that had time when it began.
func late(began, err error) error {
	if began == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: it did not answer in time: %w", eventstore.ErrUnavailable, err)
	}
	return err
}

func (s inTime) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	began := ctx.Err()
	done, err := s.Store.Append(ctx, a)
	return done, late(began, err)
}

func (s inTime) ReadAggregate(ctx context.Context, r eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		began := ctx.Err()
		for e, err := range s.Store.ReadAggregate(ctx, r) {
			if !yield(e, late(began, err)) {
				return
			}
		}
	}
}
