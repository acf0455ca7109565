package function

import (
	"errors"
	"fmt"

	"github.com/waybill-go/waybill/eventstore"
)

// Code is the kind of a refusal. Its number is the endpoint's error code.
type Code int

// The codes an endpoint answers with.
const (
	CodeInvalid     Code = 400 // the request is malformed; the field says where
	CodeNotFound    Code = 404 // no such thing
	CodeConflict    Code = 409 // not in the present state, or another came first
	CodeRejected    Code = 422 // understood, and refused by a rule
	CodeOverloaded  Code = 429 // a queue is full; try again later
	CodeInternal    Code = 500 // our fault; the text names an error id, in the log too
	CodeUnavailable Code = 503 // draining, or the store is away; try again
)

// Refusal is an error that a caller may see: its text is shown as it is.
// Every other error is shown as an internal one.
type Refusal struct {
	Code Code
	// Field is what of the request is wrong; empty where that makes no sense.
	Field string
	// Reason says what is wrong with it, and what is allowed.
	Reason string
}

func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Reason
	}
	return r.Field + ": " + r.Reason
}

// Invalid refuses a request for a field that can't be right.
func Invalid(field, format string, args ...any) error {
	return &Refusal{Code: CodeInvalid, Field: field, Reason: fmt.Sprintf(format, args...)}
}

// NotFound refuses a request for something that isn't there.
func NotFound(field, format string, args ...any) error {
	return &Refusal{Code: CodeNotFound, Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Conflict refuses a request that does not go with the present state.
func Conflict(field, format string, args ...any) error {
	return &Refusal{Code: CodeConflict, Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Reject refuses for good, by a rule of the domain. An event that is rejected
// becomes a dead letter at once.
func Reject(format string, args ...any) error {
	return &Refusal{Code: CodeRejected, Reason: fmt.Sprintf(format, args...)}
}

// ErrDecode says that a message is not what its door expects. It can never
// succeed, so the message becomes a dead letter.
var ErrDecode = errors.New("message is not of the expected shape")

// ErrConflicts says that an append met a conflict as often as it was tried.
var ErrConflicts = errors.New("aggregate keeps changing")

// ErrUnavailable says that something a handler needs is away: a database, the
// event store. The event waits in hand until it is back, and is not counted.
var ErrUnavailable = eventstore.ErrUnavailable

// ErrLate says that a handler's time ended in a call of the event store. That is
// ErrUnavailable too, since a store that is slow or away does that; but where the
// store answers others it is this message that takes it too long.
var ErrLate = errors.New("it did not answer in time")
