package function

import (
	"context"
	"time"
)

// Cause is the message that is being handled.
type Cause struct {
	// ID is the event's id, or the request's.
	ID string
	// CorrelationID is the flow's; empty when this message begins one.
	CorrelationID string
	// Traceparent is the W3C trace context the message came under; may be empty.
	Traceparent string
	// Time is when it was taken up, UTC.
	Time time.Time
}

type causeKey struct{}

// WithCause hands the cause to the handler; see [Now].
func WithCause(ctx context.Context, c Cause) context.Context {
	c.Time = c.Time.UTC().Truncate(time.Microsecond)
	return context.WithValue(ctx, causeKey{}, c)
}

// CauseOf is the message that is being handled; empty if none is.
func CauseOf(ctx context.Context) Cause {
	c, _ := ctx.Value(causeKey{}).(Cause)
	return c
}

type editedKey struct{}

// WithEdited says that the message's data is not what is stored under its
// position: it is decided on, and is no part of the aggregate's state.
func WithEdited(ctx context.Context) context.Context {
	return context.WithValue(ctx, editedKey{}, true)
}

func isEdited(ctx context.Context) bool { return ctx.Value(editedKey{}) != nil }

type verifyKey struct{}

// WithVerify has the event looked up in the event store before it is decided on:
// it has been in hand, or on its way, for so long that the store may have come
// back from a backup or a standby without it.
func WithVerify(ctx context.Context) context.Context {
	return context.WithValue(ctx, verifyKey{}, true)
}

func isToVerify(ctx context.Context) bool { return ctx.Value(verifyKey{}) != nil }

// Now is when the message in hand was taken up: UTC, in whole microseconds.
// All that one decision says of the time agrees.
func Now(ctx context.Context) time.Time {
	if c := CauseOf(ctx); !c.Time.IsZero() {
		return c.Time
	}
	return time.Now().UTC().Truncate(time.Microsecond)
}
