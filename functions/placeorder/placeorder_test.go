package placeorder

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

const article = `{"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`

const subject = "orders.place"

func TestTakesTheArticlesBody(t *testing.T) {
	done := functiontest.Given(t, New()).WhenAsked(subject, article)
	if len(done.Appended) != 1 {
		t.Fatalf("appended %+v, %v", done.Appended, done.Err)
	}
	if id, err := uuid.Parse(done.Appended[0].Aggregate); err != nil || id.Version() != 7 {
		t.Errorf("the order's id is %v, %v", id, err)
	}
}

func body(id, customer, price string, quantity int) string {
	return fmt.Sprintf(`{"order_id":%q,"customer_id":%q,"restaurant_id":"r","order_items":[{"code":"a","name":"b","unit_price":%s,"quantity":%d}]}`,
		id, customer, price, quantity)
}

// TestPlace repeats requests under one id: the same one, however it writes its
// numbers, answers the order as it was first placed.
func TestPlace(t *testing.T) {
	created := order.Created{
		ID: "o1", Customer: "c", Restaurant: "r", CreatedOn: functiontest.Now, Currency: order.DefaultCurrency, Amount: 60000,
		Items: []order.Item{{Code: "a", Name: "b", UnitPrice: 20000, Quantity: 3}},
	}
	first := order.Order{}.Evolve(created)
	placed := functiontest.Given(t, New()).WhenAsked(subject, body("o1", "c", "200", 3)).Then(created).ThenReplies(first)
	placed.And(order.PaymentDebited{Amount: 60000, Currency: "USD"})
	for _, same := range []string{
		body("o1", "c", "200", 3),
		body("o1", "c", "2.0000e2", 3),
		strings.Replace(body("o1", "c", "200.00", 3), "{", `{"currency":"USD",`, 1),
	} {
		placed.WhenAsked(subject, same).ThenNothing().ThenReplies(first)
	}
	for _, other := range []string{
		strings.Replace(body("o1", "c", "200", 3), "{", `{"currency":"EUR",`, 1),
		body("o1", "c", "200.01", 3),
		body("o1", "c", "200", 2),
		body("o1", "d", "200", 3),
		body("o1", "c", "300", 2), // the same amount only
	} {
		placed.WhenAsked(subject, other).ThenRefused(function.CodeConflict, "order_id")
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
	nothing := functiontest.Given(t, New())
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
		got := nothing.WhenAsked(subject, c.body).ThenRefused(function.CodeInvalid, c.field)
		if got.Err != nil && len(got.Err.Error()) > 400 {
			t.Errorf("%.90s: the reason has %d bytes", c.body, len(got.Err.Error()))
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add([]byte(article))
	door := New().Doors[0].(*function.Request)
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := door.Prepare(body)
		var refused *function.Refusal
		if err != nil && (!utf8.ValidString(err.Error()) || !errors.As(err, &refused) || refused.Code != function.CodeInvalid || refused.Field == "") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
