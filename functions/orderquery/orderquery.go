// Package orderquery answers questions about orders.
//
//	orders.get, orders.list → orderquery → the view of orders
//	orders.history          → orderquery → the event store
package orderquery

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function; db is the view.
func New(db *orderdb.DB) function.Function {
	q := query{db: db, wait: versionWait}
	return function.Function{
		Name:        "orderquery",
		Description: "Answers for one order, a list of orders, and an order's history.",
		Doors: []function.Door{
			function.Endpoint("orders.get", q.get),
			function.Endpoint("orders.list", q.list),
			function.Query("orders.history", order.Stream, history),
		},
		Needs: function.Needs(db),
	}
}

type query struct {
	db   *orderdb.DB
	wait time.Duration // for a version
}

// GetRequest asks for one order.
type GetRequest struct {
	OrderID string `json:"order_id" required:"true"`
	// MinVersion waits until the view has that version, at most 2 s: who
	// knows from a reply how far the order is sees nothing older. After that
	// the answer is 404 if the order is unknown, and 409 if it is known and not
	// yet that far.
	MinVersion uint64 `json:"min_version"`
}

// maxVersion is the most that every JSON reader can hold.
const maxVersion = 1 << 53

// Check implements the request's rules.
func (r *GetRequest) Check() error {
	if r.MinVersion > maxVersion {
		return function.Invalid("min_version", "is %d; allowed are 0 to %d", r.MinVersion, uint64(maxVersion))
	}
	return order.CheckID("order_id", r.OrderID)
}

const (
	versionWait = 2 * time.Second
	firstLook   = 2 * time.Millisecond
	longestLook = 50 * time.Millisecond
)

// get answers an order, or 404. The view may be kept by another process, so a
// version that is waited for is looked for again and again.
func (q query) get(ctx context.Context, r GetRequest) (order.Order, error) {
	deadline := time.Now().Add(q.wait)
	for wait := firstLook; ; wait = min(2*wait, longestLook) {
		o, err := q.db.Get(ctx, r.OrderID)
		switch {
		case err != nil:
			return o, err
		case o.Exists() && o.Version >= r.MinVersion:
			return o, nil
		case r.MinVersion == 0:
			return o, function.NotFound("order_id", "there is no order %q", r.OrderID)
		case time.Now().After(deadline) && !o.Exists():
			return o, function.NotFound("order_id", "there is no order %q yet", r.OrderID)
		case time.Now().After(deadline):
			return o, function.Conflict("min_version", "order %q is at version %d and not yet at %d", r.OrderID, o.Version, r.MinVersion)
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// ListRequest asks for orders, newest first.
type ListRequest struct {
	Customer string       `json:"customer_id"`
	Status   order.Status `json:"status"`
	// CreatedFrom is the first moment of their created_on, and CreatedBefore the
	// first that is too late, in RFC 3339; either may be left out.
	CreatedFrom   time.Time `json:"created_from,omitzero"`
	CreatedBefore time.Time `json:"created_before,omitzero"`
	// Limit is 1 to 500, 50 if left out. A page of large orders is shorter.
	Limit *int `json:"limit"`
	// Cursor is what the page before answered.
	Cursor string `json:"cursor"`
}

// The bounds of a page.
const (
	defaultLimit = 50
	maxLimit     = 500
)

// Check implements the request's rules.
func (r *ListRequest) Check() error {
	if r.Limit == nil {
		r.Limit = new(defaultLimit)
	}
	if r.Customer != "" {
		if err := order.CheckID("customer_id", r.Customer); err != nil {
			return err
		}
	}
	if r.Status != "" && !slices.Contains(order.Statuses, r.Status) {
		return function.Invalid("status", "is %.40q; allowed are %v", string(r.Status), order.Statuses)
	}
	if !r.CreatedFrom.IsZero() && !r.CreatedBefore.IsZero() && !r.CreatedFrom.Before(r.CreatedBefore) {
		return function.Invalid("created_before", "is %s, which is not after created_from", r.CreatedBefore.Format(time.RFC3339Nano))
	}
	if *r.Limit < 1 || *r.Limit > maxLimit {
		return function.Invalid("limit", "is %d; allowed are 1 to %d", *r.Limit, maxLimit)
	}
	if _, err := orderdb.ParseCursor(r.Cursor); err != nil {
		return function.Invalid("cursor", "is not one that a page answered")
	}
	return nil
}

// List is a page of orders. An empty cursor says that it is the last.
type List struct {
	Orders []order.Order `json:"orders"`
	Cursor string        `json:"cursor,omitempty"`
}

func (q query) list(ctx context.Context, r ListRequest) (List, error) {
	filter := orderdb.Filter{Customer: r.Customer, Status: r.Status, CreatedFrom: r.CreatedFrom, CreatedBefore: r.CreatedBefore}
	orders, cursor, err := q.db.List(ctx, filter, r.Cursor, *r.Limit)
	return List{Orders: orders, Cursor: cursor}, err
}

// HistoryRequest asks what happened to an order.
type HistoryRequest struct {
	OrderID string `json:"order_id" required:"true"`
	// FromVersion is where to begin; at the first event if left out.
	FromVersion uint64 `json:"from_version"`
}

// Check implements the request's rules.
func (r *HistoryRequest) Check() error {
	if r.FromVersion > maxVersion {
		return function.Invalid("from_version", "is %d; allowed are 0 to %d", r.FromVersion, uint64(maxVersion))
	}
	return order.CheckID("order_id", r.OrderID)
}

// History is what happened to an order.
type History struct {
	Events []HistoryEvent `json:"events"`
	// NextVersion is what to ask for next, if this is not all of it.
	NextVersion uint64 `json:"next_version,omitzero"`
}

// HistoryEvent is one thing that happened. CausationID is the id of the event, or
// the request, that led to it.
type HistoryEvent struct {
	Version     uint64          `json:"version"`
	Position    uint64          `json:"position"`
	Type        string          `json:"type"`
	Schema      int             `json:"schema"` // number of the data's shape
	Time        time.Time       `json:"time"`
	ID          string          `json:"id"`
	CausationID string          `json:"causation_id"`
	Data        json.RawMessage `json:"data"`
}

// The bounds of a history's answer, so that one message carries it: an order
// has some ten events, and its first is the largest.
const (
	maxHistory      = 500
	maxHistoryBytes = 640 << 10
)

// history answers what happened to an order, as the event store has it.
func history(ctx context.Context, log function.Log, r HistoryRequest) (History, error) {
	h, size := History{Events: []HistoryEvent{}}, 0
	for e, err := range log.ReadAggregate(ctx, r.OrderID, max(r.FromVersion, 1)) {
		if err != nil {
			return h, err
		}
		size += e.Size()
		if n := len(h.Events); n == maxHistory || n > 0 && size > maxHistoryBytes {
			h.NextVersion = e.Version
			break
		}
		h.Events = append(h.Events, HistoryEvent{
			Version: e.Version, Position: e.Position, Type: e.Type, Schema: e.Schema, Time: e.Time, ID: e.ID, CausationID: e.CausationID, Data: e.Data,
		})
	}
	if len(h.Events) == 0 && r.FromVersion <= 1 {
		return h, function.NotFound("order_id", "there is no order %q", r.OrderID)
	}
	return h, nil
}
