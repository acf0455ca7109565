package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// ask sends a request, and answers its reply and its error code.
func ask(t *testing.T, nc *nats.Conn, subject, body string) (reply, code string) {
	t.Helper()
	m, err := nc.Request(subject, []byte(body), 5*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return string(m.Data), m.Header.Get(micro.ErrorCodeHeader)
}

// happened waits until exactly these events happened to an order.
func happened(t *testing.T, nc *nats.Conn, id string, types ...string) {
	t.Helper()
	want := strings.Join(types, " ")
	eventually(t, "see "+id+" "+want, func() error {
		var history struct{ Events []struct{ Type string } }
		reply, _ := ask(t, nc, "orders.history", fmt.Sprintf(`{"order_id":%q}`, id))
		if err := json.Unmarshal([]byte(reply), &history); err != nil {
			return err
		}
		var got []string
		for _, e := range history.Events {
			got = append(got, e.Type)
		}
		if got := strings.Join(got, " "); got != want {
			return errors.New(got)
		}
		return nil
	})
}

// TestEveryWayOfAnOrder goes each way that an order can go, and looks at the
// customer's money in the end.
func TestEveryWayOfAnOrder(t *testing.T) {
	s := newSystem(t)
	s.start("up", "PAYMENT_CREDIT=1000", "REVIEW_LIMIT=500", "SHIPPING_FAIL_FOR=moon,mars").ready()
	nc := s.connect()
	order := func(id, restaurant string, price int) {
		t.Helper()
		body := fmt.Sprintf(`{"order_id":%q,"customer_id":"ann","restaurant_id":%q,"order_items":[{"code":"a","name":"b","unit_price":%d,"quantity":1}]}`, id, restaurant, price)
		if reply, code := ask(t, nc, "orders.place", body); code != "" {
			t.Fatal(reply)
		}
	}
	good := func(subject, body string) {
		t.Helper()
		if reply, code := ask(t, nc, subject, body); code != "" {
			t.Errorf("%s %s: %s", subject, body, reply)
		}
	}
	conflict := func(subject, body, says string) {
		t.Helper()
		if reply, code := ask(t, nc, subject, body); code != "409" || !strings.Contains(reply, says) {
			t.Errorf("%s %s: %s %s", subject, body, code, reply)
		}
	}

	order("good", "cgh", 100)
	happened(t, nc, "good", "created", "paymentdebited", "approved", "shipped")
	good("orders.deliver", `{"order_id":"good"}`)
	conflict("orders.cancel", `{"order_id":"good","reason":"ill"}`, "is Delivered")

	order("unshipped", "moon", 100)
	happened(t, nc, "unshipped", "created", "paymentdebited", "approved", "shippingfailed", "paymentvoided")

	order("dear", "cgh", 950) // with what good cost it is more than ann may owe
	happened(t, nc, "dear", "created", "paymentdeclined", "paymentvoided")

	order("looked-at", "cgh", 501)
	happened(t, nc, "looked-at", "created", "paymentdebited")
	get(t, nc, "looked-at", "Paid")
	if reply, _ := ask(t, nc, "orders.list", `{"status":"Paid"}`); !strings.Contains(reply, "looked-at") || strings.Contains(reply, "good") {
		t.Errorf("waiting for review: %s", reply)
	}
	conflict("orders.deliver", `{"order_id":"looked-at"}`, "is Paid")
	good("orders.review", `{"order_id":"looked-at","decision":"approve","by":"bob"}`)
	happened(t, nc, "looked-at", "created", "paymentdebited", "approved", "shipped")
	conflict("orders.review", `{"order_id":"looked-at","decision":"reject","reason":"no","by":"carol"}`, "bob has decided")

	good("accounts.deposit", `{"customer_id":"ann","amount":1000,"deposit_id":"d1"}`)
	for id, end := range map[string]string{"rejected": `{"order_id":"rejected","decision":"reject","reason":"never seen","by":"bob"}`, "cancelled": `{"order_id":"cancelled","reason":"ill"}`} {
		order(id, "cgh", 600)
		happened(t, nc, id, "created", "paymentdebited")
		good(map[string]string{"rejected": "orders.review", "cancelled": "orders.cancel"}[id], end)
		happened(t, nc, id, "created", "paymentdebited", id, "paymentvoided")
	}
	for id, status := range map[string]string{"good": "Delivered", "unshipped": "Cancelled", "dear": "Rejected", "looked-at": "Shipped", "rejected": "Rejected", "cancelled": "Cancelled"} {
		o := get(t, nc, id, status)
		if unhappy := status == "Rejected" || status == "Cancelled"; unhappy == (o.Reason == "") || unhappy == strings.HasPrefix(o.Tracking, "WB") {
			t.Errorf("%s is %+v", id, o)
		}
	}
	if reply, _ := ask(t, nc, "accounts.get", `{"customer_id":"ann"}`); reply != `{"customer_id":"ann","balances":{"USD":399}}` { // 1000 - 100 - 501
		t.Errorf("ann has %s", reply)
	}
}

// TestWhoWaitsTooLongIsEnded: an order that nobody pays, decides on or ships ends,
// and whoever comes too late finds its key closed.
func TestWhoWaitsTooLongIsEnded(t *testing.T) {
	s := newSystem(t)
	server := natstest.Start(t)
	s.env = append(s.env, "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0",
		"REVIEW_LIMIT=500", "PAYMENT_TIMEOUT=500ms", "REVIEW_TIMEOUT=500ms", "SHIPPING_TIMEOUT=500ms")
	s.start("run eventstore").ready()
	s.start("run placeorder review saga accounts orderview orderquery").ready()
	nc := server.Connect()
	order := func(id string, price int) {
		t.Helper()
		body := fmt.Sprintf(`{"order_id":%q,"customer_id":"ann","restaurant_id":"cgh","order_items":[{"code":"a","name":"b","unit_price":%d,"quantity":1}]}`, id, price)
		if reply, code := ask(t, nc, "orders.place", body); code != "" {
			t.Fatal(reply)
		}
	}
	order("unpaid", 100)
	happened(t, nc, "unpaid", "created", "overdue", "paymentvoided")
	if o := get(t, nc, "unpaid", "Cancelled"); !strings.Contains(o.Reason, "not paid within 500ms") {
		t.Errorf("the reason is %q", o.Reason)
	}

	s.start("run payment").ready() // too late for that one
	order("undecided", 501)
	happened(t, nc, "undecided", "created", "paymentdebited", "rejected", "paymentvoided")
	if o := get(t, nc, "undecided", "Rejected"); !strings.Contains(o.Reason, "nobody decided") {
		t.Errorf("the reason is %q", o.Reason)
	}
	order("unshipped", 100)
	happened(t, nc, "unshipped", "created", "paymentdebited", "approved", "overdue", "paymentvoided")
	get(t, nc, "unshipped", "Cancelled")

	s.start("run shipping").ready()
	order("good", 100)
	happened(t, nc, "good", "created", "paymentdebited", "approved", "shipped")
	happened(t, nc, "unpaid", "created", "overdue", "paymentvoided")
	if reply, _ := ask(t, nc, "accounts.get", `{"customer_id":"ann"}`); reply != `{"customer_id":"ann","balances":{"USD":-100}}` {
		t.Errorf("ann has %s", reply)
	}
}
