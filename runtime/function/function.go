// Package function says what a function is: the smallest thing that Waybill
// deploys, scales and watches, and what becomes of what it is given.
//
// A [Function] is one value: its name, what it does, its limits, and its
// doors. A door is a way in:
//
//	On(handle)                      an event of a stream, to decide on its aggregate
//	Create(subject, decide)         a request that makes an aggregate
//	Command(subject, decide)        a request to an aggregate that is there
//	Read(subject)                   a request for an aggregate that is there
//	Project(stream, apply)          every event of a stream, to keep a view
//	Endpoint(subject, answer)       a request about no aggregate of its own
//	Query(subject, stream, answer)  a request that only reads, a stream's events too
//	Timer(deadlines)                time that passed for an aggregate that waits
//	Serve(protocol, open)           a protocol of its own, like HTTP, for the others
//
// A function may have several of them; its events are all of one stream.
//
// On, Create, Command and Timer append what their handlers return, to the aggregate
// that the message is about. Those handlers, and an Endpoint's, may append to another
// aggregate by [Once]. Read, Project, Query and Serve append nothing.
//
// What a handler returns decides the fate of what it was given: see [Fate].
//
// The package knows no transport: runtime/host opens the doors on NATS, and
// runtime/functiontest tests them without.
package function

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"time"
)

// Function is one deployable step. Its name is the name of its micro service,
// of its queue group and of its durable consumer.
type Function struct {
	// Name matches [a-z][a-z0-9-]{0,31}.
	Name string
	// Description is one line for people: nats micro ls shows it.
	Description string
	// Release is its semantic version, like 1.2.0. Default the program's.
	Release string
	// Doors are the ways in, at least one; their subjects differ.
	Doors []Door
	// Needs is what must be open while the function runs. A resource that
	// several functions need is opened once in a process.
	Needs []Resource

	// Concurrency is how many messages each door handles at once in this
	// process; never two of one aggregate. Default 64.
	Concurrency int
	// Deadline is how long one message may be handled. Default 10 s.
	Deadline time.Duration
	// Attempts is how often an event is tried before it becomes a dead letter.
	// Default 5.
	Attempts int
	// Backoff is the wait before the second attempt; it doubles from there, to
	// at most a minute. Default 500 ms.
	Backoff time.Duration
	// Start says where a new durable begins. Default FromBeginning.
	Start Start
	// Scale bounds how many processes run the function.
	Scale Scale
}

// Scale says how many replicas of a function, each a process, there are to be:
// where something scales it, like waybill up --processes or KEDA.
type Scale struct {
	// Min is the least. Default 0 for a function that only takes events, since
	// they wait; 1 for one that answers requests, which don't, or has a timer,
	// which somebody must arm again after a loss.
	Min int
	// Max is the most. Default 4, and Min for a function that takes no events:
	// nothing waits anywhere that would tell how many it needs.
	Max int
	// TargetLag is how many events may wait for each replica. Default 1000: what
	// one handles in about a second, so that another, which needs half a second to
	// start, is worth it.
	TargetLag int
}

// Start says where a new durable consumer begins.
type Start int

const (
	// FromBeginning handles the stream's whole history first.
	FromBeginning Start = iota
	// FromNow handles what is appended after the durable was made.
	FromNow
)

// Resource is something a function needs open while it runs: a database, a
// connection to a provider. The program sets the fields of Config from its
// settings before it calls Open.
type Resource interface {
	// Config points to the resource's settings, a struct for package config;
	// nil if it has none.
	Config() any
	Open(ctx context.Context) error
	Close() error
}

// Configured is a resource that has settings, a struct for package config, and
// nothing to open. A type that embeds it is one too.
type Configured[T any] struct{ Settings T }

// Config implements Resource.
func (c *Configured[T]) Config() any { return &c.Settings }

// Open implements Resource.
func (*Configured[T]) Open(context.Context) error { return nil }

// Close implements Resource.
func (*Configured[T]) Close() error { return nil }

// Needs lists those of the values that are resources, so that a port can be
// given with one that needs opening or one that does not.
func Needs(values ...any) []Resource {
	var needs []Resource
	for _, v := range values {
		if r, ok := v.(Resource); ok {
			needs = append(needs, r)
		}
	}
	return needs
}

// Door is a way into a function: one of the types *Event, *Projection, *Timed,
// *Request and *Server.
type Door interface {
	// Subject is what the door listens to: ORDERS.created, orders.place.
	Subject() string
	// whole tells whether it has its handler.
	whole() bool
}

// Defaults and bounds of a Function's limits.
const (
	DefaultConcurrency = 64
	DefaultDeadline    = 10 * time.Second
	DefaultAttempts    = 5
	DefaultBackoff     = 500 * time.Millisecond
	DefaultReplicas    = 4
	DefaultTargetLag   = 1000

	MaxConcurrency = 1024
	MaxDeadline    = 10 * time.Minute
	MaxAttempts    = 100
	MaxBackoff     = time.Minute
	MaxDoors       = 32
	MaxReplicas    = 1000
	MaxTargetLag   = 1_000_000
)

var (
	nameGrammar    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	releaseGrammar = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?$`)
)

// WithDefaults returns f with the defaults where it says nothing.
func (f Function) WithDefaults() Function {
	if f.Concurrency == 0 {
		f.Concurrency = DefaultConcurrency
	}
	if f.Deadline == 0 {
		f.Deadline = DefaultDeadline
	}
	if f.Attempts == 0 {
		f.Attempts = DefaultAttempts
	}
	if f.Backoff == 0 {
		f.Backoff = DefaultBackoff
	}
	f.Scale = f.scale()
	return f
}

// scale is Scale with the defaults for its doors.
func (f Function) scale() Scale {
	s := f.Scale
	consumes, stays := f.doors()
	if s.Min == 0 && stays {
		s.Min = 1
	}
	if s.Max == 0 {
		if s.Max = s.Min; consumes {
			s.Max = max(s.Min, DefaultReplicas)
		}
	}
	if s.TargetLag == 0 {
		s.TargetLag = DefaultTargetLag
	}
	return s
}

// doors tells whether it takes events, and whether one replica at least must
// stay when none come.
func (f Function) doors() (consumes, stays bool) {
	for _, d := range f.Doors {
		switch d.(type) {
		case *Request, *Server:
			stays = true
		case *Timed:
			consumes, stays = true, true
		default:
			consumes = true
		}
	}
	return consumes, stays
}

// Check says what is wrong with the declaration; a mistake of its author.
func (f Function) Check() error {
	wrong := func(field, format string, args ...any) error {
		return fmt.Errorf("declare function %q: %s %s", f.Name, field, fmt.Sprintf(format, args...))
	}
	switch f = f.WithDefaults(); {
	case !nameGrammar.MatchString(f.Name):
		return wrong("Name", "does not match %s", nameGrammar)
	case f.Release != "" && !releaseGrammar.MatchString(f.Release):
		return wrong("Release", "is %q; it must be a semantic version, like 1.2.0", f.Release)
	case len(f.Doors) == 0 || len(f.Doors) > MaxDoors:
		return wrong("Doors", "are %d; a function has 1 to %d", len(f.Doors), MaxDoors)
	case f.Concurrency < 1 || f.Concurrency > MaxConcurrency:
		return wrong("Concurrency", "is %d; allowed are 1 to %d", f.Concurrency, MaxConcurrency)
	case f.Deadline < time.Millisecond || f.Deadline > MaxDeadline:
		return wrong("Deadline", "is %v; allowed are 1ms to %v", f.Deadline, MaxDeadline)
	case f.Attempts < 1 || f.Attempts > MaxAttempts:
		return wrong("Attempts", "are %d; allowed are 1 to %d", f.Attempts, MaxAttempts)
	case f.Backoff < time.Millisecond || f.Backoff > MaxBackoff:
		return wrong("Backoff", "is %v; allowed are 1ms to %v", f.Backoff, MaxBackoff)
	case f.Scale.Min < 0 || f.Scale.Min > MaxReplicas:
		return wrong("Scale.Min", "is %d; allowed are 0 to %d", f.Scale.Min, MaxReplicas)
	case f.Scale.Max < 1 || f.Scale.Max < f.Scale.Min || f.Scale.Max > MaxReplicas:
		return wrong("Scale.Max", "is %d; allowed are %d to %d", f.Scale.Max, max(1, f.Scale.Min), MaxReplicas)
	case f.Scale.TargetLag < 1 || f.Scale.TargetLag > MaxTargetLag:
		return wrong("Scale.TargetLag", "is %d; allowed are 1 to %d", f.Scale.TargetLag, MaxTargetLag)
	}
	if reason := f.checkDoors(); reason != "" {
		return wrong("Doors", "%s", reason)
	}
	return nil
}

// checkDoors says what is wrong with the doors; empty if nothing is.
func (f Function) checkDoors() string {
	seen := map[string]bool{}
	stream, projection, consumers := "", "", 0
	for i, d := range f.Doors {
		if isNil(d) {
			return fmt.Sprintf("have nil as number %d", i+1)
		}
		if !d.whole() {
			return fmt.Sprintf("have no handler at %q: it is nil", d.Subject())
		}
		if seen[d.Subject()] {
			return fmt.Sprintf("have the subject %q twice", d.Subject())
		}
		seen[d.Subject()] = true
		if _, err := Schemas(d); err != nil {
			return fmt.Sprintf("have a type without a JSON schema at %s: %v", d.Subject(), err)
		}
		its := stream
		switch d := d.(type) {
		case *Event:
			its = d.Stream
		case *Timed:
			its = d.Stream
		case *Projection:
			its, projection = d.Stream, d.Stream
		case *Request:
			if !isSubject(d.subject) {
				return fmt.Sprintf("have the subject %q; a request's subject is words of [A-Za-z0-9_-] with dots between", d.subject)
			}
			continue
		}
		if consumers++; stream != "" && its != stream {
			return fmt.Sprintf("take events of %s and of %s; a function takes those of one stream, on which it has its durable", stream, its)
		}
		stream = its
	}
	if projection != "" && consumers > 1 {
		return fmt.Sprintf("take all events of %s in batches, and others beside; a projection is the one event door of its function", projection)
	}
	return ""
}

// isNil tells of a door that is none, which no Subject can be asked of.
func isNil(d Door) bool {
	return d == nil || reflect.ValueOf(d).IsNil() // a Door is a pointer
}

var subjectGrammar = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isSubject(s string) bool { return len(s) <= 128 && subjectGrammar.MatchString(s) }
