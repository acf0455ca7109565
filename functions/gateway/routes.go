package gateway

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// api answers what the routes take.
type api struct {
	port    function.Port
	pace    pace
	watches *hub
	reading chan struct{} // one place for each watcher that reads
}

// route is one operation: how it is called, what it is described with, and who
// answers.
type route struct {
	method, path string
	name         string // of the endpoint in nats micro, and of the operation in OpenAPI
	summary      string
	params       []*huma.Param
	body         reflect.Type // what is sent; nil for nothing
	status       int          // when all went well
	reply        reflect.Type // what is answered; nil for events
	answers      []string     // headers of it
	others       []int        // statuses that go without a body
	refusals     []int        // beside those that everything can be refused with
	handle       func(context.Context, *call) (*reply, error)
}

// call is one request.
type call struct {
	route *route
	r     *http.Request
	body  []byte
	key   string // the id that its Idempotency-Key stands for; empty if it has none
}

func (c *call) id() string { return c.r.PathValue(pathID) }

// reply is what is answered: a body, or a stream.
type reply struct {
	status int
	header http.Header
	body   []byte
	stream func(http.ResponseWriter)
}

func (r *reply) write(w http.ResponseWriter) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	if len(r.body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // the caller is gone, or reads it
	if r.stream != nil {
		r.stream(w)
	}
}

const (
	ordersPath = "/api/orders"
	orderPath  = ordersPath + "/{" + pathID + "}"
	pathID     = "order_id"
)

// routes are all that the gateway takes.
func (a *api) routes() []*route {
	id := inPath(pathID, "The order's id.")
	return []*route{
		{
			method: "POST", path: ordersPath, name: "place", summary: "Place an order", status: 201,
			params: []*huma.Param{inHeader(keyHeader, "Names the order where the body does not, so that it can be sent again: "+
				"the same body answers the same order, another one is a conflict. A key of letters, digits, - and _, up to 64, is the order's id; "+
				"of any other one up to 255 an id is derived.")},
			body: reflect.TypeFor[Placement](), reply: reflect.TypeFor[order.Order](), answers: []string{"ETag", "Location"}, refusals: []int{409}, handle: a.place,
		}, {
			method: "GET", path: ordersPath, name: "list", summary: "List orders, newest first", status: 200,
			params: []*huma.Param{
				inQuery("customer_id", "Only this customer's.", idSchema), inQuery("status", "Only those in this state.", statusSchema),
				inQuery("created_from", "Only those whose created_on is not before.", timeSchema), inQuery("created_before", "Only those whose created_on is before.", timeSchema),
				inQuery("limit", "How many on a page; 50 if left out.", wholeSchema(1, 500)), inQuery("cursor", "What the page before answered.", textSchema),
			},
			reply: reflect.TypeFor[List](), answers: []string{"Link"}, handle: a.list,
		}, {
			method: "GET", path: orderPath, name: "get", summary: "Show an order", status: 200,
			params: []*huma.Param{
				id, inQuery("min_version", "Wait until the order has this version, at most 2 s: what an answer before told.", wholeSchema(0, maxVersion)),
				inHeader("If-None-Match", "Answer 304 when the ETag is still this one."),
			},
			reply: reflect.TypeFor[order.Order](), answers: []string{"ETag"}, others: []int{304}, refusals: []int{404, 409}, handle: a.get,
		}, {
			method: "GET", path: orderPath + "/events", name: "events", summary: "Show what happened to an order", status: 200,
			params: []*huma.Param{id, inQuery("from_version", "Begin at this version.", wholeSchema(0, maxVersion))},
			reply:  reflect.TypeFor[History](), answers: []string{"Link"}, refusals: []int{404}, handle: a.events,
		}, {
			method: "GET", path: orderPath + "/watch", name: "watch", status: 200,
			summary: "Be told what happens to an order, as server-sent events, until nothing more can happen to it: those that happened first, then each as it comes. " +
				"id is the version, event the type, data the event as /events has it. The last event is end; 204 says that there is nothing more.",
			params: []*huma.Param{id, inHeader(lastHeader, "Begin after this version.")},
			others: []int{204}, refusals: []int{404}, handle: a.watch,
		},
		a.change("cancel", "Cancel an order", id, reflect.TypeFor[Cancellation]()),
		a.change("review", "Decide on an order that is paid", id, reflect.TypeFor[Decision]()),
		a.change("deliver", "Say that an order was delivered", id, nil),
	}
}

// change is the route of a request that changes an order.
func (a *api) change(name, summary string, id *huma.Param, body reflect.Type) *route {
	return &route{
		method: "POST", path: orderPath + "/" + name, name: name, summary: summary, status: 200, params: []*huma.Param{
			id, inHeader(keyHeader, "Makes the request safe to repeat: under the same key it changes nothing twice."),
		},
		body: body, reply: reflect.TypeFor[order.Order](), answers: []string{"ETag"}, refusals: []int{404, 409, 422},
		handle: func(ctx context.Context, c *call) (*reply, error) {
			body, err := withID(c.body, c.id(), pathID)
			if err != nil {
				return nil, err
			}
			r, _, err := a.askOne(ctx, "orders."+name, body)
			return r, err
		},
	}
}
