// Waybill runs an order, from placed to delivered, as small functions on NATS.
package main

import (
	_ "embed"

	"github.com/waybill-go/waybill/functions/accounts"
	"github.com/waybill-go/waybill/functions/cancelorder"
	"github.com/waybill-go/waybill/functions/gateway"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/functions/orderquery"
	"github.com/waybill-go/waybill/functions/orderview"
	"github.com/waybill-go/waybill/functions/payment"
	"github.com/waybill-go/waybill/functions/placeorder"
	"github.com/waybill-go/waybill/functions/review"
	"github.com/waybill-go/waybill/functions/saga"
	"github.com/waybill-go/waybill/functions/shipping"
	"github.com/waybill-go/waybill/internal/bench"
	"github.com/waybill-go/waybill/internal/verify"
	"github.com/waybill-go/waybill/runtime/app"
	"github.com/waybill-go/waybill/runtime/function"
)

//go:embed nats.conf
var natsConf []byte

func main() { waybill().Main() }

// waybill is the system: its functions, in the order an order meets them.
func waybill() app.Program {
	orders, money, carrier := orderdb.New(), ledger.New(), shipping.NewCourier() // what several of them share
	return app.Program{
		Name: "waybill", Release: "0.1.0", NATSConfig: natsConf,
		Description: "An order, from placed to delivered, as small functions on NATS.",
		Functions: []function.Function{
			placeorder.New(),                 // orders.place → created
			payment.New(money),               // created → paymentdebited | paymentdeclined
			review.New(review.NewRule()),     // paymentdebited → approved; orders.review → approved | rejected
			shipping.New(carrier),            // approved → shipped | shippingfailed; orders.deliver → delivered
			cancelorder.New(),                // orders.cancel → cancelled
			saga.New(money, carrier, orders), // a timeout → overdue | rejected; unshipped ends → paymentvoided
			accounts.New(money),              // accounts.get, accounts.deposit
			orderview.New(orders),            // all events → the view orderview
			orderquery.New(orders),           // orders.get, orders.list, orders.history
			gateway.New(),                    // HTTP, for orders
		},
		Commands: append(verify.Commands(), bench.Command()),
	}
}
