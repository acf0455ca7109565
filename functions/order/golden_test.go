package order_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

var update = flag.Bool("update", false, "write the golden files of the present schemas anew")

// golden is where an event's JSON is stored: created.json, and of a schema that
// is not the first approved.2.json.
func golden(typ string, schema int) string {
	if schema > 1 {
		typ += fmt.Sprint(".", schema)
	}
	return filepath.Join("testdata", typ+".json")
}

// TestGolden holds the JSON of each event to what is stored in files: a byte
// that changes is a change of the schema.
func TestGolden(t *testing.T) {
	missing := order.Types()
	for _, e := range []order.Event{
		placed(t), order.PaymentDebited{Amount: 41250, Currency: "USD", Reference: "r1", At: at}, order.PaymentDeclined{Reason: "above the limit"},
		order.WasApproved{Reason: "a regular", By: "ann", At: at}, order.WasRejected{Reason: "no decision", By: "ann"},
		order.WasShipped{Tracking: "WB0123456789"}, order.ShippingFailed{Reason: "nobody there"}, order.WasDelivered{},
		order.WasCancelled{Reason: "too late"}, order.Overdue{Reason: "it was not paid within 15m0s"}, order.PaymentVoided{},
	} {
		missing = slices.DeleteFunc(missing, func(typ string) bool { return typ == e.EventType() })
		got, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		_, schema, err := function.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		path := golden(e.EventType(), schema)
		if *update {
			if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got)+"\n" != string(want) {
			t.Errorf("%s is\n%s\nand was\n%s", e.EventType(), got, want)
		}
		back, err := (order.Order{}).Decode(e.EventType(), schema, want)
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("%s came back as %+v (%v)", e.EventType(), back, err)
		}
	}
	if len(missing) > 0 {
		t.Errorf("add an event of each of these types to the list above, and run with -update: %v", missing)
	}
}

// TestOldSchemas reads what earlier releases stored.
func TestOldSchemas(t *testing.T) {
	paid := []order.Event{order.PaymentDebited{Amount: 41250, Currency: "USD"}, order.WasApproved{}}
	for _, e := range append(paid, order.WasRejected{Reason: "no decision"}) {
		data, err := os.ReadFile(golden(e.EventType(), 1))
		if err != nil {
			t.Fatal(err)
		}
		if back, err := (order.Order{}).Decode(e.EventType(), 1, data); err != nil || back != e {
			t.Errorf("%s of schema 1 came back as %+v (%v)", e.EventType(), back, err)
		}
	}
	o := order.Order{}.Evolve(placed(t))
	for _, e := range paid {
		o = o.Evolve(e)
	}
	if o.Status != order.Approved || !o.PaidOn.Equal(at) || !o.ApprovedOn.Equal(at) || !o.CarrierAsked() {
		t.Errorf("an order whose events don't say when they were is %+v", o)
	}
}
