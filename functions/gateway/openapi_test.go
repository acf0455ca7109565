package gateway

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
)

// TestTheDocument holds /openapi.json to what is served: each operation in it is
// there, each reference leads somewhere, and an order is as it says.
func TestTheDocument(t *testing.T) {
	w := begin(t, &gateway{pace: calm}, everyone(t)...)
	got := w.do("GET", documentPath, "")
	var doc struct {
		OpenAPI    string
		Info       struct{ Title, Version string }
		Components struct {
			Schemas map[string]struct {
				Type       string
				Required   []string
				Properties map[string]struct {
					Type, Pattern       string
					Enum                []string
					MaxItems, MaxLength int
					Maximum             float64
				}
				AdditionalProperties *bool
			}
		}
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct {
				Name, In string
				Required bool
			}
			RequestBody *struct{ Content map[string]any }
			Responses   map[string]struct {
				Description string
				Content     map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || got.status != 200 || doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version == "" {
		t.Fatalf("%s: %+v, %v", documentPath, got, err)
	}
	for rest := got.body; ; {
		_, after, found := strings.Cut(rest, `"$ref":"#/components/schemas/`)
		if !found {
			break
		}
		name, _, _ := strings.Cut(after, `"`)
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("there is no schema %s", name)
		}
		rest = after
	}
	w.do("POST", "/api/orders", body(`"order_id":"o1",`))
	w.do("GET", "/api/orders/o1?min_version=4", "")
	w.do("POST", "/api/orders/o1/deliver", "") // or a watch goes on
	seen := map[string]bool{}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if seen[op.OperationID] || op.OperationID == "" {
				t.Errorf("%s %s is called %q, like another", method, path, op.OperationID)
			}
			seen[op.OperationID] = true
			parts := strings.Count(path, "{")
			for _, p := range op.Parameters {
				if p.In == "path" && p.Required && strings.Contains(path, "{"+p.Name+"}") {
					parts--
				}
			}
			if parts != 0 {
				t.Errorf("%s %s: its parameters are %+v", method, path, op.Parameters)
			}
			if op.RequestBody != nil && op.RequestBody.Content["application/json"] == nil {
				t.Errorf("%s %s takes %+v", method, path, op.RequestBody)
			}
			a := w.do(strings.ToUpper(method), strings.ReplaceAll(path, "{order_id}", "o1"), "{}", lastHeader+": 2")
			kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
			told, ok := op.Responses[strconv.Itoa(a.status)]
			if !ok || told.Description == "" || told.Content[kind] == nil {
				t.Errorf("%s %s answers %d with %s, and says %+v", method, path, a.status, kind, op.Responses)
			}
		}
	}
	if len(seen) != 8 {
		t.Errorf("there are %v", seen)
	}
	var o map[string]any
	if err := json.Unmarshal([]byte(w.do("GET", "/api/orders/o1", "").body), &o); err != nil {
		t.Fatal(err)
	}
	said := doc.Components.Schemas["Order"]
	for _, name := range said.Required {
		if _, has := o[name]; !has {
			t.Errorf("an order would have %s", name)
		}
	}
	for name := range o {
		if _, ok := said.Properties[name]; !ok {
			t.Errorf("an order has %s", name)
		}
	}
	if len(said.Required) < 8 || said.AdditionalProperties != nil {
		t.Errorf("an order: %+v", said)
	}
	if said.Properties["amount"].Type != "number" || len(said.Properties["status"].Enum) != len(order.Statuses) {
		t.Errorf("an order's fields: %+v", said.Properties)
	}
	placement, item := doc.Components.Schemas["Placement"], doc.Components.Schemas["PlacementItem"]
	if closed := placement.AdditionalProperties; closed == nil || *closed || !slices.Equal(placement.Required, []string{"customer_id", "restaurant_id", "order_items"}) {
		t.Errorf("a placement: %+v", placement)
	}
	if placement.Properties["order_items"].MaxItems != order.MaxItems || item.Properties["name"].MaxLength != order.MaxText || item.Properties["quantity"].Maximum != order.MaxQuantity {
		t.Errorf("its limits are not the order's: %+v, %+v", placement.Properties, item.Properties)
	}
}
