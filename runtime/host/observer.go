package host

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Observer watches what the doors of functions take in: for metrics and traces.
// It is told of every message that a door takes, by many at once, and must not
// wait.
type Observer interface {
	// Door is told of a door that no declaration names: a [function.Port]'s Operation.
	Door(function, subject string)
	// Observe is told of a message when it came.
	Observe(t Taken) Observation
	// Batch is told that a projection is handed events together: ctx is the
	// handler's, and done is told how it ended.
	Batch(ctx context.Context, events []Observation) (_ context.Context, done func(error))
}

// Taken is a message that a door took in.
type Taken struct {
	// Function is the function's name, Door the subject that the door listens
	// to, and Subject that of the message. Doors of events that only arm timers
	// listen to all of them, as ORDERS.>.
	Function, Door, Subject string
	Header                  nats.Header
	Size                    int // of the body, in bytes
	At                      time.Time
	// Stream is where an event comes from, with its position there, and how often it
	// was delivered; empty of a request.
	Stream     string
	Position   uint64
	Deliveries uint64
}

// Observation follows one message until its door is done with it. It is used by
// one goroutine after the other.
type Observation interface {
	// Context is ctx with what belongs to the message.
	Context(ctx context.Context) context.Context
	// Traceparent is the W3C trace context for what is asked of others meanwhile;
	// empty to go on under the message's own.
	Traceparent() string
	// Begin is told that a handler begins; more than once when it is tried again
	// while the message is in hand.
	Begin()
	// Settle is told the outcome, once, with what the stats of nats micro say too:
	// a request's code, an event's fate.
	Settle(outcome string, took time.Duration, err error)
	// Buried is told that the message became a dead letter.
	Buried(letter, reason string)
	// End is told, once, that the message is out of hand. One that was never
	// settled was given back as it came.
	End()
}

// nobody is the observer of a host that has none.
type nobody struct{}

func (nobody) Door(string, string)       {}
func (nobody) Observe(Taken) Observation { return nobody{} }
func (nobody) Batch(ctx context.Context, _ []Observation) (context.Context, func(error)) {
	return ctx, func(error) {}
}
func (nobody) Context(ctx context.Context) context.Context { return ctx }
func (nobody) Traceparent() string                         { return "" }
func (nobody) Begin()                                      {}
func (nobody) Settle(string, time.Duration, error)         {}
func (nobody) Buried(string, string)                       {}
func (nobody) End()                                        {}
