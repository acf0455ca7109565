package orderview

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
	"github.com/waybill-go/waybill/runtime/functiontest/hosttest"
)

// TestSideBySide runs two views, each with two replicas: two in one database,
// as long as nothing else is said, and each with its durable. One of them is
// rebuilt meanwhile.
func TestSideBySide(t *testing.T) {
	shared := "ORDERS_DB=sqlite:" + filepath.Join(t.TempDir(), "orders.db")
	kitchen := func() *orderdb.DB {
		settings := &struct {
			URL string `env:"ORDERS_DB"`
		}{}
		return orderdb.NewView("kitchen", "ORDERS_DB", settings, &settings.URL)
	}
	archive := func() *orderdb.DB {
		settings := &struct {
			URL string `env:"ARCHIVE_DB"`
		}{}
		return orderdb.NewView("archive", "ARCHIVE_DB", settings, &settings.URL)
	}
	var views []*orderdb.DB
	var functions []function.Function
	for range 2 {
		for _, db := range []*orderdb.DB{orderdb.New(), kitchen(), archive()} {
			functiontest.Open(t, db, shared, "ARCHIVE_DB=sqlite:"+filepath.Join(t.TempDir(), db.View()+".db"))
			views, functions = append(views, db), append(functions, New(db))
		}
	}
	functions = functions[:5] // its other replica has another database, and is not run
	s := hosttest.Start(t, functions...)
	js, err := jetstream.New(s.Conn)
	if err != nil {
		t.Fatal(err)
	}
	const orders = 50
	want := map[string]order.Order{}
	happen := func(i int, e order.Event) {
		id := fmt.Sprintf("o%d", i)
		s.Append(order.Stream, id, e)
		want[id] = want[id].Evolve(e)
	}
	for i := range orders {
		happen(i, order.Created{ID: fmt.Sprintf("o%d", i), Customer: "c", Currency: "USD", Amount: 100, Items: []order.Item{}})
	}
	rebuild := functions[1].Doors[0].(*function.Projection).Rebuild //nolint:forcetypeassert // it is
	err = rebuild(t.Context(), function.HistoryOf(s.Store, order.Stream), func(m function.Message, why error) { t.Errorf("%+v: %v", m, why) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range orders {
		happen(i, order.PaymentDebited{Amount: 100, Currency: "USD"})
	}
	for _, db := range views[:5] {
		s.Eventually(db.View()+" has all", func() error {
			for id := range want {
				if o, err := db.Get(t.Context(), id); err != nil || !reflect.DeepEqual(o, want[id]) {
					return fmt.Errorf("%+v, %w", o, err)
				}
			}
			return nil
		})
	}
	stream, err := js.Stream(t.Context(), order.Stream)
	if err != nil {
		t.Fatal(err)
	}
	var durables []string
	for name := range stream.ConsumerNames(t.Context()).Name() {
		durables = append(durables, name)
	}
	if slices.Sort(durables); !slices.Equal(durables, []string{"archive", "kitchen", "orderview"}) {
		t.Errorf("the durables are %v", durables)
	}
}
