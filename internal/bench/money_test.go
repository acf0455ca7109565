package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// answers has a subject answer the same to everybody; an error code instead where
// text is a number.
func answers(t *testing.T, nc *nats.Conn, subject, text string) {
	t.Helper()
	sub, err := nc.Subscribe(subject, func(m *nats.Msg) {
		reply := &nats.Msg{Data: []byte(text), Header: nats.Header{}}
		if !strings.HasPrefix(text, "{") {
			reply.Header.Set(micro.ErrorCodeHeader, text)
		}
		_ = m.RespondMsg(reply)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
}

// TestMoneyIsJudged has one customer with two orders that events tell are shipped,
// and an account and a view that agree with that or do not.
func TestMoneyIsJudged(t *testing.T) {
	server := natstest.Start(t)
	const none = `{"orders":[]}`
	for name, c := range map[string]struct {
		scenario string
		account  string
		orders   string
		wrong    string
		unjudged int
		fails    string
	}{
		"adds up":             {"happy", `{"balances":{"USD":-800}}`, none, "", 0, ""},
		"adds up by the view": {"happy", `{"balances":{"USD":-400}}`, `{"orders":[{"status":"Shipped","amount":400},{"status":"Cancelled","amount":400,"payment_voided":true}]}`, "", 0, ""},
		"with its deposit":    {"mixed", `{"balances":{"USD":999999200}}`, none, "", 0, ""},
		"debited twice":       {"happy", `{"balances":{"USD":-1200}}`, `{"orders":[{"status":"Shipped","amount":400},{"status":"Delivered","amount":400}]}`, "r-0 has -1200; deposits of 0 and shipped orders of 800 make -800", 0, ""},
		"never debited":       {"happy", "404", `{"orders":[{"status":"Shipped","amount":400}]}`, "r-0 has 0", 0, ""},
		"is under way":        {"happy", `{"balances":{"USD":-1200}}`, `{"orders":[{"order_id":"x","status":"Cancelled","amount":400}]}`, "", 1, ""},
		"is not answered":     {"happy", "503", none, "", 0, "accounts.get answers 503"},
	} {
		t.Run(name, func(t *testing.T) {
			nc := server.Connect()
			answers(t, nc, "accounts.get", c.account)
			answers(t, nc, "orders.list", c.orders)
			l := &load{c: &ordersCommand{Scenario: c.scenario, Customers: 1, Settle: 50 * time.Millisecond}, run: "r", nc: nc, book: testBook()}
			for n := range int64(2) {
				l.book.begin(n)
				l.book.happened(id("r", n), "shipped")
			}
			l.begun.Store(2)
			v, err := l.judge(t.Context())
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("judged %+v, %v", v, err)
				}
				return
			}
			if err != nil || v.Accounts != 1 || v.Unjudged != c.unjudged {
				t.Errorf("judged %+v, %v", v, err)
			}
			if got := strings.Join(v.Wrong, "\n"); (got == "") != (c.wrong == "") || !strings.Contains(got, c.wrong) {
				t.Errorf("found %q, want %q", got, c.wrong)
			}
		})
	}
}

// TestVerdict: what a run is told to be wrong.
func TestVerdict(t *testing.T) {
	type ends = map[scenario.Way]map[string]int
	good := ends{scenario.Ship: {"shipped": 83}, scenario.Decline: {"paymentdeclined": 5}, scenario.Cancel: {"shipped": 5}}
	for name, c := range map[string]struct {
		r    Report
		says string
	}{
		"nothing":           {Report{Ended: 93, ends: good}, ""},
		"money":             {Report{Ended: 93, ends: good, Money: verdict{Wrong: []string{"r-0 has 1"}}}, "does not add up: r-0 has 1"},
		"stuck":             {Report{Ended: 93, ends: good, Waiting: 2}, "2 accepted orders are not at their end"},
		"nothing ended":     {Report{}, "is everything running"},
		"not shipped":       {Report{Ended: 9, ends: ends{scenario.Ship: {"shipped": 5, "overdue": 4}}}, "4 orders that had to be shipped ended with overdue"},
		"no credit limit":   {Report{Ended: 5, ends: ends{scenario.Decline: {"shipped": 5}}}, "PAYMENT_CREDIT="},
		"no review limit":   {Report{Ended: 5, ends: ends{scenario.Reject: {"shipped": 1, "rejected": 4}}}, "REVIEW_LIMIT="},
		"only that":         {Report{Ended: 5, ends: ends{scenario.Decline: {"rejected": 5}}}, "PAYMENT_CREDIT="},
		"the carrier works": {Report{Ended: 5, ends: ends{scenario.Fail: {"shipped": 5}}}, "SHIPPING_FAIL_FOR=moon"},
	} {
		err := c.r.verdict()
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// TestEachCustomerGoesAllWays, also where there are as many as the scenario has
// orders.
func TestEachCustomerGoesAllWays(t *testing.T) {
	l := &load{c: &ordersCommand{Customers: 1000, Orders: 100}, run: "r", mix: scenario.NewMix(scenario.Mixed()...)}
	ways := map[string]map[scenario.Way]bool{}
	ids := map[string]bool{}
	for n := range int64(100 * 100) {
		way, o := l.order(n)
		if ways[o.Customer] == nil {
			ways[o.Customer] = map[scenario.Way]bool{}
		}
		ways[o.Customer][way], ids[o.ID] = true, true
		if order.CheckID("order_id", o.ID) != nil || order.CheckID("customer_id", o.Customer) != nil {
			t.Fatalf("ids %q and %q", o.ID, o.Customer)
		}
	}
	for customer, all := range ways {
		if len(all) != 5 {
			t.Errorf("%s goes %v", customer, all)
		}
	}
	if len(ways) != 100 || len(ids) != 100*100 {
		t.Error(fmt.Sprint(len(ways), " customers, ", len(ids), " orders"))
	}
}
