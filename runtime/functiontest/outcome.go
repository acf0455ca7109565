package functiontest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-go/waybill/runtime/function"
)

// Outcome is what came of a cause. It is a History too: what comes next follows
// what was appended.
type Outcome struct {
	*History
	// Appended are the events as they are stored.
	Appended []function.Message
	// Reply is the JSON that answers a request; empty when there is none.
	Reply []byte
	// Err is what the handler returned.
	Err error

	what, stream string
	handle       func(context.Context, *function.Runner) ([]byte, error)
}

// Then checks that the cause was handled, and that these events were appended
// and no others.
func (o *Outcome) Then(events ...function.DomainEvent) *Outcome {
	o.t.Helper()
	if o.Err != nil {
		o.t.Errorf("%s: it failed: %v", o.what, o.Err)
		return o
	}
	o.appended(events)
	return o
}

// ThenNothing checks that the cause was handled, and nothing appended.
func (o *Outcome) ThenNothing() *Outcome {
	o.t.Helper()
	return o.Then()
}

// ThenReplies checks the answer to a request: the JSON of v, or v itself if it
// is a string or bytes. The order of the members says nothing.
func (o *Outcome) ThenReplies(v any) *Outcome {
	o.t.Helper()
	if o.Err != nil {
		o.t.Errorf("%s: it failed: %v", o.what, o.Err)
		return o
	}
	if want, got := canonical(o.encode(v)), canonical(o.Reply); want != got {
		o.t.Errorf("%s: the reply is another%s\n%s", o.what, legend, diff(want, got))
	}
	return o
}

// ThenRefused checks that a request is refused with this code and field, and
// nothing appended. An event that is refused becomes a dead letter; its field
// may be empty.
func (o *Outcome) ThenRefused(code function.Code, field string) *Outcome {
	o.t.Helper()
	o.appended(nil)
	no := function.RefusalOf(o.Err, false)
	switch {
	case o.Err == nil:
		o.t.Errorf("%s: it was not refused", o.what)
	case no == nil:
		o.t.Errorf("%s: it was not refused, but failed: %v", o.what, o.Err)
	case no.Code != code || no.Field != field:
		o.t.Errorf("%s: it was refused with %d for the field %q, and not %d for %q: %s", o.what, no.Code, no.Field, code, field, no.Reason)
	}
	return o
}

// ThenFails checks that the handler returned err, perhaps wrapped, and that
// nothing was appended.
func (o *Outcome) ThenFails(err error) *Outcome {
	o.t.Helper()
	o.appended(nil)
	switch {
	case o.Err == nil:
		o.t.Errorf("%s: it did not fail", o.what)
	case !errors.Is(o.Err, err):
		o.t.Errorf("%s: it failed with another error than %q: %v", o.what, err, o.Err)
	}
	return o
}

// Again handles the same cause once more, as after a crash before the
// acknowledgement, or a caller that asks again: a function that is idempotent
// appends nothing then.
func (o *Outcome) Again() *Outcome {
	o.t.Helper()
	return o.cause(strings.TrimSuffix(o.what, again)+again, o.stream, o.handle)
}

const again = " again"

// legend is how to read a diff.
const legend = ` ("-" is missing, "+" should not be there)`

// appended compares what was appended.
func (o *Outcome) appended(want []function.DomainEvent) {
	o.t.Helper()
	var wanted, got strings.Builder
	for _, e := range want {
		data, schema, err := function.Encode(e)
		if err != nil {
			o.t.Fatalf("%v", err)
		}
		describe(&wanted, e.EventType(), schema, data)
	}
	for _, m := range o.Appended {
		describe(&got, m.Type, m.Schema, m.Data)
	}
	if wanted.String() != got.String() {
		o.t.Errorf("%s: other events were appended%s\n%s", o.what, legend, diff(wanted.String(), got.String()))
	}
}

// describe writes an event as people read it.
func describe(to *strings.Builder, typ string, schema int, data []byte) {
	to.WriteString(typ)
	if schema != 1 {
		fmt.Fprintf(to, " schema %d", schema)
	}
	to.WriteString(" " + indented(data) + "\n")
}

func indented(data []byte) string {
	v := jsontext.Value(data).Clone()
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return string(data)
	}
	return string(v)
}

// canonical is JSON with its members in order, indented.
func canonical(data []byte) string {
	v := jsontext.Value(data).Clone()
	if err := v.Canonicalize(); err != nil {
		return string(data)
	}
	return indented(v)
}

// brief is the beginning of what may be long.
func brief(data []byte) string {
	const most = 120
	if len(data) > most {
		return fmt.Sprintf("%s... (%d bytes)", data[:most], len(data))
	}
	return string(data)
}
