package placeorder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

const article = `{"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`

func door() *function.Request { return New().Doors[0].(*function.Request) }

func TestTakesTheArticlesBody(t *testing.T) {
	p, err := door().Prepare([]byte(article))
	if err != nil || len(p.Aggregate) != 36 {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestPlace(t *testing.T) {
	r := Request{OrderID: "o1", Customer: "c", Restaurant: "r", Items: []order.Item{{Code: "a", Name: "b", UnitPrice: 150, Quantity: 3}}}
	events, err := place(context.Background(), order.Order{}, r)
	if err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
	there := order.Order{}.Evolve(events[0])
	if there.Amount != 450 || there.Currency != order.DefaultCurrency || there.Status != order.Pending {
		t.Fatalf("placed %+v", there)
	}
	if events, err := place(context.Background(), there, r); err != nil || len(events) != 0 {
		t.Fatalf("the same again: %v, %v", events, err)
	}
	r.Items = []order.Item{{Code: "a", Name: "b", UnitPrice: 151, Quantity: 3}}
	_, err = place(context.Background(), there, r)
	var refused *function.Refusal
	if !errors.As(err, &refused) || refused.Code != function.CodeConflict || refused.Field != "order_id" {
		t.Fatalf("another body: %v", err)
	}
}

// TestMalformed has requests as nobody should send them: each is a 400 that
// names the field.
func TestMalformed(t *testing.T) {
	item := func(s string) string {
		return fmt.Sprintf(`{"customer_id":"c","restaurant_id":"r","order_items":[%s]}`, s)
	}
	price := func(s string) string { return item(`{"code":"a","name":"b","unit_price":` + s + `,"quantity":1}`) }
	quantity := func(s string) string { return item(`{"code":"a","name":"b","unit_price":1,"quantity":` + s + `}`) }
	with := func(field string) string { return strings.Replace(article, "{", "{"+field+",", 1) }
	const (
		p0 = "order_items[0].unit_price"
		q0 = "order_items[0].quantity"
	)
	for _, c := range []struct{ body, field string }{
		{"nonsense", "body"}, {"", "customer_id"}, {"{", "body"}, {"[]", "body"}, {`"x"`, "body"}, {"1", "body"}, {"true", "body"},
		{"\x00", "body"}, {article + "x", "body"}, {article + article, "body"}, {"\xff\xfe", "body"},
		{strings.Repeat("[", 100_000), "body"}, {"null", "customer_id"}, {"{}", "customer_id"},
		{with(`"amount":1`), "amount"}, {with(`"status":"Approved"`), "status"}, {with(`"created_on":"2026-01-01T00:00:00Z"`), "created_on"},
		{with(`"version":1`), "version"}, {with(`"Customer_ID":"x"`), "Customer_ID"}, {with(`"customer_id":"x"`), "customer_id"},
		{with(`"order_id":"a.b"`), "order_id"}, {with(`"order_id":"*"`), "order_id"}, {with(`"order_id":">"`), "order_id"}, {with(`"order_id":5`), "order_id"},
		{with(`"order_id":"` + strings.Repeat("a", 65) + `"`), "order_id"}, {with(`"order_id":"a\u0000"`), "order_id"},
		{with(`"currency":"XYZ"`), "currency"}, {with(`"currency":7`), "currency"},
		{`{"customer_id":5}`, "customer_id"}, {`{"customer_id":null}`, "customer_id"}, {`{"customer_id":"a b"}`, "customer_id"}, {`{"customer_id":{}}`, "customer_id"},
		{`{"customer_id":"c","restaurant_id":"r","order_items":{}}`, "order_items"}, {item(""), "order_items"}, {item("1"), "order_items[0]"},
		{item(strings.TrimSuffix(strings.Repeat(`{"code":"a","name":"b","unit_price":1,"quantity":1},`, 501), ",")), "order_items"},
		{item(`{"code":"a","name":"b","unit_price":1,"quantity":1,"x":1}`), "order_items[0].x"},
		{item(`{"code":"","name":"b","unit_price":1,"quantity":1}`), "order_items[0].code"},
		{item(`{"code":"a","name":"b\u0000","unit_price":1,"quantity":1}`), "order_items[0].name"},
		{item(`{"code":"a","name":"` + strings.Repeat("x", 201) + `","unit_price":1,"quantity":1}`), "order_items[0].name"},
		{price("1e400"), p0}, {price("0.001"), p0}, {price("-1"), p0}, {price("1000000.01"), p0}, {price(`"1"`), p0}, {price("null"), p0}, {price("[]"), p0},
		{price("1e999999999"), p0}, {price(strings.Repeat("9", 5000)), p0}, {price("1.5.5"), "order_items[0]"}, {price("NaN"), p0},
		{quantity("0"), q0}, {quantity("-1"), q0}, {quantity("1.5"), q0}, {quantity("10001"), q0}, {quantity("1e400"), q0}, {quantity(`"1"`), q0}, {quantity("99999999999999999999"), q0},
	} {
		_, err := door().Prepare([]byte(c.body))
		var refused *function.Refusal
		if !errors.As(err, &refused) || refused.Code != function.CodeInvalid || refused.Reason == "" || len(refused.Error()) > 400 {
			t.Errorf("%.90s: %v", c.body, err)
			continue
		}
		if refused.Field != c.field {
			t.Errorf("%.90s: names %q (%s), want %q", c.body, refused.Field, refused.Reason, c.field)
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add([]byte(article))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := door().Prepare(body)
		var refused *function.Refusal
		if err != nil && (!errors.As(err, &refused) || refused.Code != function.CodeInvalid || refused.Field == "") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
