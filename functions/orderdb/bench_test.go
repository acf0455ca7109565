package orderdb

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// many makes the created events of n orders, of n/100 customers.
func many(b testing.TB, prefix string, n int) history {
	b.Helper()
	h := make(history, n)
	for i := range h {
		c, err := order.Place(fmt.Sprintf("%s-%d", prefix, i), fmt.Sprintf("c%d", i%max(n/100, 1)), "cgh", "",
			[]order.Item{{Code: "vm", Name: "Veg Meals", UnitPrice: 20000, Quantity: 2}}, time.Unix(int64(i), 0))
		if err != nil {
			b.Fatal(err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		h[i] = function.Message{Stream: order.Stream, Position: uint64(i + 1), Aggregate: c.ID, Version: 1, Type: "created", Schema: 1, Data: data}
	}
	return h
}

// BenchmarkApply stores new orders, 100 to a transaction.
func BenchmarkApply(b *testing.B) {
	const size = 100
	db := open(b, file(b))
	h := many(b, "o", size*b.N)
	b.ResetTimer()
	for batch := range slices.Chunk(h, size) {
		if err := db.Apply(b.Context(), h, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(h))/b.Elapsed().Seconds(), "orders/s")
}

// BenchmarkRead asks a table of 10⁵ orders.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	db := open(b, file(b))
	h := many(b, "o", n)
	for batch := range slices.Chunk(h, 5000) {
		if err := db.Apply(b.Context(), h, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("get", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i = (i + 7919) % n
			if o, err := db.Get(b.Context(), h[i].Aggregate); err != nil || !o.Exists() {
				b.Fatal(o, err)
			}
		}
	})
	for name, f := range map[string]Filter{
		"list-all": {}, "list-customer": {Customer: "c7"}, "list-status": {Status: order.Pending},
		"list-both": {Customer: "c7", Status: order.Pending}, "list-none": {Status: order.Approved},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := db.List(b.Context(), f, "", 50); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
