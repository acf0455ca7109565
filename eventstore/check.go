package eventstore

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// The limits of the contract.
const (
	MaxEventBytes   = 512 << 10 // one event with its metadata
	MaxAppendBytes  = 3 << 20   // all events of one append
	MaxAppendEvents = 100
	MaxStreamName   = 32
	MaxID           = 64
	MaxType         = 32
	MaxTypes        = 32   // that a read may ask for
	MaxMetadata     = 256  // source, causation id, correlation id, traceparent
	MaxLast         = 1000 // events that a read of the last n may ask for
	MaxSchema       = 1 << 20
	// MaxPosition bounds positions and versions: every JSON number reader can
	// hold one exactly.
	MaxPosition = 1 << 53
)

// Check says what of the append is against the contract, as an
// [InvalidError]. Every implementation of Store calls it first.
func (a Append) Check() error {
	if err := CheckStream(a.Stream); err != nil {
		return err
	}
	if err := CheckID("aggregate", a.Aggregate); err != nil {
		return err
	}
	if a.Expected < Any || a.Expected > MaxPosition {
		return invalid("expected", "is %d; allowed are -1 (any), 0 (new) and versions", int64(a.Expected))
	}
	if n := len(a.Events); n == 0 || n > MaxAppendEvents {
		return invalid("events", "are %d; an append has 1 to %d", n, MaxAppendEvents)
	}
	total := 0
	for i, e := range a.Events {
		e.Stream, e.Aggregate = a.Stream, a.Aggregate
		if err := e.check(); err != nil {
			err.Field = fmt.Sprintf("events[%d].%s", i, err.Field)
			return err
		}
		total += e.Size()
	}
	if err := checkTwice(a.Events); err != nil {
		return err
	}
	if total > MaxAppendBytes {
		return invalid("events", "take %d bytes; an append has at most %d", total, MaxAppendBytes)
	}
	return nil
}

// checkTwice refuses an id that two of the events have.
func checkTwice(events []Event) error {
	if len(events) < 2 {
		return nil
	}
	ids := make(map[string]int, len(events))
	for i, e := range events {
		if first, dup := ids[e.ID]; dup {
			return invalid(fmt.Sprintf("events[%d].id", i), "%q is the id of events[%d] too", e.ID, first)
		}
		ids[e.ID] = i
	}
	return nil
}

// check names the field without its path: on the way of every append, a path
// is made only when it is needed.
func (e Event) check() *InvalidError {
	if !IsID(e.ID) {
		return invalidID("id", e.ID)
	}
	if !isType(e.Type) {
		return invalid("type", "is %s; a type matches [a-z][a-z0-9]{0,%d}", quote(e.Type), MaxType-1)
	}
	if e.Schema < 0 || e.Schema > MaxSchema {
		return invalid("schema", "is %d; allowed are 0 to %d", e.Schema, MaxSchema)
	}
	if y := e.Time.UTC().Year(); !e.Time.IsZero() && (y < 1970 || y > 9999) {
		return invalid("time", "is in the year %d; allowed are 1970 to 9999", y)
	}
	for _, m := range [...]struct{ name, value string }{
		{"source", e.Source},
		{"causation_id", e.CausationID},
		{"correlation_id", e.CorrelationID},
		{"traceparent", e.Traceparent},
	} {
		if !isMetadata(m.value) {
			return invalid(m.name, "is %s; allowed are at most %d printable ASCII characters, no space at the ends",
				quote(m.value), MaxMetadata)
		}
	}
	if n := e.Size(); n > MaxEventBytes {
		return invalid("data", "makes the event %d bytes with its metadata; an event has at most %d", n, MaxEventBytes)
	}
	if !utf8.Valid(e.Data) || !json.Valid(e.Data) {
		return invalid("data", "is no JSON value in UTF-8")
	}
	return nil
}

// Check says what of the read is against the contract, as an [InvalidError].
func (r AggregateRead) Check() error {
	if err := CheckStream(r.Stream); err != nil {
		return err
	}
	if err := CheckID("aggregate", r.Aggregate); err != nil {
		return err
	}
	if r.From > MaxPosition {
		return invalid("from", "is %d; allowed are 0 to %d", r.From, MaxPosition)
	}
	if r.Last < 0 || r.Last > MaxLast {
		return invalid("last", "is %d; allowed are 0 to %d", r.Last, MaxLast)
	}
	if r.Last > 0 && r.From > 0 {
		return invalid("last", "does not go with from")
	}
	return nil
}

// Check says what of the read is against the contract, as an [InvalidError].
func (r StreamRead) Check() error {
	if err := CheckStream(r.Stream); err != nil {
		return err
	}
	if r.From > MaxPosition {
		return invalid("from", "is %d; allowed are 0 to %d", r.From, MaxPosition)
	}
	if r.Limit < 0 {
		return invalid("limit", "is %d; allowed are 0 (all) and up", r.Limit)
	}
	if len(r.Types) > MaxTypes {
		return invalid("types", "are %d; allowed are at most %d", len(r.Types), MaxTypes)
	}
	for i, t := range r.Types {
		if !isType(t) {
			return invalid(fmt.Sprintf("types[%d]", i), "is %s; a type matches [a-z][a-z0-9]{0,%d}", quote(t), MaxType-1)
		}
	}
	return nil
}

// Stamp makes the events ready to be stored: it gives each its stream and
// aggregate, the time now where it has none, UTC and whole microseconds, and
// schema 1 where it has none. It returns a copy.
func (a Append) Stamp(now time.Time) []Event {
	events := make([]Event, len(a.Events))
	for i, e := range a.Events {
		e.Stream, e.Aggregate = a.Stream, a.Aggregate
		if e.Time.IsZero() {
			e.Time = now
		}
		e.Time = e.Time.UTC().Truncate(time.Microsecond)
		if e.Schema == 0 {
			e.Schema = 1
		}
		events[i] = e
	}
	return events
}

// CheckStream says whether name can name a stream.
func CheckStream(name string) error {
	ok := len(name) > 0 && len(name) <= MaxStreamName && name[0] >= 'A' && name[0] <= 'Z'
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
	}
	if !ok {
		return invalid("stream", "is %s; a stream matches [A-Z][A-Z0-9_]{0,%d}", quote(name), MaxStreamName-1)
	}
	return nil
}

// CheckID says whether id matches the grammar of ids; field is what the error
// names.
func CheckID(field, id string) error {
	if !IsID(id) {
		return invalidID(field, id)
	}
	return nil
}

func invalidID(field, id string) *InvalidError {
	return invalid(field, "is %s; an id matches [A-Za-z0-9_-]{1,%d}", quote(id), MaxID)
}

// IsID tells whether id matches the grammar of ids: [A-Za-z0-9_-]{1,64}.
func IsID(id string) bool {
	if len(id) == 0 || len(id) > MaxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isType(t string) bool {
	if len(t) == 0 || len(t) > MaxType || t[0] < 'a' || t[0] > 'z' {
		return false
	}
	for i := range len(t) {
		if c := t[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isMetadata tells whether v can stand in a header: printable ASCII, so that
// no one smuggles a line break into another header.
func isMetadata(v string) bool {
	if len(v) > MaxMetadata || v != "" && (v[0] == ' ' || v[len(v)-1] == ' ') {
		return false
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// quote shows a value in an error without letting a huge one through.
func quote(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%.80q... (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
