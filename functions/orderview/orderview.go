// Package orderview keeps the view of orders.
//
//	all events of ORDERS → orderview → the view of orders
package orderview

import (
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/function"
)

// New declares the function; db is the view, and gives it its name.
func New(db *orderdb.DB) function.Function {
	return function.Function{
		Name:        db.View(),
		Description: "Keeps the view of orders.",
		Doors:       []function.Door{function.Project(order.Stream, db.Apply).RebuiltBy(db.Rebuild)},
		Needs:       function.Needs(db),
	}
}
