package function

import (
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// decode reads a request strictly: UTF-8, no unknown and no repeated field,
// names in their exact case. Every error is a Refusal that names the field.
// Where *R has a method Check() error, it is called; then what the schema says
// beyond the types is checked: a rule's own words are better.
func decode[R any](data []byte, takes *schema) (R, error) {
	var request R
	if len(data) == 0 {
		data = []byte("{}") // a request without a body: every field left out
	}
	if err := json.Unmarshal(data, &request, json.RejectUnknownMembers(true)); err != nil {
		return request, decodeRefusal(err)
	}
	whole := takes.seemsWhole(reflect.ValueOf(&request).Elem())
	if c, ok := any(&request).(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return request, checked(err)
		}
	}
	return request, takes.conforms(data, whole)
}

// checked is what a request's own rules say, as a Refusal also where they are the
// domain's, which does not know this package.
func checked(err error) error {
	var wrong interface {
		Invalid() (field, reason string)
	}
	if errors.As(err, &wrong) {
		field, reason := wrong.Invalid()
		return Invalid(field, "%s", reason)
	}
	return err
}

func decodeRefusal(err error) error {
	var (
		refusal   *Refusal
		semantic  *json.SemanticError
		syntactic *jsontext.SyntacticError
	)
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &semantic):
		field := fieldPath(string(semantic.JSONPointer))
		switch {
		case errors.Is(err, json.ErrUnknownName):
			return Invalid(field, "is not a field of this request")
		case semantic.JSONKind == '0' && isInteger(semantic.GoType):
			return Invalid(field, "must be a whole number")
		case isTime(semantic.GoType) && semantic.JSONKind == '"':
			return Invalid(field, "must be a time like 2026-01-02T15:04:05Z (RFC 3339)")
		case semantic.Err != nil:
			return Invalid(field, "%s", plain(semantic.Err))
		case field == "body":
			return Invalid(field, "must be a JSON object")
		default:
			return Invalid(field, "can't be a JSON %s", kindName(semantic.JSONKind))
		}
	case errors.As(err, &syntactic):
		field := fieldPath(string(syntactic.JSONPointer))
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return Invalid(field, "is there twice")
		}
		return Invalid(field, "is not valid JSON at byte %d", syntactic.ByteOffset)
	default:
		return Invalid("body", "is not a JSON object")
	}
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "object"
	case '[':
		return "array"
	default:
		return k.String()
	}
}

// fieldOf is the JSON name of the request's field that holds the value;
// "aggregate id" if none does.
func fieldOf(request any, value string) string {
	v := reflect.Indirect(reflect.ValueOf(request))
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if field := reflect.Indirect(v.Field(i)); name != "" && field.Kind() == reflect.String && field.String() == value {
				return name
			}
		}
	}
	return "aggregate id"
}

func isInteger(t reflect.Type) bool {
	return t != nil && (t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64) && !reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalJSON([]byte) error }]())
}

func isTime(t reflect.Type) bool { return t == reflect.TypeFor[time.Time]() }

// plain is the text of the cause without the library's own words.
func plain(err error) string {
	return strings.TrimPrefix(err.Error(), "json: ")
}

// fieldPath writes a JSON pointer as people write a field:
// /order_items/0/code is order_items[0].code. The whole is "body".
func fieldPath(pointer string) string {
	if pointer == "" {
		return "body"
	}
	var path strings.Builder
	for token := range jsontext.Pointer(pointer).Tokens() {
		name := clip(token)
		switch {
		case isIndex(token):
			path.WriteString("[" + name + "]")
		case path.Len() > 0:
			path.WriteString("." + name)
		default:
			path.WriteString(name)
		}
		if path.Len() > 256 {
			break
		}
	}
	return path.String()
}

func isIndex(token string) bool {
	return token != "" && strings.Trim(token, "0123456789") == ""
}

// clip keeps a caller's own field name from filling the answer, and from
// breaking the header that it goes into.
func clip(s string) string {
	const most = 64
	if s == "" {
		return `""` // a name all the same
	}
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}
