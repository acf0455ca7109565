package function_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/waybill-go/waybill/runtime/function"
)

// parcel is a request of all that there is in one.
type (
	parcel struct {
		ID      string           `json:"id" required:"true"`
		Note    *string          `json:"note"`
		Weight  uint8            `json:"weight"`
		Express bool             `json:"express"`
		Ready   time.Time        `json:"ready,omitzero"`
		Grade   grade            `json:"grade"`
		Raw     json.RawMessage  `json:"raw"`
		Blob    []byte           `json:"blob"`
		Things  []thing          `json:"things" required:"true"`
		Sizes   map[string]*size `json:"sizes"`
	}
	thing struct {
		Name  string  `json:"name" required:"true"`
		Count *int64  `json:"count" required:"true"`
		Price float64 `json:"price"`
	}
	size  struct{ Width, Height int }
	grade int
)

func (grade) JSONSchema() string { return `{"type":"string","enum":["A","B"]}` }
func (g grade) MarshalJSON() ([]byte, error) {
	return json.Marshal(string(rune('A' + g)))
}
func (g *grade) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"A"`, `"B"`:
		*g = grade(data[1] - 'A')
		return nil
	}
	return errors.New("must be A or B")
}

const goodParcel = `{"id":"p","note":null,"weight":3,"express":true,"ready":"2026-01-02T03:04:05Z","grade":"B","raw":{"x":[1,null]},` +
	`"blob":"aGk=","things":[{"name":"a","count":1,"price":1.5},{"name":"b","count":2,"price":2}],"sizes":{"s":{"Width":1,"Height":2},"m":null}}`

func echo[T any](_ context.Context, v T) (T, error) { return v, nil }

func resolve(t *testing.T, schema string) *jsonschema.Resolved {
	t.Helper()
	s := &jsonschema.Schema{}
	if err := json.Unmarshal([]byte(schema), s); err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func validate(t *testing.T, r *jsonschema.Resolved, body []byte) error {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	return r.Validate(v)
}

// variants are a JSON value with one thing changed: a member left out, added, or
// anything replaced by something else.
func variants(v any) (all []any) {
	all = append(all, nil, true, "x", "", 0, -1, 0.5, 1e30, []any{}, map[string]any{})
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			without := maps.Clone(v)
			delete(without, key)
			all = append(all, without)
			for _, other := range variants(v[key]) {
				with := maps.Clone(v)
				with[key] = other
				all = append(all, with)
			}
		}
		more := maps.Clone(v)
		more["more"] = 1
		all = append(all, more)
	case []any:
		for i := range v {
			for _, other := range variants(v[i]) {
				with := slices.Clone(v)
				with[i] = other
				all = append(all, with)
			}
		}
	}
	return all
}

// TestWhatTheSchemaRefusesIsRefused walks both ways: every variant of a good
// request that the schema refuses is refused, with its field; and what a handler
// gets, and answers, is in the schema.
func TestWhatTheSchemaRefusesIsRefused(t *testing.T) {
	door := function.Endpoint("parcels.send", echo[parcel]).(*function.Request)
	schemas, err := function.Schemas(door)
	if err != nil {
		t.Fatal(err)
	}
	request, reply := resolve(t, schemas["request"]), resolve(t, schemas["reply"])
	var good any
	if err := json.Unmarshal([]byte(goodParcel), &good); err != nil {
		t.Fatal(err)
	}
	refused, taken := 0, 0
	for _, v := range append(variants(good), good) {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		no := validate(t, request, body)
		prepared, err := door.Prepare(body)
		switch {
		case err != nil:
			refused++
			if r := function.RefusalOf(err, false); r == nil || r.Code != function.CodeInvalid || r.Field == "" {
				t.Errorf("%s: refused with %v", body, err)
			}
			continue
		case no != nil:
			t.Errorf("%s was taken, and the schema says: %v", body, no)
			continue
		}
		taken++
		answer, err := prepared.Answer(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := jsonv2.Marshal(answer) // as the host does
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, reply, data); err != nil {
			t.Errorf("%s was answered %s: %v", body, data, err)
		}
	}
	if refused < 100 || taken < 30 {
		t.Errorf("only %d refused, %d taken", refused, taken)
	}
}

func TestSchemaRefusals(t *testing.T) {
	door := function.Endpoint("parcels.send", echo[parcel]).(*function.Request)
	for _, c := range []struct{ from, to, want string }{
		{`"name":"b"`, `"name":null`, "things[1].name: can't be null"},
		{`"name":"b",`, ``, "things[1].name: is missing"},
		{`"count":2`, `"count":null`, "things[1].count: can't be null"},
		{`"id":"p",`, ``, "id: is missing"},
		{`"weight":3`, `"weight":null`, "weight: can't be null"},
		{`"Width":1`, `"Width":null`, "sizes.s.Width: can't be null"},
		{`"weight":3,`, ``, ""},
		{goodParcel, ``, "id: is missing"},
		{goodParcel, `null`, "body: can't be null"},
	} {
		_, err := door.Prepare([]byte(strings.Replace(goodParcel, c.from, c.to, 1)))
		if got := fmt.Sprint(err); got != c.want && (c.want != "" || err != nil) {
			t.Errorf("%s instead of %s: %s, want %q", c.to, c.from, got, c.want)
		}
	}
}

type endless struct{ Next *endless }

func TestATypeWithoutASchemaIsAMistake(t *testing.T) {
	f := function.Function{Name: "f", Doors: []function.Door{function.Endpoint("f.do", echo[endless])}}
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "f.do") || !strings.Contains(err.Error(), "JSONSchema") {
		t.Errorf("%v", err)
	}
}

func BenchmarkPrepare(b *testing.B) {
	for name, door := range map[string]function.Door{
		"requires": function.Endpoint("parcels.send", echo[parcel]),
		"plain":    function.Endpoint("parcels.send", echo[plain]),
	} {
		b.Run(name, func(b *testing.B) {
			body := []byte(strings.NewReplacer(`"note":null,`, "", `,null`, "", `,"m":null`, "").Replace(goodParcel))
			for b.Loop() {
				if _, err := door.(*function.Request).Prepare(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// plain is a parcel of which the schema says no more than its types.
type plain struct {
	ID      string           `json:"id"`
	Weight  uint8            `json:"weight"`
	Express bool             `json:"express"`
	Ready   time.Time        `json:"ready,omitzero"`
	Grade   grade            `json:"grade"`
	Raw     json.RawMessage  `json:"raw"`
	Blob    []byte           `json:"blob"`
	Things  []plainThing     `json:"things"`
	Sizes   map[string]*size `json:"sizes"`
}

type plainThing struct {
	Name  string  `json:"name"`
	Count *int64  `json:"count"`
	Price float64 `json:"price"`
}
