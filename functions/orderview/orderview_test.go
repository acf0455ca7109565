package orderview

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTheDoor hands the function the last of an order's events: the others it
// reads from the store.
func TestTheDoor(t *testing.T) {
	dir := t.TempDir()
	db := orderdb.New()
	set := func(name string) (string, bool) {
		return "sqlite:" + filepath.Join(dir, "orders.db"), name == "ORDERS_DB"
	}
	if err := config.Load(t.Context(), set, db.Config()); err != nil {
		t.Fatal(err)
	}
	f := New(db)
	if err := f.Check(); err != nil || len(f.Needs) != 1 {
		t.Fatalf("%v, needs %v", err, f.Needs)
	}
	if err := f.Needs[0].Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Needs[0].Close() }()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	stored, err := store.Append(t.Context(), eventstore.Append{Stream: order.Stream, Aggregate: "o1", Events: []eventstore.Event{
		{ID: "1", Type: "created", Data: []byte(`{"order_id":"o1","customer_id":"c","amount":12.5}`)},
		{ID: "2", Type: "tasted", Data: []byte(`{"by":"a newer release"}`)},
		{ID: "3", Type: "paymentdebited", Data: []byte(`{"amount":12.5}`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	door := f.Doors[0].(*function.Projection)
	if err := door.Apply(t.Context(), function.NewRunner(f.Name, store, nil).Log(door.Stream), stored.Events[2:]); err != nil {
		t.Fatal(err)
	}
	if o, err := db.Get(t.Context(), "o1"); err != nil || o.Status != order.Paid || o.Version != 3 || o.Amount != 1250 {
		t.Fatalf("%+v, %v", o, err)
	}
}
