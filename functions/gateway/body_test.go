package gateway

import (
	"maps"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// FuzzWithID: whatever the body, the order's id comes in and everything else stays
// as it was, or the body as a whole.
func FuzzWithID(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, ` {"a":1.50}`, `{"order_id":null,"b":[1e2]}`, `{"order_id":"o1"}`, `{"order_id":"x"}`, `{"order_id":1}`, `{"a":1,"a":2}`, `[`, `{"Order_ID":"x"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		members := func(data []byte) (map[string]jsontext.Value, bool) {
			all := map[string]jsontext.Value{}
			if err := json.Unmarshal(data, &all); err != nil {
				return nil, false
			}
			for _, v := range all {
				if v.Compact() != nil {
					return nil, false
				}
			}
			return all, true
		}
		before, object := members(body)
		object = object || len(body) == 0
		out, err := withID(body, "o1", "path")
		named := before["order_id"]
		text := ""
		isText := named != nil && json.Unmarshal(named, &text) == nil && named.Kind() == '"'
		switch {
		case !object || named != nil && !isText && string(named) != "null":
			if err != nil || string(out) != string(body) {
				t.Fatalf("%q became %q, %v", body, out, err)
			}
			return
		case isText && text != "o1":
			if err == nil {
				t.Fatalf("%q became %q", body, out)
			}
			return
		}
		after, ok := members(out)
		if err != nil || !ok || string(after["order_id"]) != `"o1"` && !isText {
			t.Fatalf("%q became %q, %v", body, out, err)
		}
		delete(before, "order_id")
		delete(after, "order_id")
		if !maps.EqualFunc(before, after, func(a, b jsontext.Value) bool { return string(a) == string(b) }) {
			t.Fatalf("%q became %q", body, out)
		}
	})
}
