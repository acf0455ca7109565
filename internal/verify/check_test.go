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
	"github.com/waybill-go/waybill/internal/scenario"
)

// histories are those of some orders: what happened after they were created, a
// second each, what is on the account, and what was asked for.
var histories = []struct {
	events  []order.Event
	entries []string
	asked   ack
}{
	{shipped, []string{ledger.Debited}, ack{way: scenario.Ship}},
	{shipped, []string{ledger.Debited}, ack{way: scenario.Cancel, cancel: tooLate}},
	{[]order.Event{paid, byHand, order.WasShipped{Tracking: "n1"}}, []string{ledger.Debited}, ack{way: approve, review: done}},
	{[]order.Event{paid, order.WasApproved{At: after(2)}, order.ShippingFailed{Reason: "not to the moon"}, order.PaymentVoided{}}, undone, ack{way: scenario.Fail}},
	{append([]order.Event{paid}, cancelled...), undone, ack{way: scenario.Cancel, cancel: done}},
	{cancelled, []string{ledger.Closed}, ack{way: scenario.Decline, cancel: noAnswer}},
	{[]order.Event{order.PaymentDeclined{Reason: "may owe no more than 1"}, order.PaymentVoided{}}, []string{ledger.Declined}, ack{way: scenario.Decline}},
	{[]order.Event{paid, order.WasRejected{Reason: saysNo, By: reviewer}, order.PaymentVoided{}}, undone, ack{way: scenario.Reject, review: done}},
	{tooLong(limits.Review, rejected, paid), undone, ack{way: undecided}},
	{tooLong(limits.Review, rejected, paid), undone, ack{way: lastCall, review: tooLate}},
	{tooLong(limits.Payment, order.Overdue{Reason: fmt.Sprint("it was not paid within ", limits.Payment)}), []string{ledger.Closed}, ack{way: scenario.Ship}},
	{tooLong(limits.Shipping, order.Overdue{Reason: fmt.Sprint("it was not shipped within ", limits.Shipping)}, paid, byHand), undone, ack{way: approve, review: noAnswer}},
}

var (
	placed    = time.Now().UTC()
	paid      = order.PaymentDebited{At: after(1)}
	byHand    = order.WasApproved{At: after(2), By: reviewer}
	shipped   = []order.Event{paid, order.WasApproved{At: after(2)}, order.WasShipped{Tracking: "n1"}}
	cancelled = []order.Event{order.WasCancelled{Reason: reason}, order.PaymentVoided{}}
	rejected  = order.WasRejected{Reason: fmt.Sprint("nobody decided on it within ", limits.Review)}
	undone    = []string{ledger.Debited, ledger.Voided}
)

func after(seconds int) time.Time { return placed.Add(time.Duration(seconds) * time.Second) }

// tooLong is what happens when a step does not come in time, after these.
func tooLong(limit time.Duration, end order.Event, before ...order.Event) []order.Event {
	nothing := make([]order.Event, limit/time.Second-1)
	return slices.Concat(before, nothing, []order.Event{end, order.PaymentVoided{}})
}

// whole is what a run leaves in which every promise was kept.
func whole(t *testing.T) *evidence {
	t.Helper()
	e := &evidence{
		events: map[string][]eventstore.Event{}, followed: map[string][]string{}, messages: map[string][]message{},
		rows: map[string]order.Order{}, orders: map[string]ack{}, paidIn: map[string]paidIn{}, balances: map[string]order.Money{},
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
	enter := func(id, kind, key string, amount order.Money) {
		balance += map[string]order.Money{ledger.Debited: -amount, ledger.Voided: amount, ledger.Deposited: amount}[kind]
		add(accountsStream, "c1", id, ledger.Entry{
			Kind: kind, Customer: "c1", Key: key, Amount: amount, Currency: "USD", Balances: map[string]order.Money{"USD": balance},
		})
	}
	enter("d1", ledger.Deposited, "d1", 100)
	e.paidIn["d1"] = paidIn{"c1", 100, true}
	e.paidIn["d2"] = paidIn{customer: "c1", amount: 100} // nobody knows
	for i, h := range histories {
		id := fmt.Sprint("o", i)
		o := newOrder(h.asked.way, id, "c1", 100)
		made, err := order.Place(id, "c1", o.Restaurant, "", []order.Item{{Code: "a", Name: "b", UnitPrice: o.Price, Quantity: o.Quantity}}, placed)
		if err != nil {
			t.Fatal(err)
		}
		add(ordersStream, id, id+"-1", made)
		for j, what := range h.events {
			if what != nil {
				add(ordersStream, id, fmt.Sprint(id, "-", j+2), what)
				e.events[ordersStream][len(e.events[ordersStream])-1].Time = after(j + 1)
			}
		}
		for j, kind := range h.entries {
			enter(fmt.Sprint(id, "-", kind, j), kind, id, made.Amount)
		}
		e.orders[id] = h.asked
	}
	e.balances["c1"] = balance
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
	for id, s := range folded {
		e.rows[id] = s.Order
	}
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
