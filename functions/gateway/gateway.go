// Package gateway lets HTTP in: it translates, and asks the functions that know.
//
//	POST /api/orders                            → gateway → orders.place
//	GET  /api/orders                            → gateway → orders.list
//	GET  /api/orders/{order_id}                 → gateway → orders.get
//	GET  /api/orders/{order_id}/events, /watch  → gateway → orders.history
//	POST /api/orders/{order_id}/cancel          → gateway → orders.cancel
//	POST /api/orders/{order_id}/review          → gateway → orders.review
//	POST /api/orders/{order_id}/deliver         → gateway → orders.deliver
//
// A body goes on as it came, and so does the answer: what is allowed is the
// endpoint's to say, in the same words here as over NATS. What the API looks like
// is at /openapi.json.
package gateway

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function.
func New() function.Function {
	return declare(&gateway{pace: pace{read: 15 * time.Second, beat: 15 * time.Second, again: time.Second, write: 10 * time.Second}, maxWatchers: maxWatchers})
}

func declare(g *gateway) function.Function {
	return function.Function{
		Name:        "gateway",
		Description: "Lets HTTP in: places and shows orders, and tells what happens to one.",
		Doors:       []function.Door{function.Serve("http", g.serve)},
		Needs:       function.Needs(g),
		Concurrency: function.MaxConcurrency, // each waits for another function, and takes next to nothing
		Deadline:    deadline,
	}
}

// deadline is longer than that of those who are asked, so that a caller is told
// what they have to say.
const deadline = function.DefaultDeadline + 5*time.Second

// gateway is the function with what it needs: an address.
type gateway struct {
	Settings struct {
		Address string `env:"HTTP_LISTEN, default=127.0.0.1:3000" help:"where the gateway takes HTTP"`
	}
	listener    net.Listener
	pace        pace
	maxWatchers int
}

// Config, Open and Close implement function.Resource.
func (g *gateway) Config() any { return &g.Settings }

func (g *gateway) Open(ctx context.Context) (err error) {
	g.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", g.Settings.Address)
	if err != nil {
		return fmt.Errorf("serve HTTP: HTTP_LISTEN=%q: %w; set HTTP_LISTEN to another address", g.Settings.Address, err)
	}
	return nil
}

func (g *gateway) Close() error {
	_ = g.listener.Close() // the server has closed it before, if one began
	return nil
}

// serve begins to serve.
func (g *gateway) serve(port function.Port) (function.Serving, error) {
	a := &api{port: port, pace: g.pace, reading: make(chan struct{}, maxReading), watches: newHub(g.maxWatchers, func(changed func(string)) (func(), error) {
		return port.Follow(order.Stream, changed)
	})}
	handler, err := a.handler()
	if err != nil {
		return nil, err
	}
	return start(g.listener, handler, a.watches, g.pace, port.Logger()), nil
}
