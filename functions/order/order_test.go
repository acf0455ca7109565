package order_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/order"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func items() []order.Item {
	return []order.Item{{Code: "vm", Name: "Veg Meals <&> é", UnitPrice: 20000, Quantity: 2}, {Code: "t", Name: "Tea", UnitPrice: 1250, Quantity: 1}}
}

func placed(t testing.TB) order.Created {
	t.Helper()
	c, err := order.Place("o1", "shijuvar", "cgh", "", items(), at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMoney(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "200": "200", "200.00": "200", "200.000": "200", "12.5": "12.5", "12.05": "12.05", "0.01": "0.01", "1e2": "100", "-3.10": "-3.1",
		"1E-2": "0.01", "99999999999999": "99999999999999",
		"0.001": "", "1e400": "", "1e-3": "", "1e999999999": "", "": "", "abc": "", `"1"`: "", "null": "", "NaN": "", "--1": "",
		"9" + strings.Repeat("0", 50): "", "0." + strings.Repeat("0", 50) + "1": "",
		// What the decimal library would round.
		"1e-30": "", "1e-330": "", "0.00000000000000000000001": "", "0.0100000000000000000000001": "", "199.99999999999999999999": "",
		"1e-9223372036854775808": "", "1e+2": "100", "10e-1": "1", "12.500000000000000000000000": "12.5", "-0": "0",
	} {
		m, err := order.ParseMoney(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q was taken as %v", in, m)
			}
			continue
		}
		if err != nil || m.String() != want {
			t.Errorf("%q became %v (%v), want %s", in, m, err, want)
		}
	}
	var m order.Money
	for _, bad := range []string{`"1"`, `null`, `true`, `{}`, `[]`} {
		if err := m.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("JSON %s was taken as %v", bad, m)
		}
	}
}

// TestMoneyIsReadAsItWasWritten, also where it has the most digits.
func TestMoneyIsReadAsItWasWritten(t *testing.T) {
	for _, m := range []order.Money{1, -1, 1_000_000_000_000_000_025, -1_000_000_000_000_000_025, 4_000_000_000_000_000_001, -4_000_000_000_000_000_001} {
		written, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var read order.Money
		if err := json.Unmarshal(written, &read); err != nil || read != m {
			t.Errorf("%s is read as %s, %v", written, read, err)
		}
	}
}

// FuzzMoney holds what is taken to what math/big makes of it: no digit is lost.
func FuzzMoney(f *testing.F) {
	for _, s := range []string{"1", "0.01", "-12.5", "1e5", "92233720368547758.07", "1e-30", "199.99999999999999999999", "100e-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := order.ParseMoney(s)
		if err != nil {
			return
		}
		again, err := order.ParseMoney(m.String())
		if err != nil || again != m {
			t.Fatalf("%q became %d, its text %q became %d (%v)", s, m, m, again, err)
		}
		if exact, ok := new(big.Rat).SetString(s); !ok || exact.Cmp(big.NewRat(int64(m), 100)) != 0 {
			t.Fatalf("%q became %v", s, m)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("created", []byte(`{"order_id":"a"}`))
	f.Add("other", []byte(`1`))
	f.Add("paymentdebited", []byte(`{"amount":1e-30}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		e, err := (order.Order{}).Decode(typ, 1, data)
		if err != nil {
			return
		}
		o := order.Order{}.Evolve(e)
		if o.Version != 1 || e.EventType() != typ {
			t.Fatalf("%s %s: %+v of %+v", typ, data, o, e)
		}
		if _, err := json.Marshal(o); err != nil && o.CreatedOn.Year() <= 9999 {
			t.Fatal(err)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, typ := range order.Types() {
		for _, data := range []string{"", "null", " null", "[]", "1", `"x"`, "{", `{} x`} {
			if e, err := (order.Order{}).Decode(typ, 1, []byte(data)); err == nil {
				t.Errorf("%s %q became %+v", typ, data, e)
			}
		}
	}
	for _, data := range []string{`{"amount":"1"}`, `{"amount":null}`, `{"amount":0.001}`, `{"amount":1e-30}`, `{"created_on":"yesterday"}`, `{"order_items":{}}`} {
		if e, err := (order.Order{}).Decode("created", 1, []byte(data)); err == nil {
			t.Errorf("%s became %+v", data, e)
		}
	}
}

func TestPlace(t *testing.T) {
	many := func(n int) []order.Item {
		all := make([]order.Item, n)
		for i := range all {
			all[i] = items()[0]
		}
		return all
	}
	with := func(change func(*order.Item)) []order.Item {
		all := items()
		change(&all[1])
		return all
	}
	for _, c := range []struct {
		name, id, customer, currency string
		items                        []order.Item
		field                        string
	}{
		{"good", "o1", "c", "", items(), ""},
		{"another currency", "o1", "c", "INR", items(), ""},
		{"the most items", "o1", "c", "", many(500), ""},
		{"greatest price and quantity", "o1", "c", "", with(func(i *order.Item) { i.UnitPrice, i.Quantity = order.MaxPrice, order.MaxQuantity }), ""},
		{"free", "o1", "c", "", with(func(i *order.Item) { i.UnitPrice = 0 }), ""},
		{"200 characters", "o1", "c", "", with(func(i *order.Item) { i.Name = strings.Repeat("é", 200) }), ""},
		{"no id", "", "c", "", items(), "order_id"},
		{"wild id", "a.*", "c", "", items(), "order_id"},
		{"long id", strings.Repeat("a", 65), "c", "", items(), "order_id"},
		{"no customer", "o1", "", "", items(), "customer_id"},
		{"no currency of this world", "o1", "c", "ABC", items(), "currency"},
		{"withdrawn currency", "o1", "c", "BGN", items(), "currency"},
		{"no money", "o1", "c", "XXX", items(), "currency"},
		{"two currencies", "o1", "c", "D U", items(), "currency"},
		{"lower case currency", "o1", "c", "usd", items(), "currency"},
		{"no items", "o1", "c", "", nil, "order_items"},
		{"too many items", "o1", "c", "", many(501), "order_items"},
		{"no code", "o1", "c", "", with(func(i *order.Item) { i.Code = "" }), "order_items[1].code"},
		{"NUL in a name", "o1", "c", "", with(func(i *order.Item) { i.Name = "a\x00" }), "order_items[1].name"},
		{"201 characters", "o1", "c", "", with(func(i *order.Item) { i.Name = strings.Repeat("é", 201) }), "order_items[1].name"},
		{"too dear", "o1", "c", "", with(func(i *order.Item) { i.UnitPrice = order.MaxPrice + 1 }), "order_items[1].unit_price"},
		{"below nothing", "o1", "c", "", with(func(i *order.Item) { i.UnitPrice = -1 }), "order_items[1].unit_price"},
		{"none of it", "o1", "c", "", with(func(i *order.Item) { i.Quantity = 0 }), "order_items[1].quantity"},
		{"too many of it", "o1", "c", "", with(func(i *order.Item) { i.Quantity = 10_001 }), "order_items[1].quantity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			created, err := order.Place(c.id, c.customer, "r", c.currency, c.items, at)
			if c.field == "" {
				var sum order.Money
				for _, i := range c.items {
					sum += i.UnitPrice * order.Money(i.Quantity)
				}
				if err != nil || created.Amount != sum {
					t.Fatalf("amount %v, %v; want %v", created.Amount, err, sum)
				}
				return
			}
			var field *order.FieldError
			if !errors.As(err, &field) || field.Field != c.field || field.Reason == "" {
				t.Fatalf("%v, want an error of %s", err, c.field)
			}
		})
	}
}

// TestTheLargestOrderFits makes the items that take the most bytes for what
// they count, as JSON writes them: they fit into an event, or are refused.
func TestTheLargestOrderFits(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		refused bool
	}{
		"quotes":          {strings.Repeat(`"`, 200), false},
		"four bytes each": {strings.Repeat("😀", 200), true},
		"mixed":           {strings.Repeat("😀", 20) + strings.Repeat(`\`, 180), false},
		"line separators": {strings.Repeat("\u2028", 85) + strings.Repeat(`"`, 4), false},
	} {
		full := make([]order.Item, order.MaxItems)
		for i := range full {
			full[i] = order.Item{Code: c.text, Name: c.text, UnitPrice: order.MaxPrice - 1, Quantity: order.MaxQuantity}
		}
		id := strings.Repeat("a", order.MaxID)
		created, err := order.Place(id, id, id, "", full, at)
		if field, ok := errors.AsType[*order.FieldError](err); c.refused != ok || ok && field.Field != "order_items" {
			t.Fatalf("%s: %v", name, err)
		}
		data, err := jsonv2.Marshal(created)
		if err != nil {
			t.Fatal(err)
		}
		const metadata = 2 << 10 // every field of the envelope at its longest
		if n := len(data) + metadata; n > eventstore.MaxEventBytes {
			t.Errorf("%s: %d bytes, an event has at most %d", name, n, eventstore.MaxEventBytes)
		}
	}
}

func TestEvolve(t *testing.T) {
	for name, c := range map[string]struct {
		events []order.Event
		status order.Status
		reason string
	}{
		"placed":                {[]order.Event{placed(t)}, order.Pending, ""},
		"paid":                  {[]order.Event{placed(t), order.PaymentDebited{}}, order.Paid, ""},
		"declined":              {[]order.Event{placed(t), order.PaymentDeclined{Reason: "no"}}, order.Rejected, "no"},
		"approved":              {[]order.Event{placed(t), order.PaymentDebited{}, order.WasApproved{}}, order.Approved, ""},
		"rejected":              {[]order.Event{placed(t), order.PaymentDebited{}, order.WasRejected{Reason: "late"}}, order.Rejected, "late"},
		"newer":                 {[]order.Event{placed(t), order.Unknown{Type: "eaten"}}, order.Pending, ""},
		"declined, voided":      {[]order.Event{placed(t), order.PaymentDeclined{Reason: "no"}, order.PaymentVoided{}}, order.Rejected, "no"},
		"delivered":             {[]order.Event{placed(t), order.PaymentDebited{}, order.WasApproved{}, order.WasShipped{Tracking: "n1"}, order.WasDelivered{}}, order.Delivered, ""},
		"not taken":             {[]order.Event{placed(t), order.PaymentDebited{}, order.WasApproved{}, order.ShippingFailed{Reason: "no"}}, order.Cancelled, "no"},
		"cancelled":             {[]order.Event{placed(t), order.WasCancelled{Reason: "ill"}}, order.Cancelled, "ill"},
		"overdue":               {[]order.Event{placed(t), order.PaymentDebited{}, order.WasApproved{}, order.Overdue{Reason: "late"}}, order.Cancelled, "late"},
		"shipped and cancelled": {[]order.Event{placed(t), order.PaymentDebited{}, order.WasApproved{}, order.WasShipped{}, order.WasCancelled{Reason: "ill"}}, order.Shipped, ""},
		// What comes late counts, and changes nothing.
		"paid after the end":     {[]order.Event{placed(t), order.PaymentDeclined{Reason: "no"}, order.PaymentDebited{}}, order.Rejected, "no"},
		"approved after the end": {[]order.Event{placed(t), order.PaymentDebited{}, order.WasRejected{Reason: "late"}, order.WasApproved{}}, order.Rejected, "late"},
		"approved before paid":   {[]order.Event{placed(t), order.WasApproved{}}, order.Pending, ""},
		"paid twice":             {[]order.Event{placed(t), order.PaymentDebited{}, order.WasApproved{}, order.PaymentDebited{}}, order.Approved, ""},
		"placed twice":           {[]order.Event{placed(t), order.PaymentDebited{}, order.Created{ID: "x"}}, order.Paid, ""},
		"placed last":            {[]order.Event{order.WasApproved{}, placed(t)}, order.Pending, ""},
	} {
		var o order.Order
		for _, e := range c.events {
			o = o.Evolve(e)
		}
		if o.Status != c.status || o.Reason != c.reason || o.Version != uint64(len(c.events)) || !o.SameAs(placed(t)) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}
