package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waybill-go/waybill/functions/order"
)

const documentPath = "/openapi.json"

// Placement is what places an order.
type Placement struct {
	OrderID    string          `json:"order_id,omitempty" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"Made if left out. The same order again under it is placed once."`
	Customer   string          `json:"customer_id" pattern:"^[A-Za-z0-9_-]{1,64}$"`
	Restaurant string          `json:"restaurant_id" pattern:"^[A-Za-z0-9_-]{1,64}$"`
	Currency   string          `json:"currency,omitempty" pattern:"^[A-Z]{3}$" doc:"ISO 4217; USD if left out."`
	Items      []PlacementItem `json:"order_items" nullable:"false" minItems:"1" maxItems:"500"`
}

// PlacementItem is a line of it.
type PlacementItem struct {
	Code      string      `json:"code" minLength:"1" maxLength:"200"`
	Name      string      `json:"name" minLength:"1" maxLength:"200"`
	UnitPrice order.Money `json:"unit_price" minimum:"0" maximum:"1000000"`
	Quantity  int64       `json:"quantity" minimum:"1" maximum:"10000"`
}

// Cancellation is why an order is not wanted any more.
type Cancellation struct {
	Reason string `json:"reason" minLength:"1" maxLength:"200"`
}

// Decision is what somebody decided on an order.
type Decision struct {
	Decision string `json:"decision" enum:"approve,reject"`
	Reason   string `json:"reason,omitempty" maxLength:"200" doc:"May be left out of an approval."`
	By       string `json:"by" minLength:"1" maxLength:"200" doc:"Who decided."`
}

// List is a page of orders.
type List struct {
	Orders []order.Order `json:"orders"`
	Cursor string        `json:"cursor,omitempty" doc:"Where the next page begins; the last one has none. Link has it too."`
}

// History is what happened to an order.
type History struct {
	Events      []HistoryEvent `json:"events"`
	NextVersion uint64         `json:"next_version,omitempty" doc:"Where to go on, if this is not all. Link has it too."`
}

// HistoryEvent is one thing that happened.
type HistoryEvent struct {
	Version     uint64          `json:"version" doc:"Its place among the order's events: 1, 2, 3, without gaps."`
	Position    uint64          `json:"position" doc:"Its place among all events."`
	Type        string          `json:"type"`
	Schema      int             `json:"schema" doc:"The number of the shape of its data."`
	Time        time.Time       `json:"time"`
	ID          string          `json:"id"`
	CausationID string          `json:"causation_id" doc:"The id of the event, or the request, that led to it."`
	Data        json.RawMessage `json:"data"`
}

// Schemas of what is no Go type of its own here.
type (
	money  struct{}
	status struct{}
)

func (money) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Description: "With at most two decimal places."}
}

func (status) Schema(huma.Registry) *huma.Schema { return statusSchema() }

func textSchema() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
func timeSchema() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "date-time"} }
func idSchema() *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: "^[A-Za-z0-9_-]{1,64}$"}
}

// wholeSchema is of the whole numbers within bounds.
func wholeSchema(least, most float64) func() *huma.Schema {
	return func() *huma.Schema {
		return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &least, Maximum: &most}
	}
}

// maxVersion is the most that every JSON reader can hold.
const maxVersion = 1 << 53

func statusSchema() *huma.Schema {
	s := textSchema()
	for _, one := range order.Statuses {
		s.Enum = append(s.Enum, string(one))
	}
	return s
}

func inPath(name, about string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Description: about, Required: true, Schema: idSchema()}
}

func inHeader(name, about string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: about, Schema: textSchema()}
}

func inQuery(name, about string, schema func() *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: about, Schema: schema()}
}

// describe is the routes as an OpenAPI document.
func describe(routes []*route) ([]byte, error) {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[order.Money](), reflect.TypeFor[money]())
	schemas.RegisterTypeAlias(reflect.TypeFor[order.Status](), reflect.TypeFor[status]())
	doc := &huma.OpenAPI{
		OpenAPI:    "3.1.0",
		Info:       &huma.Info{Title: "Waybill", Version: "1", Description: "Orders, over HTTP. Errors are problem details (RFC 9457)."},
		Components: &huma.Components{Schemas: schemas},
	}
	for _, rt := range routes {
		doc.AddOperation(rt.describe(schemas))
	}
	for _, s := range schemas.Map() {
		for _, property := range s.Properties {
			property.Nullable = false // what can be missing is left out
		}
	}
	for _, name := range []string{"Order", "Item", "List", "History", "HistoryEvent", "ErrorModel", "ErrorDetail"} {
		if s := schemas.Map()[name]; s != nil {
			s.AdditionalProperties = nil // a later release may answer more
		}
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	return data, nil
}

// describe is the route in OpenAPI.
func (rt *route) describe(schemas huma.Registry) *huma.Operation {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.name, Summary: rt.summary, Parameters: rt.params, Tags: []string{"orders"},
		Responses: map[string]*huma.Response{},
	}
	if rt.body != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: content("application/json", schemas.Schema(rt.body, true, ""))}
	}
	done := &huma.Response{Description: http.StatusText(rt.status), Headers: map[string]*huma.Param{}}
	if done.Content = content("text/event-stream", textSchema()); rt.reply != nil {
		done.Content = content("application/json", schemas.Schema(rt.reply, true, ""))
	}
	for _, name := range rt.answers {
		done.Headers[name] = &huma.Param{Schema: textSchema()}
	}
	op.Responses[strconv.Itoa(rt.status)] = done
	for _, status := range rt.others {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status)}
	}
	problem := content(problemType, schemas.Schema(reflect.TypeFor[huma.ErrorModel](), true, ""))
	for _, status := range append([]int{400, 408, 413, 429, 500, 503}, rt.refusals...) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: problem}
	}
	if rt.method == http.MethodPost {
		for _, status := range []int{403, 415} {
			op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: problem}
		}
	}
	return op
}

func content(typ string, schema *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{typ: {Schema: schema}}
}
