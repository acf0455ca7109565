package placeorder

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

const article = `{"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`

func door() *function.Request { return New().Doors[0].(*function.Request) }

func TestTakesTheArticlesBody(t *testing.T) {
	p, err := door().Prepare([]byte(article))
	if id, bad := uuid.Parse(p.Aggregate); err != nil || bad != nil || id.Version() != 7 {
		t.Fatalf("%+v, %v", p, err)
	}
}

// ask is a request as the door prepares it.
func ask(t *testing.T, r *function.Runner, body string) (order.Order, error) {
	t.Helper()
	p, err := door().Prepare([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	ctx := function.WithCause(t.Context(), function.Cause{ID: "request", Time: time.Now()})
	answer, err := p.Answer(ctx, r)
	o, _ := answer.(order.Order)
	return o, err
}

func body(id, customer, price string, quantity int) string {
	return fmt.Sprintf(`{"order_id":%q,"customer_id":%q,"restaurant_id":"r","order_items":[{"code":"a","name":"b","unit_price":%s,"quantity":%d}]}`,
		id, customer, price, quantity)
}

// TestPlace repeats requests under one id: the same one, however it writes its
// numbers, answers the order as it was first placed.
func TestPlace(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	runner := function.NewRunner("placeorder", store, nil)
	first, err := ask(t, runner, body("o1", "c", "200", 3))
	if err != nil || first.Amount != 60000 || first.Currency != order.DefaultCurrency || first.Status != order.Pending || first.Version != 1 {
		t.Fatalf("placed %+v, %v", first, err)
	}
	if _, err := store.Append(t.Context(), eventstore.Append{Stream: order.Stream, Aggregate: "o1", Expected: 1, Events: []eventstore.Event{
		{ID: "paid", Type: "paymentdebited", Data: []byte(`{"amount":600,"currency":"USD"}`)},
	}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body string
		code function.Code
	}{
		"the same again":       {body("o1", "c", "200", 3), 0},
		"the same value":       {body("o1", "c", "2.0000e2", 3), 0},
		"the same currency":    {strings.Replace(body("o1", "c", "200.00", 3), "{", `{"currency":"USD",`, 1), 0},
		"another currency":     {strings.Replace(body("o1", "c", "200", 3), "{", `{"currency":"EUR",`, 1), function.CodeConflict},
		"another price":        {body("o1", "c", "200.01", 3), function.CodeConflict},
		"another quantity":     {body("o1", "c", "200", 2), function.CodeConflict},
		"another customer":     {body("o1", "d", "200", 3), function.CodeConflict},
		"the same amount only": {body("o1", "c", "300", 2), function.CodeConflict},
	} {
		again, err := ask(t, runner, c.body)
		if c.code == 0 {
			if err != nil || !reflect.DeepEqual(again, first) {
				t.Errorf("%s: %+v, %v; want %+v", name, again, err, first)
			}
			continue
		}
		if refused, ok := errors.AsType[*function.Refusal](err); !ok || refused.Code != c.code || refused.Field != "order_id" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if head, err := store.Head(t.Context(), order.Stream); err != nil || head != 2 {
		t.Errorf("the stream has %d events, %v", head, err)
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
		{item(`{"code":"a","name":"b","quantity":1}`), p0}, {item(`{"code":"a","name":"b","unit_price":1}`), q0},
		{item(`{"name":"b","unit_price":1,"quantity":1}`), "order_items[0].code"}, {item(`{"code":"a","name":null,"unit_price":1,"quantity":1}`), "order_items[0].name"},
		{item(`{"code":"\ud800","name":"b","unit_price":1,"quantity":1}`), "order_items[0].code"}, {item("null"), "order_items[0].unit_price"},
		{item("{\"code\":\"\xff\",\"name\":\"b\",\"unit_price\":1,\"quantity\":1}"), "order_items[0].code"},
		{item(`{"code":"a","code":"a","name":"b","unit_price":1,"quantity":1}`), "order_items[0].code"},
		{with(`"order_id":""`), "order_id"}, {with(`"order_id":["a"]`), "order_id"}, {with(`"order_id":"é"`), "order_id"}, {with(`"order_id":"a b"`), "order_id"},
		{with(`"":1`), `""`}, {with(`"a\nb":1`), "a?b"}, {with(`"` + strings.Repeat("é", 9000) + `":1`), strings.Repeat("é", 32) + "..."},
		{with(`"currency":"usd"`), "currency"}, {with(`"currency":"US\u0000"`), "currency"}, {with(`"currency":` + strings.Repeat("[", 20_000)), "currency" + strings.Repeat("[0]", 83)}, {with(`"` + strings.Repeat("7", 9000) + `":1`), "[" + strings.Repeat("7", 64) + "...]"},
		{`{"customer_id":"c","order_items":[]}`, "restaurant_id"}, {`{"customer_id":"c","restaurant_id":"r"}`, "order_items"},
		{`{"customer_id":"c","restaurant_id":"r","order_items":null}`, "order_items"}, {`{"customer_id":"` + strings.Repeat("a", 900_000) + `"}`, "customer_id"},
		{price("1e-30"), p0}, {price("199.99999999999999999999"), p0}, {price("1000000.001"), p0}, {price("01"), "order_items[0]"}, {price("+1"), p0}, {price(".5"), p0},
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
		if err != nil && (!utf8.ValidString(err.Error()) || !errors.As(err, &refused) || refused.Code != function.CodeInvalid || refused.Field == "") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
