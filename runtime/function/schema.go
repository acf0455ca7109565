package function

import (
	"bytes"
	"encoding"
	stdjson "encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/jsonschema-go/jsonschema"
)

// Schemas are the JSON schemas of a door's types, by what they are of: request,
// reply, event. Each is JSON, as short as can be. A door that has none answers an
// empty map.
//
// They come from the Go types. In a request only those fields are required that
// say so with the tag required:"true", and are then not null; any other that is
// left out is its zero. A type with a JSON form of its own says it with a method JSONSchema() string; one
// that has none, and is no text, is any JSON.
func Schemas(d Door) (map[string]string, error) {
	var of map[string]*schema
	switch d := d.(type) {
	case *Request:
		of = map[string]*schema{"request": d.request, "reply": d.reply}
	case *Event:
		of = map[string]*schema{"event": d.event}
	}
	all := map[string]string{}
	for name, s := range of {
		if s == nil {
			continue // a door that is made by hand
		}
		resolved, err := s.once()
		if err != nil {
			return nil, fmt.Errorf("%s: %w; let the type say it: a method JSONSchema() string", name, err)
		}
		data, err := stdjson.Marshal(resolved)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = string(data)
	}
	return all, nil
}

// schema is made when it is asked for first.
type schema struct {
	once func() (*jsonschema.Schema, error)
	// filled tells, when it is not nil, that no required field of a value is its
	// zero: then all were there.
	filled func() func(reflect.Value) bool
}

func newSchema(t reflect.Type, required func(reflect.Type) []string) *schema {
	once := sync.OnceValues(func() (*jsonschema.Schema, error) { return infer(t, required) })
	return &schema{once: once, filled: sync.OnceValue(func() func(reflect.Value) bool {
		s, err := once()
		if err != nil {
			return nil
		}
		return filled(t, s)
	})}
}

// schemaOf is the schema of a reply or an event: what is written.
func schemaOf[T any]() *schema {
	return newSchema(reflect.TypeFor[T](), nil)
}

// schemaOfRequest is that of what is read.
func schemaOfRequest[R any]() *schema {
	return newSchema(reflect.TypeFor[R](), requiredFields)
}

// infer makes the schema of a type. required, if not nil, answers the fields that
// are required of a struct; else those are all that are always written.
func infer(t reflect.Type, required func(reflect.Type) []string) (*jsonschema.Schema, error) {
	own := map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time]():          {Type: "string", Format: "date-time"},
		reflect.TypeFor[[]byte]():             {Type: "string", ContentEncoding: "base64"},
		reflect.TypeFor[stdjson.RawMessage](): {},
		reflect.TypeFor[jsontext.Value]():     {},
	}
	if err := ownSchemas(t, own, map[reflect.Type]bool{}); err != nil {
		return nil, err
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: own})
	if err == nil && required != nil {
		require(s, t, own, required)
	}
	return s, err
}

// ownSchemas gathers what the types that t is made of say of themselves.
func ownSchemas(t reflect.Type, own map[reflect.Type]*jsonschema.Schema, seen map[reflect.Type]bool) error {
	if own[t] != nil || seen[t] {
		return nil
	}
	seen[t] = true
	switch v := reflect.New(t).Interface().(type) {
	case interface{ JSONSchema() string }:
		s := &jsonschema.Schema{}
		if err := stdjson.Unmarshal([]byte(v.JSONSchema()), s); err != nil {
			return fmt.Errorf("read JSONSchema of %v: %w", t, err)
		}
		own[t] = s
		return nil
	case stdjson.Marshaler:
		own[t] = &jsonschema.Schema{}
		return nil
	case encoding.TextMarshaler:
		own[t] = &jsonschema.Schema{Type: "string"}
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return ownSchemas(t.Elem(), own, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if !t.Field(i).IsExported() && !t.Field(i).Anonymous {
				continue
			}
			if err := ownSchemas(t.Field(i).Type, own, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// requiredFields are those with the tag.
func requiredFields(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Tag.Get("required") == "true" {
			names = append(names, jsonName(f))
		}
	}
	return names
}

// require sets what is required, in s and below.
func require(s *jsonschema.Schema, t reflect.Type, own map[reflect.Type]*jsonschema.Schema, required func(reflect.Type) []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s == nil || own[t] != nil {
		return
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		require(s.Items, t.Elem(), own, required)
	case reflect.Map:
		require(s.AdditionalProperties, t.Elem(), own, required)
	case reflect.Struct:
		s.Required = required(t)
		for _, f := range reflect.VisibleFields(t) {
			require(s.Properties[jsonName(f)], f.Type, own, required)
		}
		for _, name := range s.Required { // and so it is not null
			if p := s.Properties[name]; len(p.Types) == 2 && p.Types[0] == "null" {
				p.Type, p.Types = p.Types[1], nil
			}
		}
	}
}

// seemsWhole tells of a request, as it was decoded, that it has all that is
// required. One that has a zero there may have it too.
func (s *schema) seemsWhole(request reflect.Value) bool {
	filled := s.filled()
	return filled == nil || filled(request)
}

// conforms refuses what strict decoding lets pass and the schema does not: a null
// where none may be, and a required field that is left out. All else that a
// schema says of the types decoding has seen to.
func (s *schema) conforms(data []byte, whole bool) error {
	if whole && !bytes.Contains(data, []byte("null")) {
		return nil
	}
	root, err := s.once()
	if err != nil {
		return err // a declaration's Check says so before
	}
	// It was decoded, so it is good JSON, and has no name twice.
	return conforms(jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)), root)
}

// filled makes a function that tells whether no required field is its zero; nil
// when there is none.
func filled(t reflect.Type, s *jsonschema.Schema) func(reflect.Value) bool {
	if s == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		if inner := filled(t.Elem(), s); inner != nil {
			return func(v reflect.Value) bool { return v.IsNil() || inner(v.Elem()) }
		}
	case reflect.Slice, reflect.Array:
		if inner := filled(t.Elem(), s.Items); inner != nil {
			return func(v reflect.Value) bool {
				for i := range v.Len() {
					if !inner(v.Index(i)) {
						return false
					}
				}
				return true
			}
		}
	case reflect.Map:
		if filled(t.Elem(), s.AdditionalProperties) != nil {
			return func(v reflect.Value) bool { return v.Len() == 0 }
		}
	case reflect.Struct:
		return filledFields(t, s)
	}
	return nil
}

func filledFields(t reflect.Type, s *jsonschema.Schema) func(reflect.Value) bool {
	type field struct {
		index    []int
		required bool
		inner    func(reflect.Value) bool
	}
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		name := jsonName(f)
		one := field{f.Index, slices.Contains(s.Required, name), filled(f.Type, s.Properties[name])}
		if one.required || one.inner != nil {
			fields = append(fields, one)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return func(v reflect.Value) bool {
		for _, f := range fields {
			its, err := v.FieldByIndexErr(f.index)
			if err != nil || f.required && its.IsZero() || f.inner != nil && !f.inner(its) {
				return false
			}
		}
		return true
	}
}

func conforms(d *jsontext.Decoder, s *jsonschema.Schema) error {
	if s == nil {
		return d.SkipValue()
	}
	switch d.PeekKind() {
	case 'n':
		_, err := d.ReadToken()
		if s.Type != "" {
			return Invalid(fieldPath(string(d.StackPointer())), "can't be null")
		}
		return err
	case '[':
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		for d.PeekKind() != ']' {
			if err := conforms(d, s.Items); err != nil {
				return err
			}
		}
	case '{':
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		if err := members(d, s); err != nil {
			return err
		}
	default:
		return d.SkipValue()
	}
	_, err := d.ReadToken()
	return err
}

// members checks the members of an object. It is on the way of every request, and
// so makes no string of a name.
func members(d *jsontext.Decoder, s *jsonschema.Schema) error {
	var buffer [16]bool
	there := append(buffer[:0], make([]bool, len(s.Required))...)
	empty := true
	for ; d.PeekKind() != '}'; empty = false {
		quoted, err := d.ReadValue()
		if err != nil {
			return err
		}
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, quoted); err != nil {
				return err
			}
		}
		sub, known := s.Properties[string(name)]
		if !known {
			sub = s.AdditionalProperties
		}
		for i := range s.Required {
			there[i] = there[i] || s.Required[i] == string(name)
		}
		if err := conforms(d, sub); err != nil {
			return err
		}
	}
	if i := slices.Index(there, false); i >= 0 {
		at := d.StackPointer()
		if !empty {
			at = at.Parent() // it is at the last member
		}
		return Invalid(fieldPath(string(at.AppendToken(s.Required[i]))), "is missing")
	}
	return nil
}

// jsonName is a field's name in JSON.
func jsonName(f reflect.StructField) string {
	if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
		return name
	}
	return f.Name
}
