package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
	"github.com/waybill-go/waybill/runtime/deadletter"
)

// breaks are ways to break a promise, and the check that has to notice.
var breaks = []struct {
	name  string
	check string
	do    func(*evidence)
}{
	{"an acknowledged append is lost", checkAcks, func(e *evidence) {
		i := slices.IndexFunc(e.ops, func(o op) bool { return o.Outcome == stored })
		e.events[rawStream] = slices.DeleteFunc(e.events[rawStream], func(ev eventstore.Event) bool { return ev.ID == e.ops[i].IDs[0] })
	}},
	{"an accepted order is lost", checkAcks, func(e *evidence) {
		e.orders["lost"] = ack{}
	}},
	{"an event is doubled", checkGapless, func(e *evidence) {
		events := e.events[rawStream]
		again := events[len(events)/2]
		again.Position, again.Version = events[len(events)-1].Position+1, 1
		for _, ev := range events {
			if ev.Aggregate == again.Aggregate {
				again.Version = ev.Version + 1
			}
		}
		e.events[rawStream] = append(events, again)
	}},
	{"a position is missing", checkGapless, func(e *evidence) {
		i := len(e.events[rawStream]) / 2
		e.events[rawStream] = slices.Delete(e.events[rawStream], i, i+1)
	}},
	{"a version is missing", checkGapless, func(e *evidence) {
		e.events[rawStream][len(e.events[rawStream])-1].Version++
	}},
	{"JetStream lost a message", checkSequence, func(e *evidence) {
		i := len(e.messages[ordersStream]) / 2
		e.messages[ordersStream] = slices.Delete(e.messages[ordersStream], i, i+1)
	}},
	{"JetStream holds another event", checkSequence, func(e *evidence) {
		e.messages[ordersStream][0].id = "foreign"
	}},
	{"JetStream lost its end", checkSequence, func(e *evidence) {
		e.messages[rawStream] = e.messages[rawStream][:len(e.messages[rawStream])-1]
	}},
	{"a reader saw an event twice", checkFollow, func(e *evidence) {
		e.followed[rawStream] = slices.Insert(e.followed[rawStream], 1, e.followed[rawStream][0])
	}},
	{"an order is paid twice", checkPaid, func(e *evidence) { e.again(ordersStream, (order.PaymentDebited{}).EventType()) }},
	{"an order is voided twice", checkPaid, func(e *evidence) { e.again(ordersStream, (order.PaymentVoided{}).EventType()) }},
	{"what is shipped is cancelled", checkPaid, func(e *evidence) {
		ev := e.find(ordersStream, (order.WasShipped{}).EventType())
		ev.Type, ev.Data = (order.WasCancelled{}).EventType(), []byte(`{"reason":"late"}`)
		e.events[ordersStream] = append(e.events[ordersStream], ev)
	}},
	{"money is taken twice", checkMoney, func(e *evidence) { e.again(accountsStream, ledger.Debited) }},
	{"a debit is undone twice", checkMoney, func(e *evidence) { e.again(accountsStream, ledger.Voided) }},
	{"a deposit is lost", checkMoney, func(e *evidence) { e.remove(accountsStream, ledger.Deposited) }},
	{"a deposit is there twice", checkMoney, func(e *evidence) { e.again(accountsStream, ledger.Deposited) }},
	{"another amount is paid in", checkMoney, func(e *evidence) {
		for id, p := range e.paidIn {
			p.amount++
			e.paidIn[id] = p
		}
	}},
	{"an account is answered as it was before", checkMoney, func(e *evidence) {
		for customer, has := range e.balances {
			e.balances[customer] = has - 1
			return
		}
	}},
	{"what was cancelled keeps its debit", checkMoney, func(e *evidence) {
		e.remove(accountsStream, ledger.Voided)
	}},
	{"an order is shipped that is not paid", checkMoney, func(e *evidence) {
		e.remove(accountsStream, ledger.Debited)
	}},
	{"a balance is wrong", checkMoney, func(e *evidence) {
		ev := e.find(accountsStream, ledger.Debited)
		ev.Type = ledger.Voided
		e.events[accountsStream] = append(e.events[accountsStream], ev)
	}},
	{"an order is stuck", checkEnds, func(e *evidence) { e.remove(ordersStream, (order.WasShipped{}).EventType()) }},
	{"what was cancelled is not undone", checkEnds, func(e *evidence) {
		e.remove(ordersStream, (order.PaymentVoided{}).EventType())
	}},
	{"what was to be declined is shipped", checkEnds, func(e *evidence) { e.take((order.WasShipped{}).EventType(), scenario.Decline) }},
	{"what the carrier does not take is shipped", checkEnds, func(e *evidence) { e.take((order.WasShipped{}).EventType(), scenario.Fail) }},
	{"what may be paid is declined", checkEnds, func(e *evidence) { e.take((order.PaymentDeclined{}).EventType(), scenario.Ship) }},
	{"what nobody cancels is cancelled", checkEnds, func(e *evidence) {
		id := e.find(ordersStream, (order.WasCancelled{}).EventType()).Aggregate
		e.orders[id] = ack{way: e.orders[id].way}
	}},
	{"a cancellation that was answered is lost", checkEnds, func(e *evidence) {
		id := e.find(ordersStream, (order.WasShipped{}).EventType()).Aggregate
		e.orders[id] = ack{way: e.orders[id].way, cancel: done}
	}},
	{"a decision that was answered is lost", checkEnds, func(e *evidence) { e.decided(false, ack{way: scenario.Reject, review: done}) }},
	{"what a person rejects is rejected by another", checkEnds, func(e *evidence) {
		e.rewrite(func(o story) bool { return o.how() == "rejected" }, order.WasRejected{Reason: saysNo, By: "nobody"})
	}},
	{"what must be looked at is shipped unseen", checkEnds, func(e *evidence) {
		e.rewrite(func(o story) bool { return o.how() == "shipped" && o.ReviewedBy != "" }, order.WasApproved{})
	}},
	{"what nobody looked at says that somebody did", checkEnds, func(e *evidence) { e.decided(true, ack{way: undecided}) }},
	{"an end has another reason", checkEnds, func(e *evidence) {
		e.rewrite(func(o story) bool { return o.how() == "shippingfailed" }, order.ShippingFailed{Reason: "no"})
	}},
	{"a time is over before it is", checkEnds, func(e *evidence) {
		i := e.index(func(o story) bool { return o.how() == "undecided" }, order.WasRejected{})
		e.events[ordersStream][i].Time = e.events[ordersStream][i].Time.Add(-limits.Review)
	}},
	{"a time is over that was not waited for", checkEnds, func(e *evidence) {
		e.rewrite(func(o story) bool { return o.how() == "undecided" }, order.WasRejected{Reason: "it was not paid in time"})
	}},
	{"an event is a dead letter", checkEnds, func(e *evidence) {
		e.letters = append(e.letters, eventstore.Event{Stream: deadletter.Stream})
	}},
	{"the view is behind", checkView, func(e *evidence) {
		for id, o := range e.rows {
			o.Status, o.Version = order.Paid, o.Version-1
			e.rows[id] = o
			return
		}
	}},
	{"the view lacks an order", checkView, func(e *evidence) {
		for id := range e.rows {
			delete(e.rows, id)
			return
		}
	}},
	{"a read saw what was not there yet", checkLinearizable, func(e *evidence) {
		i := slices.IndexFunc(e.ops, func(o op) bool { return o.Outcome == seen })
		e.ops[i].Version += 1000
	}},
	{"an append was stored on a version it did not expect", checkLinearizable, func(e *evidence) {
		i := slices.IndexFunc(e.ops, func(o op) bool { return o.Outcome == stored && o.Expected >= 0 })
		e.ops[i].Expected++
	}},
}

// selfTest breaks each promise in a copy of what a run left, and fails when the
// check for it does not notice.
func selfTest(e *evidence, w io.Writer) error {
	if none := e.lacks(); len(none) > 0 {
		return fmt.Errorf("no order was %v, and so there is nothing to break: let it run for longer", none)
	}
	var missed []error
	for _, b := range breaks {
		broken := e.clone()
		b.do(broken)
		var found []violation
		for _, r := range broken.judge() {
			if r.Name == b.check {
				found = r.Violations
			}
		}
		if len(found) == 0 {
			missed = append(missed, fmt.Errorf("%s: nothing noticed", b.name))
			fmt.Fprintf(w, "MISSED   %s\n", b.name)
			continue
		}
		fmt.Fprintf(w, "noticed  %s\n         %s: %s\n", b.name, b.check, found[0].What)
	}
	return errors.Join(missed...)
}

// find is the first event of a type.
func (e *evidence) find(stream, typ string) eventstore.Event {
	events := e.events[stream]
	return events[slices.IndexFunc(events, func(ev eventstore.Event) bool { return ev.Type == typ })]
}

// again has the first event of a type happen twice.
func (e *evidence) again(stream, typ string) {
	e.events[stream] = append(e.events[stream], e.find(stream, typ))
}

// take has an order that ended with such an event be one that goes another way.
func (e *evidence) take(typ string, way scenario.Way) {
	e.orders[e.find(ordersStream, typ).Aggregate] = ack{way: way}
}

// decided has an order that a person approved, or nobody decided on, be another.
func (e *evidence) decided(byPerson bool, a ack) {
	i := e.index(func(o story) bool {
		return byPerson && o.how() == "shipped" && o.ReviewedBy != "" || !byPerson && o.how() == "undecided"
	}, order.Created{})
	e.orders[e.events[ordersStream][i].Aggregate] = a
}

// index is where the first event of this type is, of such an order.
func (e *evidence) index(such func(story) bool, what order.Event) int {
	folded, _ := fold(e.events[ordersStream]) // all was well before
	return slices.IndexFunc(e.events[ordersStream], func(ev eventstore.Event) bool {
		return ev.Type == what.EventType() && such(folded[ev.Aggregate])
	})
}

// rewrite has another content in the first event of this type of such an order.
func (e *evidence) rewrite(such func(story) bool, what order.Event) {
	data, err := json.Marshal(what)
	if err != nil {
		panic(err) // it is one of ours
	}
	e.events[ordersStream][e.index(such, what)].Data = data
}

// lacks names what a run must have had, so that it can be broken.
func (e *evidence) lacks() (what []string) {
	ends := e.howMany()
	for _, end := range []string{"shipped", "paymentdeclined", "rejected", "undecided", "cancelled", "shippingfailed"} {
		if ends[end] == 0 {
			what = append(what, end)
		}
	}
	return what
}

// remove removes all events of a type.
func (e *evidence) remove(stream, typ string) {
	e.events[stream] = slices.DeleteFunc(e.events[stream], func(ev eventstore.Event) bool { return ev.Type == typ })
}

func (e *evidence) clone() *evidence {
	c := *e
	c.events, c.followed, c.messages = cloned(e.events), cloned(e.followed), cloned(e.messages)
	c.rows, c.orders = maps.Clone(e.rows), maps.Clone(e.orders)
	c.paidIn, c.balances = maps.Clone(e.paidIn), maps.Clone(e.balances)
	c.ops, c.letters, c.wrong = slices.Clone(e.ops), slices.Clone(e.letters), slices.Clone(e.wrong)
	return &c
}

func cloned[E any](m map[string][]E) map[string][]E {
	c := map[string][]E{}
	for k, v := range m {
		c[k] = slices.Clone(v)
	}
	return c
}
