package ledger_test

import (
	"fmt"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// BenchmarkDebit is a debit by a process that knows nothing of the account: on
// one with many entries it costs what it does on one with none.
func BenchmarkDebit(b *testing.B) {
	for _, length := range []int{0, 100_000} {
		b.Run(fmt.Sprint(length, "-entries"), func(b *testing.B) {
			store := openSQLite(b)
			grow(b, store, length)
			b.ResetTimer()
			for i := range b.N {
				c := usd(1)
				if length == 0 {
					c.Customer = fmt.Sprint("c", i)
				}
				if _, err := newProcess(store, 0).debit(b.Context(), fmt.Sprint("k", i), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// grow makes an account of so many entries.
func grow(b *testing.B, store eventstore.Store, length int) {
	b.Helper()
	const page = eventstore.MaxAppendEvents
	for at := 0; at < length; at += page {
		a := eventstore.Append{Stream: ledger.Stream, Aggregate: "c", Expected: eventstore.Any}
		for i := range page {
			n := order.Money(at + i + 1)
			e := ledger.Entry{Kind: ledger.Debited, Customer: "c", Key: fmt.Sprint("g", int64(n)), Amount: 1, Currency: "USD", Balances: map[string]order.Money{"USD": -n}}
			data, _, err := function.Encode(e)
			if err != nil {
				b.Fatal(err)
			}
			a.Events = append(a.Events, eventstore.Event{ID: fmt.Sprint("g", int64(n)), Type: e.Kind, Data: data})
		}
		if _, err := store.Append(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
}
