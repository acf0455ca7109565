package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// TestOneOutcome has a customer, reviewers and the time decide on the same order,
// twenty times at once and in several processes.
func TestOneOutcome(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { oneOutcome(t, newSystem(t)) })
	t.Run("postgres", func(t *testing.T) {
		s := newSystem(t)
		s.db = pgtest.Database(t)
		s.env = append(s.env, "EVENTSTORE_DB="+s.db, "ORDERS_DB="+pgtest.Database(t))
		oneOutcome(t, s)
	})
}

func oneOutcome(t *testing.T, s *system) {
	const (
		orders  = 8
		timeout = 3 * time.Second
	)
	server := natstest.Start(t)
	s.env = append(s.env, "NATS_URL="+server.URL(), "GRPC_LISTEN=127.0.0.1:0", "REVIEW_LIMIT=100", "REVIEW_TIMEOUT="+timeout.String())
	all := []*process{s.start("run eventstore").ready()}
	for _, names := range []string{"placeorder payment shipping accounts orderview orderquery", "cancelorder review saga", "review saga cancelorder"} {
		all = append(all, s.start("run "+names))
	}
	for _, p := range all {
		p.ready()
	}
	nc := server.Connect()
	var contests []*contest
	for i := range orders {
		c := &contest{t: t, nc: nc, id: fmt.Sprintf("o%d", i)}
		contests = append(contests, c)
		c.place()
	}
	var wg sync.WaitGroup
	for i, c := range contests {
		happened(t, nc, c.id, "created", "paymentdebited")
		due := c.fold()[1].PaidOn.Add(timeout)
		wg.Go(func() { // some a moment before it is due, some after
			time.Sleep(time.Until(due.Add(time.Duration(i-orders/2) * 2 * time.Millisecond)))
			c.begin(20)
		})
	}
	wg.Wait()
	ends := map[order.Status]int{}
	shipped := map[string]bool{}
	for _, c := range contests {
		end := c.check()
		ends[end.Status]++
		shipped[c.id] = end.Status == order.Shipped
	}
	t.Logf("ends: %v", ends)
	for _, p := range slices.Backward(all) {
		p.kill()
	}
	s.check(orders, "created", "paymentdebited")
	store, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	entries := map[string]string{}
	for _, e := range storetest.Consistent(t, t.Context(), store, "ACCOUNTS") {
		entries[e.Aggregate] += e.Type + " "
	}
	for id, was := range shipped {
		want := "debited voided "
		if was {
			want = "debited "
		}
		if got := entries["of-"+id]; got != want {
			t.Errorf("the account of %s has %q, want %q", id, got, want)
		}
	}
}

// contest is about one order.
type contest struct {
	t       *testing.T
	nc      *nats.Conn
	id      string
	mu      sync.Mutex
	answers []answer
}

// answer is what somebody was told who decided.
type answer struct {
	who, code, text string
}

func (c *contest) place() {
	c.t.Helper()
	body := fmt.Sprintf(`{"order_id":%q,"customer_id":"of-%s","restaurant_id":"cgh","order_items":[{"code":"a","name":"b","unit_price":101,"quantity":1}]}`, c.id, c.id)
	if reply, code := ask(c.t, c.nc, "orders.place", body); code != "" {
		c.t.Fatal(reply)
	}
}

// begin has so many decide, all at once.
func (c *contest) begin(n int) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		who := fmt.Sprintf("p%d", i)
		wg.Go(func() {
			<-start
			switch i % 4 {
			case 0:
				c.decide("orders.cancel", fmt.Sprintf(`{"order_id":%q,"reason":%q}`, c.id, who), who)
			case 1:
				c.decide("orders.review", fmt.Sprintf(`{"order_id":%q,"decision":"approve","by":%q}`, c.id, who), who)
			case 2:
				c.decide("orders.review", fmt.Sprintf(`{"order_id":%q,"decision":"reject","reason":"no","by":%q}`, c.id, who), who)
			default:
				c.fire(who)
			}
		})
	}
	close(start)
	wg.Wait()
}

// decide asks until there is an answer that says more than to ask again.
func (c *contest) decide(subject, body, who string) {
	for range 50 {
		m, err := c.nc.Request(subject, []byte(body), 10*time.Second)
		if err != nil {
			c.t.Errorf("%s %s: %v", subject, body, err)
			return
		}
		code := m.Header.Get(micro.ErrorCodeHeader)
		if code == "409" && strings.Contains(string(m.Data), "try again") {
			continue
		}
		c.mu.Lock()
		c.answers = append(c.answers, answer{who, code, string(m.Data)})
		c.mu.Unlock()
		return
	}
	c.t.Errorf("%s %s: is being changed all the time", subject, body)
}

// fire is one more timer of the order's.
func (c *contest) fire(id string) {
	m := nats.NewMsg("TIMERS.saga")
	for k, v := range map[string]string{
		"ce-specversion": "1.0", "ce-id": c.id + id, "ce-type": "saga", "ce-subject": c.id,
		"ce-time": "2026-01-02T03:04:05Z", "ce-version": "1", "ce-schema": "1",
	} {
		m.Header.Set(k, v)
	}
	if err := c.nc.PublishMsg(m); err != nil {
		c.t.Error(err)
	}
}

// fold is the order after each of its events, all of which the rules allow.
func (c *contest) fold() (states []order.Order) {
	c.t.Helper()
	reply, _ := ask(c.t, c.nc, "orders.history", fmt.Sprintf(`{"order_id":%q}`, c.id))
	var history struct {
		Events []struct {
			Type string
			Data json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(reply), &history); err != nil {
		c.t.Fatal(err, reply)
	}
	var o order.Order
	for _, stored := range history.Events {
		e, err := o.Decode(stored.Type, 2, stored.Data)
		if err != nil {
			c.t.Fatal(err)
		}
		if !o.Allows(e) {
			c.t.Errorf("%s is %s, and then %s: %s", c.id, o.Status, stored.Type, reply)
		}
		o = o.Evolve(e)
		states = append(states, o)
	}
	return states
}

// check waits for the order's end, and compares it with what everybody was told.
func (c *contest) check() (end order.Order) {
	c.t.Helper()
	var states []order.Order
	eventually(c.t, "end "+c.id, func() error {
		states = c.fold()
		if end = states[len(states)-1]; end.Status != order.Shipped && !end.Voided {
			return fmt.Errorf("it is %s", end.Status)
		}
		return nil
	})
	var decided, told []string
	for i, o := range states {
		switch {
		case i == 0 || o.Status == states[i-1].Status:
		case o.Status == order.Cancelled:
			decided = append(decided, o.Reason)
		case o.ReviewedBy != states[i-1].ReviewedBy:
			decided = append(decided, o.ReviewedBy)
		}
	}
	for _, a := range c.answers {
		if a.code == "" {
			var o order.Order
			if err := json.Unmarshal([]byte(a.text), &o); err != nil || o.Version < 3 || o.Version > uint64(len(states)) || states[o.Version-1].Status != o.Status {
				c.t.Errorf("%s was told %s, %v", a.who, a.text, err)
			}
			told = append(told, a.who)
			continue
		}
		was := slices.ContainsFunc(states[2:], func(o order.Order) bool { return strings.Contains(a.text, "is "+string(o.Status)) })
		if a.code != "409" || !was {
			c.t.Errorf("%s was told %s %s; the order's states: %+v", a.who, a.code, a.text, states)
		}
	}
	slices.Sort(decided)
	slices.Sort(told)
	if !slices.Equal(decided, told) {
		c.t.Errorf("%s was decided by %v, and told so were %v", c.id, decided, told)
	}
	if want := 15; len(c.answers) != want {
		c.t.Errorf("%d of %d were answered", len(c.answers), want)
	}
	want := fmt.Sprintf(`{"customer_id":"of-%s","balances":{"USD":0}}`, c.id)
	if end.Status == order.Shipped {
		want = strings.Replace(want, ":0}", ":-101}", 1)
	}
	if reply, _ := ask(c.t, c.nc, "accounts.get", fmt.Sprintf(`{"customer_id":"of-%s"}`, c.id)); reply != want {
		c.t.Errorf("%s ended %s: %s", c.id, end.Status, reply)
	}
	return end
}
