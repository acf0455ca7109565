package function

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/go-json-experiment/json"

	"github.com/waybill-go/waybill/eventstore"
)

// State is what the events of one kind of aggregate fold to. Its zero value is
// an aggregate without events. S is the state itself, D its events.
type State[S any, D DomainEvent] interface {
	// Stream names the stream that holds the aggregates.
	Stream() string
	// Decode makes an event of what is stored: its type, the number of its
	// schema and its JSON. It lifts older schemas, and knows what to make of a
	// type that it does not know.
	Decode(typ string, schema int, data []byte) (D, error)
	// Evolve is the state after the event. It decides nothing.
	Evolve(event D) S
}

// DomainEvent is an event as the domain knows it. It is stored as JSON, under
// its type. An event whose schema is not 1 has a method EventSchema() int.
type DomainEvent interface {
	// EventType is in the past tense, and matches [a-z][a-z0-9]{0,31}.
	EventType() string
}

// Message is an event with its envelope, as it is stored.
type Message = eventstore.Event

// Log reads one stream.
type Log interface {
	// ReadAggregate yields an aggregate's events from a version on.
	ReadAggregate(ctx context.Context, aggregate string, from uint64) iter.Seq2[Message, error]
}

// Event is a door for one type of event; made by [On].
type Event struct {
	Stream, Type string
	// Handle decodes, loads, decides and appends; nil means handled.
	Handle func(ctx context.Context, run *Runner, m Message) error

	event   *schema
	related func([]Message) (map[string][]string, error) // see Related
}

// Subject is STREAM.type.
func (d *Event) Subject() string { return d.Stream + "." + d.Type }
func (d *Event) whole() bool     { return d.Handle != nil }

// On makes a door for the events of type E: the aggregate's state is loaded,
// handle decides, and what it returns is appended at the version it saw. When
// another was faster it is loaded and decided again. handle must have no
// effect but on what is idempotent by the event's id or the aggregate's, as with
// [Once].
//
// A function may have several such doors, all of one stream; events of other
// types are acknowledged unseen. A door that a later release adds takes what its
// durable has not passed, and replicas of a release before that has several doors
// would pass its events by: stop those first. One that has one door is waited for.
//
// A message can come late, twice, and in another order than its neighbours:
// handle looks at the state, and returns nothing when there is nothing to do.
func On[S State[S, D], D DomainEvent, E DomainEvent](handle func(ctx context.Context, state S, event E) ([]D, error)) Door {
	var zero S
	var event E
	stream, typ := zero.Stream(), event.EventType()
	if handle == nil {
		return &Event{Stream: stream, Type: typ} // which Check refuses
	}
	return &Event{Stream: stream, Type: typ, event: schemaOf[E](), related: relatedOf[S], Handle: func(ctx context.Context, run *Runner, m Message) error {
		next, err := decodeMessage[S](ctx, m)
		if err != nil {
			return err
		}
		event, ok := any(next.event).(E)
		if !ok {
			return fmt.Errorf("decode %s at position %d: %w: got a %T", m.Type, m.Position, ErrDecode, next.event)
		}
		_, _, err = decide(WithCause(ctx, causeBy(ctx, m)), run, m.Aggregate, next, m.ID, func(ctx context.Context, state S) ([]D, error) {
			return handle(ctx, state, event)
		})
		return err
	}}
}

// causeBy is the cause that a message is.
func causeBy(ctx context.Context, m Message) Cause {
	return Cause{ID: m.ID, CorrelationID: m.CorrelationID, Traceparent: m.Traceparent, Time: Now(ctx)}
}

// decodeMessage makes a domain event of a message.
func decodeMessage[S State[S, D], D DomainEvent](ctx context.Context, m Message) (*arrived[D], error) {
	var zero S
	event, err := zero.Decode(m.Type, m.Schema, m.Data)
	if err != nil {
		return nil, fmt.Errorf("decode %s at position %d: %w: %w", m.Type, m.Position, ErrDecode, err)
	}
	next := &arrived[D]{event: event, version: m.Version, size: m.Size()}
	if isEdited(ctx) {
		next.version = 0 // the state is what is stored, and not this
	}
	return next, nil
}

// Projection is a door for every event of a stream; made by [Project].
type Projection struct {
	Stream string
	// Apply handles a batch: events in the order of their positions.
	Apply func(ctx context.Context, log Log, batch []Message) error
	// Rebuild is nil where the view can't be made anew beside itself.
	Rebuild Rebuild
}

// RebuiltBy says how the view is made anew, which the command rebuild
// then does.
func (d *Projection) RebuiltBy(rebuild Rebuild) *Projection {
	d.Rebuild = rebuild
	return d
}

// Subject is STREAM.>.
func (d *Projection) Subject() string { return d.Stream + ".>" }
func (d *Projection) whole() bool     { return d.Apply != nil }

// Project makes a door for all events of a stream, in batches. A batch is
// acknowledged when apply returns nil. Events may come again, and those of one
// aggregate may have gaps when several processes share the work: apply skips
// the versions it has, and reads those it misses from the log. One that came before
// comes alone, after the others: apply fails for it without holding them up for longer
// than the function's Deadline, or twice that at its first attempt.
func Project(stream string, apply func(ctx context.Context, log Log, batch []Message) error) *Projection {
	return &Projection{Stream: stream, Apply: apply}
}

// Request is a door for requests; made by [Create], [Command], [Read],
// [Endpoint] or [Query].
type Request struct {
	subject string
	// Stream is what it reads and appends to; empty for an Endpoint.
	Stream string
	// Prepare decodes and checks a request. What it returns answers it.
	Prepare func(data []byte) (Prepared, error)

	request, reply *schema
	related        func([]Message) (map[string][]string, error) // see Related; nil if it knows no State
}

// Prepared is a request that is decoded and checked.
type Prepared struct {
	// Aggregate is what it is about: never two of one at once in a process.
	// Empty if about none.
	Aggregate string
	// Answer handles it; the reply is JSON.
	Answer func(ctx context.Context, run *Runner) (any, error)
}

// Subject is what callers send requests to.
func (d *Request) Subject() string { return d.subject }
func (d *Request) whole() bool     { return d.Prepare != nil }

// Addressed is a request about one aggregate. An id that can be none is refused,
// under the name of its field. Where *R has a method
// Check() error it is called after decoding: it fills what may be left out,
// and refuses what is wrong with [Invalid], or with an error that has a method
// Invalid() (field, reason string).
type Addressed interface {
	AggregateID() string
}

// Create makes a door for requests that make an aggregate: decide gets the
// zero state, and what it returns is appended as the aggregate's first events,
// under ids derived from the aggregate's id. When it was made before, decide
// gets it as it was made then: it returns nothing if this is the same request
// again, and a [Conflict] if it is another. The reply is the aggregate as it
// was made.
func Create[S State[S, D], D DomainEvent, R Addressed](subject string, decide func(ctx context.Context, state S, request R) ([]D, error)) Door {
	return addressed(subject, decide, create)
}

// Command makes a door for requests to an aggregate: its state is loaded,
// decide decides, and what it returns is appended at the version it saw. When
// another was faster it is loaded and decided again. The reply is the state
// after that. An aggregate that is not there is refused with [NotFound].
func Command[S State[S, D], D DomainEvent, R Addressed](subject string, decide func(ctx context.Context, state S, request R) ([]D, error)) Door {
	return addressed(subject, decide, command)
}

// Read makes a door for requests for an aggregate: the reply is its latest state.
// One that is not there is refused with [NotFound].
func Read[S State[S, D], R Addressed, D DomainEvent](subject string) Door {
	return Command(subject, func(context.Context, S, R) ([]D, error) { return nil, nil })
}

// addressed makes a door for requests about one aggregate, which run has
// decided on.
func addressed[S State[S, D], D DomainEvent, R Addressed](subject string, decide func(context.Context, S, R) ([]D, error),
	run func(ctx context.Context, r *Runner, aggregate string, decision func(context.Context, S) ([]D, error)) (S, error),
) Door {
	var zero S
	takes := schemaOfRequest[R]()
	door := &Request{subject: subject, Stream: zero.Stream(), request: takes, reply: schemaOf[S](), related: relatedOf[S]}
	if decide == nil {
		return door // which Check refuses
	}
	door.Prepare = func(data []byte) (Prepared, error) {
		request, err := decode[R](data, takes)
		if err != nil {
			return Prepared{}, err
		}
		id := request.AggregateID()
		if err := eventstore.CheckID(fieldOf(request, id), id); err != nil {
			return Prepared{}, err
		}
		return Prepared{Aggregate: id, Answer: func(ctx context.Context, r *Runner) (any, error) {
			state, err := run(ctx, r, id, func(ctx context.Context, state S) ([]D, error) {
				return decide(ctx, state, request)
			})
			if errors.Is(err, errNotThere) {
				err = NotFound(fieldOf(request, id), "there is no %q in %s", id, state.Stream())
			}
			return state, err
		}}, nil
	}
	return door
}

// Endpoint makes a door for requests that are about no aggregate of the
// function's own. What answer returns is the reply, and nothing is appended for
// it; answer may append by [Once].
func Endpoint[R, A any](subject string, answer func(ctx context.Context, request R) (A, error)) Door {
	takes := schemaOfRequest[R]()
	if answer == nil {
		return &Request{subject: subject} // which Check refuses
	}
	return &Request{subject: subject, request: takes, reply: schemaOf[A](), Prepare: func(data []byte) (Prepared, error) {
		request, err := decode[R](data, takes)
		if err != nil {
			return Prepared{}, err
		}
		return Prepared{Answer: func(ctx context.Context, run *Runner) (any, error) {
			return answer(withRunner(ctx, run), request)
		}}, nil
	}}
}

// Query makes a door for requests that read a stream's events. It appends nothing,
// by [Once] neither.
func Query[R, A any](subject, stream string, answer func(ctx context.Context, log Log, request R) (A, error)) Door {
	takes := schemaOfRequest[R]()
	if answer == nil {
		return &Request{subject: subject, Stream: stream} // which Check refuses
	}
	return &Request{subject: subject, Stream: stream, request: takes, reply: schemaOf[A](), Prepare: func(data []byte) (Prepared, error) {
		request, err := decode[R](data, takes)
		if err != nil {
			return Prepared{}, err
		}
		return Prepared{Answer: func(ctx context.Context, run *Runner) (any, error) {
			return answer(ctx, run.Log(stream), request)
		}}, nil
	}}
}

// Encode is a domain event as it is stored: its JSON, and the number of its
// schema.
func Encode(e DomainEvent) (data []byte, schema int, err error) {
	data, err = json.Marshal(e, json.Deterministic(true))
	if err != nil {
		return nil, 0, fmt.Errorf("encode %s: %w", e.EventType(), err)
	}
	schema = 1
	if s, ok := e.(interface{ EventSchema() int }); ok {
		schema = s.EventSchema()
	}
	return data, schema, nil
}
