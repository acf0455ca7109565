package function

import (
	"context"
	"log/slog"
)

// Server is a door for a protocol of its own; made by [Serve].
type Server struct {
	protocol string
	// Open begins to serve; what it returns serves until it is stopped.
	Open func(Port) (Serving, error)
}

// Subject is the protocol's name.
func (d *Server) Subject() string { return d.protocol }
func (d *Server) whole() bool     { return d.Open != nil }

// Serve makes a door for a protocol that is not NATS's, like HTTP: it translates,
// and asks the functions that decide. What it listens on is among the function's
// Needs, so that an address that can't be had is told before anything starts.
func Serve(protocol string, open func(Port) (Serving, error)) Door {
	return &Server{protocol: protocol, Open: open}
}

// Serving is a server that runs.
type Serving interface {
	// Ready says why it takes nothing at present; nil if it does.
	Ready() error
	// Stop takes nothing more, and returns when what runs is finished; it breaks
	// off when ctx ends first.
	Stop(ctx context.Context) error
}

// Port is what a server has of the functions behind it. It is safe for
// concurrent use.
type Port interface {
	// Operation makes one kind of call known, and is what each such call goes
	// through. It is an endpoint of the function, and told as one: with its name,
	// [A-Za-z0-9_-]+, a subject like "POST /api/orders", and true stats.
	Operation(name, subject string) Operation
	// Ask asks the function that answers to the subject, and returns its reply's
	// JSON. A refusal of it is a *Refusal with its code and field; where nobody
	// answers, or not in time, one with CodeUnavailable. The cause in ctx goes
	// along: its id is the request's, its trace is continued.
	Ask(ctx context.Context, subject string, request []byte) ([]byte, error)
	// Follow has changed called with the aggregate of each event of the stream that
	// is relayed, and with an empty one when events may have passed unseen. It says
	// that there is something to read and no more: an event can be missed, and what
	// counts is in the event store. changed must not wait. Each call of Follow is
	// one subscription, until stop.
	Follow(stream string, changed func(aggregate string)) (stop func(), err error)
	// Logger is the function's.
	Logger() *slog.Logger
}

// Operation runs one call: at most the function's Concurrency at once, each at
// most its Deadline, panics caught. What it answers is what the caller may be
// told; nil if handle returned nil.
type Operation func(ctx context.Context, handle func(context.Context) error) *Refusal
