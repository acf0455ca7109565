package function

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// Fate is what becomes of an event after its handler returned.
type Fate int

const (
	// Handled: acknowledged, never seen again.
	Handled Fate = iota
	// Buried: appended to DEADLETTERS with its reason, then acknowledged.
	Buried
	// GivenBack: another process may have it at once. Not counted.
	GivenBack
	// Yielded: comes again after a short while. Not counted.
	Yielded
	// Held: kept in hand and tried again until the store is back. Not counted.
	Held
	// Failed: counted, and comes again after a backoff; buried at the last
	// attempt.
	Failed
)

// String is the fate's name: handled, given_back.
func (f Fate) String() string {
	return [...]string{"handled", "buried", "given_back", "yielded", "held", "failed"}[f]
}

// FateOf is the one table that tells a handler's error from another. (A message
// that ends the process again and again never comes that far: see the host.)
//
//	handler returns                    fate        counted
//	nil                                Handled     -
//	a Refusal, an invalid append,
//	  ids taken by something else      Buried      -
//	ErrDecode                          Buried      -
//	anything while stopping            GivenBack   no
//	ErrConflicts                       Yielded     no
//	store unavailable or overloaded    Held        no
//	ErrLate, and the store answers     Failed      yes: see the host
//	anything else, a panic, deadline   Failed      yes
func FateOf(err error, stopping bool) Fate {
	var (
		invalid *eventstore.InvalidError
		taken   *eventstore.IDError
	)
	switch {
	case err == nil:
		return Handled
	case isRefusal(err), errors.Is(err, ErrDecode), errors.As(err, &invalid), errors.As(err, &taken):
		return Buried
	case stopping:
		return GivenBack
	case errors.Is(err, ErrConflicts):
		return Yielded
	case errors.Is(err, eventstore.ErrUnavailable), errors.Is(err, eventstore.ErrOverloaded):
		return Held
	default:
		return Failed
	}
}

// BackoffAfter is how long to wait after the failures-th failed attempt:
// f.Backoff, doubled each time, at most MaxBackoff, give or take a fifth.
func (f Function) BackoffAfter(failures int) time.Duration {
	wait := f.Backoff
	for i := 1; i < failures && wait < MaxBackoff; i++ {
		wait *= 2
	}
	return Jitter(min(wait, MaxBackoff))
}

// Jitter is d give or take a fifth, so that those who failed together do not
// come again together.
func Jitter(d time.Duration) time.Duration {
	fifth := int64(d) / 5
	if fifth == 0 {
		return d
	}
	return d + time.Duration(rand.Int64N(2*fifth+1)-fifth) //nolint:gosec // no secret
}

// errIDUsed is told to who sends another request under an id.
var errIDUsed = &Refusal{Code: CodeConflict, Reason: "this id was used for something else"}

// RefusalOf is what a caller is told of a handler's error; nil if nothing but
// that something went wrong here.
func RefusalOf(err error, stopping bool) *Refusal {
	var (
		refusal *Refusal
		invalid *eventstore.InvalidError
		taken   *eventstore.IDError
	)
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &invalid):
		return &Refusal{Code: CodeInvalid, Field: invalid.Field, Reason: invalid.Reason}
	case errors.As(err, &taken):
		return errIDUsed
	case errors.Is(err, ErrConflicts):
		return &Refusal{Code: CodeConflict, Reason: "it is being changed by others at this moment; try again"}
	case errors.Is(err, eventstore.ErrOverloaded):
		return &Refusal{Code: CodeOverloaded, Reason: "too much at once; try again later"}
	case errors.Is(err, eventstore.ErrUnavailable):
		return &Refusal{Code: CodeUnavailable, Reason: "something that is needed can't be reached; try again later"}
	case stopping && errors.Is(err, context.Canceled):
		return &Refusal{Code: CodeUnavailable, Reason: "this process is stopping; try again"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Refusal{Code: CodeUnavailable, Reason: "it took too long; try again later"}
	default:
		return nil
	}
}
