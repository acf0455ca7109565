package gateway

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/functions/cancelorder"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/functions/orderquery"
	"github.com/waybill-go/waybill/functions/placeorder"
	"github.com/waybill-go/waybill/functions/review"
	"github.com/waybill-go/waybill/functions/shipping"
	"github.com/waybill-go/waybill/runtime/function"
)

// shape is a JSON schema, as far as it matters here.
type shape struct {
	Ref                  string `json:"$ref"`
	Required             []string
	Properties           map[string]*shape
	Items                *shape
	Enum                 []string
	Pattern, Format      string
	MinLength, MaxLength *int
	MinItems, MaxItems   *int
	Minimum, Maximum     *float64
}

// UnmarshalJSON reads true too: that is any JSON.
func (s *shape) UnmarshalJSON(data []byte) error {
	if string(data) == "true" {
		return nil
	}
	type plain shape
	return json.Unmarshal(data, (*plain)(s))
}

// document is /openapi.json, as far as it matters here.
type document struct {
	Components struct{ Schemas map[string]*shape }
	Paths      map[string]map[string]struct {
		OperationID string
		Parameters  []struct {
			Name, In string
			Required bool
			Schema   *shape
		}
		RequestBody struct {
			Content map[string]struct{ Schema *shape }
		}
		Responses map[string]struct {
			Content map[string]struct{ Schema *shape }
		}
	}
}

// is is the schema that s refers to.
func (d *document) is(s *shape) *shape {
	if s != nil && s.Ref != "" {
		return d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

// fields are the names of all that s has, like order_items[].code; those that are
// required of a request end with a !.
func (d *document) fields(s *shape, in string, required bool) (names []string) {
	if s = d.is(s); s == nil {
		return nil
	}
	names = d.fields(s.Items, in+"[]", required)
	for name, p := range s.Properties {
		field, mark := strings.TrimPrefix(in+"."+name, "."), ""
		if required && slices.Contains(s.Required, name) {
			mark = "!"
		}
		names = append(append(names, field+mark), d.fields(p, field, required)...)
	}
	slices.Sort(names)
	return names
}

// endpoints are the doors that the gateway asks, by subject.
func endpoints() map[string]*function.Request {
	doors := map[string]*function.Request{}
	for _, f := range []function.Function{
		placeorder.New(), cancelorder.New(), review.New(review.NewRule()), shipping.New(shipping.NewCourier()), orderquery.New(orderdb.New()),
	} {
		for _, d := range f.Doors {
			if r, ok := d.(*function.Request); ok {
				doors[r.Subject()] = r
			}
		}
	}
	return doors
}

// operation is what the document says of a request, as one schema.
func (d *document) operation(t *testing.T, path, method string) (id string, request, reply *shape) {
	t.Helper()
	op := d.Paths[path][method]
	request = &shape{Properties: map[string]*shape{}}
	if body := d.is(op.RequestBody.Content["application/json"].Schema); body != nil {
		request.Required = slices.Clone(body.Required)
		maps.Copy(request.Properties, body.Properties)
	}
	for _, p := range op.Parameters {
		if p.In == "header" {
			continue
		}
		if request.Properties[p.Name] = p.Schema; p.Required {
			request.Required = append(request.Required, p.Name)
		}
	}
	for status, r := range op.Responses {
		if s := r.Content["application/json"].Schema; s != nil && status[0] == '2' {
			reply = s
		}
	}
	return op.OperationID, request, reply
}

// TestTheDocumentSaysWhatTheEndpointsDo: what an endpoint takes and answers is in
// /openapi.json by the same names, and with the bounds that it has.
func TestTheDocumentSaysWhatTheEndpointsDo(t *testing.T) {
	data, err := describe((&api{}).routes())
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	doors, asked := endpoints(), map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			id, request, reply := doc.operation(t, path, method)
			subject := "orders." + id
			switch id {
			case "watch":
				continue // what it sends are the events of "events"
			case "events":
				subject = "orders.history"
			}
			door := doors[subject]
			if door == nil {
				t.Errorf("%s %s: nobody answers %s", method, path, subject)
				continue
			}
			asked[subject] = true
			schemas, err := function.Schemas(door)
			if err != nil {
				t.Fatal(err)
			}
			var takes, answers shape
			if err := json.Unmarshal([]byte(schemas["request"]), &takes); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(schemas["reply"]), &answers); err != nil {
				t.Fatal(err)
			}
			if got, want := doc.fields(request, "", true), doc.fields(&takes, "", true); !slices.Equal(got, want) {
				t.Errorf("%s %s takes %v, and %s takes %v", method, path, got, subject, want)
			}
			if got, want := doc.fields(reply, "", false), doc.fields(&answers, "", false); !slices.Equal(got, want) {
				t.Errorf("%s %s answers %v, and %s answers %v", method, path, got, subject, want)
			}
			bounds{&doc, t, door, good[subject]}.check(request, nil)
		}
	}
	if len(asked) != len(doors) {
		t.Errorf("of %d endpoints %v are asked", len(doors), asked)
	}
}

// good are requests that nothing is wrong with.
var good = map[string]string{
	"orders.place":   body(`"order_id":"o1","currency":"USD",`),
	"orders.cancel":  `{"order_id":"o1","reason":"ill"}`,
	"orders.review":  `{"order_id":"o1","decision":"approve","reason":"ok","by":"ann"}`,
	"orders.deliver": `{"order_id":"o1"}`,
	"orders.get":     `{"order_id":"o1"}`,
	"orders.list":    `{}`,
	"orders.history": `{"order_id":"o1"}`,
}

// bounds tries the bounds that a document has on the endpoint itself.
type bounds struct {
	doc  *document
	t    *testing.T
	door *function.Request
	good string
}

// check tries those of s, which is at a place in the request: names, and 0 for the
// first of a list.
func (b bounds) check(s *shape, at []any) {
	s = b.doc.is(s)
	for name, p := range s.Properties {
		b.check(p, append(slices.Clone(at), name))
	}
	if len(at) == 0 {
		return
	}
	said := true
	text := func(n int, c string) any { return strings.Repeat(c, n) }
	switch {
	case s.Items != nil:
		one := b.value(append(slices.Clone(at), 0))
		list := func(n int) any { return slices.Repeat([]any{one}, n) }
		b.try(at, list(*s.MinItems), list(*s.MaxItems), list(*s.MinItems-1), list(*s.MaxItems+1))
		b.check(s.Items, append(slices.Clone(at), 0))
	case s.Maximum != nil && s.Minimum != nil:
		above := *s.Maximum + 1
		if above == *s.Maximum { // there is no such float64
			above += 2
		}
		b.try(at, *s.Minimum, *s.Maximum, *s.Minimum-1, above)
	case s.MaxLength != nil:
		b.try(at, text(*s.MaxLength, "é"), nil, text(*s.MaxLength+1, "é"), nil)
		if s.MinLength != nil {
			b.try(at, text(*s.MinLength, "é"), nil, text(*s.MinLength-1, "é"), nil)
		}
	case strings.HasSuffix(s.Pattern, "{1,64}$"):
		b.try(at, text(64, "x"), nil, text(65, "x"), "a b")
	case s.Pattern == "^[A-Z]{3}$":
		b.try(at, "EUR", nil, "EURO", "eur")
	case len(s.Enum) > 0:
		for _, word := range s.Enum {
			b.try(at, word, nil, word+"x", nil)
		}
	case s.Format == "date-time":
		b.try(at, "2026-01-02T03:04:05Z", nil, "today", nil)
	case len(s.Properties) > 0:
	default:
		said = at[0] == "cursor" // nobody makes one up
	}
	if !said {
		b.t.Errorf("%s: %v has no bounds", b.door.Subject(), at)
	}
}

// value is what the good request has there.
func (b bounds) value(at []any) any {
	var v any
	if err := json.Unmarshal([]byte(b.good), &v); err != nil {
		b.t.Fatal(err)
	}
	for _, step := range at {
		if name, ok := step.(string); ok {
			v = v.(map[string]any)[name] //nolint:forcetypeassert // as the schema has it
		} else {
			v = v.([]any)[0] //nolint:forcetypeassert // as the schema has it
		}
	}
	return v
}

// try has the endpoint take two values there, and refuse two others; nil is none.
func (b bounds) try(at []any, yes, yes2, no, no2 any) {
	b.t.Helper()
	for i, value := range []any{yes, yes2, no, no2} {
		if value == nil {
			continue
		}
		request := put(b.value(nil), at, value)
		data, err := json.Marshal(request)
		if err != nil {
			b.t.Fatal(err)
		}
		_, err = b.door.Prepare(data)
		if (err == nil) != (i < 2) {
			b.t.Errorf("%s with %v = %.40v: %v", b.door.Subject(), at, value, err)
		}
	}
}

// put is v with a value in a place.
func put(v any, at []any, value any) any {
	if len(at) == 0 {
		return value
	}
	if name, ok := at[0].(string); ok {
		all := v.(map[string]any) //nolint:forcetypeassert // as the schema has it
		all[name] = put(all[name], at[1:], value)
		return all
	}
	all := v.([]any) //nolint:forcetypeassert // as the schema has it
	all[0] = put(all[0], at[1:], value)
	return all
}
