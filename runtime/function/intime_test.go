package function

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// mute is a store that answers nothing.
type mute struct{ eventstore.Store }

func (mute) Append(ctx context.Context, _ eventstore.Append) (eventstore.Appended, error) {
	<-ctx.Done()
	return eventstore.Appended{}, ctx.Err()
}

func (mute) ReadAggregate(ctx context.Context, _ eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		<-ctx.Done()
		yield(eventstore.Event{}, ctx.Err())
	}
}

// TestLate: whatever ends late in the store is the store's, and the message's
// where it may be: not an append that had all the time that one needs.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := inTime{mute{}, NewCache()}
		read := func(ctx context.Context) error {
			_, err := eventstore.Collect(store.ReadAggregate(ctx, eventstore.AggregateRead{}))
			return err
		}
		add := func(ctx context.Context) error {
			_, err := store.Append(ctx, eventstore.Append{})
			return err
		}
		for _, c := range []struct {
			what              string
			call              func(context.Context) error
			time              time.Duration
			unavailable, late bool
		}{
			{"read", read, 10 * time.Second, true, true},
			{"read in a hurry", read, time.Millisecond, true, true},
			{"append", add, 10 * time.Second, true, false},
			{"append in a hurry", add, time.Millisecond, true, true},
			{"read after the end", read, 0, false, false},
			{"append after the end", add, 0, false, false},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), c.time)
			err := c.call(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) != c.unavailable || errors.Is(err, ErrLate) != c.late {
				t.Errorf("%s: %v", c.what, err)
			}
		}
	})
}
