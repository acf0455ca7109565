package eventstore

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrOverloaded says that a queue is full. Nothing was stored; try again
	// later.
	ErrOverloaded = errors.New("event store is overloaded")

	// ErrUnavailable says that the database can't be reached or is closing.
	// Whether an append was stored is unknown; repeating it with the same
	// event ids is safe.
	ErrUnavailable = errors.New("not available now")
)

// ConflictError says that an aggregate was not at the expected version.
type ConflictError struct {
	Stream    string
	Aggregate string
	Expected  Expected
	Actual    uint64
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("append to %s %q: expected %s, is at version %d",
		e.Stream, e.Aggregate, e.Expected, e.Actual)
}

// String tells the expectation in words.
func (e Expected) String() string {
	switch e {
	case Any:
		return "any version"
	case New:
		return "a new aggregate"
	default:
		return fmt.Sprintf("version %d", int64(e))
	}
}

// IDError says that an append's event ids are in the stream already, but not
// as one append of the same events to the same aggregate.
type IDError struct {
	Stream string
	// ID is the first id that is taken.
	ID string
	// Aggregate is where that id is.
	Aggregate string
	// Reason tells what differs.
	Reason string
}

func (e *IDError) Error() string {
	return fmt.Sprintf("append to %s: event id %q is taken by aggregate %q: %s",
		e.Stream, e.ID, e.Aggregate, e.Reason)
}

// InvalidError says that a request can never succeed, and which of its fields
// is wrong.
type InvalidError struct {
	// Field is the path of the field: "aggregate", "events[2].type".
	Field string
	// Reason says what is wrong with it, and what is allowed.
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// Away wraps a database's error as one that is worth a retry, ErrUnavailable,
// unless it is the caller's context that ended. It is for backends.
func Away(ctx context.Context, what string, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%s: %w", what, ended)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}
