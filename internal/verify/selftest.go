package verify

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
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
	{"an order is paid twice", checkPaid, func(e *evidence) {
		e.events[ordersStream] = append(e.events[ordersStream], e.find(ordersStream, (order.PaymentDebited{}).EventType()))
	}},
	{"money is taken twice", checkMoney, func(e *evidence) {
		e.events[accountsStream] = append(e.events[accountsStream], e.find(accountsStream, ledger.Debited))
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
	{"an order is stuck", checkEnds, func(e *evidence) {
		e.remove(ordersStream, (order.WasShipped{}).EventType())
	}},
	{"what was cancelled is not undone", checkEnds, func(e *evidence) {
		e.remove(ordersStream, (order.PaymentVoided{}).EventType())
	}},
	{"an event is a dead letter", checkEnds, func(e *evidence) {
		e.letters = append(e.letters, eventstore.Event{Stream: deadletter.Stream})
	}},
	{"the read model is behind", checkView, func(e *evidence) {
		for id, o := range e.rows {
			o.Status, o.Version = order.Paid, o.Version-1
			e.rows[id] = o
			return
		}
	}},
	{"the read model lacks an order", checkView, func(e *evidence) {
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

// remove removes all events of a type.
func (e *evidence) remove(stream, typ string) {
	e.events[stream] = slices.DeleteFunc(e.events[stream], func(ev eventstore.Event) bool { return ev.Type == typ })
}

func (e *evidence) clone() *evidence {
	c := *e
	c.events, c.followed, c.messages = cloned(e.events), cloned(e.followed), cloned(e.messages)
	c.rows, c.orders = maps.Clone(e.rows), maps.Clone(e.orders)
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
