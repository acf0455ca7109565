package verify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
)

// ways are those of some orders: what happened after they were created, what is on
// the account, and what was due.
var ways = []struct {
	begins, ends []order.Event
	entries      []string
	due          ack
}{
	{approved, []order.Event{order.WasShipped{Tracking: "n1"}}, []string{ledger.Debited}, ack{}},
	{approved, []order.Event{order.WasShipped{Tracking: "n2"}}, []string{ledger.Debited}, ack{cancels: cameTooLate}},
	{approved, []order.Event{order.ShippingFailed{Reason: "no"}, order.PaymentVoided{}}, []string{ledger.Debited, ledger.Voided}, ack{unshipped: true}},
	{approved[:1], cancelled, []string{ledger.Debited, ledger.Voided}, ack{cancels: wasCancelled}},
	{nil, cancelled, []string{ledger.Closed}, ack{cancels: maybeCancelled, decline: true}},
	{nil, []order.Event{order.PaymentDeclined{Reason: "too much"}, order.PaymentVoided{}}, []string{ledger.Declined}, ack{decline: true}},
}

var (
	approved  = []order.Event{order.PaymentDebited{}, order.WasApproved{}}
	cancelled = []order.Event{order.WasCancelled{Reason: reason}, order.PaymentVoided{}}
)

// whole is what a run leaves in which every promise was kept.
func whole(t *testing.T) *evidence {
	t.Helper()
	e := &evidence{
		events: map[string][]eventstore.Event{}, followed: map[string][]string{}, messages: map[string][]message{},
		rows: map[string]order.Order{}, orders: map[string]ack{},
	}
	versions := map[string]uint64{}
	add := func(stream, aggregate, id string, what interface{ EventType() string }) uint64 {
		ev := eventstore.Event{Stream: stream, Aggregate: aggregate, ID: id, Type: "happened", Schema: 1}
		if what != nil {
			data, err := json.Marshal(what)
			if err != nil {
				t.Fatal(err)
			}
			ev.Type, ev.Data = what.EventType(), data
		}
		versions[stream+aggregate]++
		ev.Version, ev.Position = versions[stream+aggregate], uint64(len(e.events[stream]))+1
		e.events[stream] = append(e.events[stream], ev)
		e.followed[stream] = append(e.followed[stream], id)
		if ev.Position > 2 { // JetStream was made anew from there
			e.messages[stream] = append(e.messages[stream], message{ev.Position, id})
		}
		return ev.Position
	}
	var balance order.Money
	for i := range ways {
		id := fmt.Sprint("o", i)
		made, err := order.Place(id, "c1", "r", "", []order.Item{{Code: "a", Name: "b", UnitPrice: 100, Quantity: 1}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		add(ordersStream, id, id+"-1", made)
		for j, what := range slices.Concat(ways[i].begins, ways[i].ends) {
			add(ordersStream, id, fmt.Sprint(id, "-", j+2), what)
		}
		for j, kind := range ways[i].entries {
			balance += map[string]order.Money{ledger.Debited: -made.Amount, ledger.Voided: made.Amount}[kind]
			add(accountsStream, "c1", fmt.Sprint(id, "-", kind, j), ledger.Entry{
				Kind: kind, Customer: "c1", Key: id, Amount: made.Amount, Currency: "USD", Balances: map[string]order.Money{"USD": balance},
			})
		}
		e.orders[id] = ways[i].due
	}
	for i := range int64(6) {
		aggregate := fmt.Sprint("h", i%2)
		o := op{Aggregate: aggregate, Caller: int(i % 3), IDs: []string{fmt.Sprint("e", i, "a"), fmt.Sprint("e", i, "b")}, Outcome: stored, Call: 100 * i, Return: 100*i + 50}
		o.Expected = int64(versions[rawStream+aggregate])
		if i > 3 {
			o.Expected = int64(eventstore.Any)
		}
		o.First = add(rawStream, aggregate, o.IDs[0], nil)
		add(rawStream, aggregate, o.IDs[1], nil)
		o.Version = versions[rawStream+aggregate]
		e.ops = append(e.ops, o,
			op{Aggregate: aggregate, Outcome: seen, Version: o.Version, Call: o.Return + 1, Return: o.Return + 10},
			op{Aggregate: aggregate, IDs: []string{"lost"}, Expected: 77, Outcome: conflicted, Version: o.Version, Call: o.Return + 1, Return: o.Return + 10})
	}
	// One that was never answered and is there, and one that is not.
	add(rawStream, "h0", "late", nil)
	e.ops = append(e.ops,
		op{Aggregate: "h0", IDs: []string{"late"}, Expected: 6, Outcome: nobodyKnow, Call: 700},
		op{Aggregate: "h0", IDs: []string{"never"}, Expected: 6, Outcome: nobodyKnow, Call: 700})
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		t.Fatal(err)
	}
	e.rows = folded
	return e
}

func TestAKeptPromiseIsNoViolation(t *testing.T) {
	for _, r := range whole(t).judge() {
		if len(r.Violations) > 0 || r.Looked == 0 {
			t.Errorf("%s: looked at %d, found %+v", r.Name, r.Looked, r.Violations)
		}
	}
}

func TestEveryBreakIsNoticed(t *testing.T) {
	var out strings.Builder
	if err := selfTest(whole(t), &out); err != nil {
		t.Error(err)
	}
	for _, c := range checks {
		if !strings.Contains(out.String(), c.name) {
			t.Errorf("no break of %q is tried", c.name)
		}
	}
}

// TestARaceIsNoViolation: of two callers at once either may have been first.
func TestARaceIsNoViolation(t *testing.T) {
	ops := func(second uint64) *evidence {
		return &evidence{ops: []op{
			{Aggregate: "h", Caller: 1, IDs: []string{"a"}, Expected: -1, Outcome: stored, Version: 2, Call: 0, Return: 100},
			{Aggregate: "h", Caller: 2, IDs: []string{"b"}, Expected: -1, Outcome: stored, Version: 1, Call: 50, Return: 150},
			{Aggregate: "h", Caller: 3, Outcome: seen, Version: second, Call: 160, Return: 170},
		}}
	}
	if _, found := ops(2).linearizable(); len(found) > 0 {
		t.Error(found)
	}
	if _, found := ops(1).linearizable(); len(found) != 1 || !strings.Contains(found[0].What, "read by caller 3") {
		t.Error(found)
	}
}

// TestNothingToLookAt: a check that saw nothing proves nothing.
func TestNothingToLookAt(t *testing.T) {
	for _, r := range new(evidence).judge() {
		if r.Looked != 0 || len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "nothing is proven") {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
}
