package order_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
)

// The model is one order, the ledger and the carrier under its key, and the
// workers that move it, two of each kind as after a lease that ran out. A worker
// reads the order, has an effect elsewhere, and appends at the version that it
// read; before each of these it may crash, and begins again. All ways that they
// can come in between each other are walked.
//
// The order is the real one. Of the ledger and the carrier there is the rule
// that their first outcome under a key stands.

// Outcomes of a key, at the ledger and at the carrier.
const (
	open    = iota // nobody asked
	done           // debited, shipped
	refused        // declined, failed
	closed         // called off before it was done
	undone         // done, and called off
)

// world is all that there is. It is comparable: two equal worlds are one.
type world struct {
	history         string // a letter for each event of the order
	ledger, carrier uint8
	debits          uint8
	workers         [6]worker
}

// worker is how far one has come.
type worker struct {
	step uint8 // what it does next
	seen uint8 // how many events the order had when it read it
	got  uint8 // what it was answered
}

// Which workers are which.
var kinds = [6]string{"payment", "payment", "shipping", "shipping", "saga", "saga"}

var letters = map[byte]order.Event{
	'd': order.PaymentDebited{At: at}, 'n': order.PaymentDeclined{Reason: "no"}, 'a': order.WasApproved{At: at}, 'r': order.WasRejected{Reason: "no"},
	's': order.WasShipped{Tracking: "n1"}, 'f': order.ShippingFailed{Reason: "no"}, 'l': order.WasDelivered{}, 'x': order.WasCancelled{Reason: "no"},
	'o': order.Overdue{Reason: "late"}, 'v': order.PaymentVoided{},
}

// model is the rules that are tried, some of them broken on purpose.
type model struct {
	created                           order.Created
	folded                            map[string]order.Order
	forgetsVoid, forgetsRecall        bool // at the provider: calling off an unknown key does not close it
	voidsWhatIsRecorded, neverRecalls bool // in the saga
	debitsAgain                       bool // at the ledger: whoever asks under a key
}

func (m *model) fold(history string) order.Order {
	if o, ok := m.folded[history]; ok {
		return o
	}
	o := order.Order{}.Evolve(m.created)
	for i := range len(history) {
		o = o.Evolve(letters[history[i]])
	}
	m.folded[history] = o
	return o
}

// next are all worlds that can follow.
func (m *model) next(w world) (all []world) {
	o := m.fold(w.history)
	for _, letter := range []byte("arlx") { // review or a person, the courier, the customer
		if o.Allows(letters[letter]) {
			n := w
			n.history += string(letter)
			all = append(all, n)
		}
	}
	if e := o.TimedOut(order.Timeouts{Payment: 1, Review: 1, Shipping: 1}, at.Add(time.Hour)); e != nil {
		n := w
		n.history += map[string]string{"overdue": "o", "rejected": "r"}[e.EventType()]
		all = append(all, n)
	}
	for i := range w.workers {
		if w.workers[i].step > 0 {
			n := w
			n.workers[i] = worker{} // a crash
			all = append(all, n)
		}
		switch kinds[i] {
		case "payment":
			all = append(all, m.pay(w, i)...)
		case "shipping":
			all = append(all, m.ship(w, i)...)
		case "saga":
			all = append(all, m.undo(w, i)...)
		}
	}
	return all
}

// read has a worker read the order, if there is something to do.
func (m *model) read(w world, i int, todo bool) []world {
	if !todo {
		return nil
	}
	w.workers[i] = worker{step: 1, seen: uint8(len(w.history))}
	return []world{w}
}

// append has a worker append an event, if nobody was faster; it then begins
// again, and finds nothing to do.
func (*model) append(w world, i int, letter byte) []world {
	if int(w.workers[i].seen) == len(w.history) {
		w.history += string(letter)
	}
	w.workers[i] = worker{}
	return []world{w}
}

// ask has a worker ask for an effect under the order's key: the first outcome
// stands, and is one or the other.
func ask(w world, i int, key func(*world) *uint8) (all []world) {
	outcomes := []uint8{*key(&w)}
	if outcomes[0] == open {
		outcomes = []uint8{done, refused}
	}
	for _, got := range outcomes {
		n := w
		*key(&n) = got
		n.workers[i].step, n.workers[i].got = 2, got
		all = append(all, n)
	}
	return all
}

func ledger(w *world) *uint8  { return &w.ledger }
func carrier(w *world) *uint8 { return &w.carrier }

func (m *model) pay(w world, i int) []world {
	switch p := w.workers[i]; p.step {
	case 0:
		return m.read(w, i, m.fold(w.history).Allows(order.PaymentDebited{}))
	case 1:
		all := ask(w, i, ledger)
		for j := range all {
			if all[j].ledger == done && (w.ledger == open || m.debitsAgain) {
				all[j].debits++
			}
		}
		return all
	default:
		return m.append(w, i, map[bool]byte{true: 'd', false: 'n'}[p.got == done])
	}
}

func (m *model) ship(w world, i int) []world {
	switch p := w.workers[i]; p.step {
	case 0:
		return m.read(w, i, m.fold(w.history).Allows(order.WasShipped{}))
	case 1:
		return ask(w, i, carrier)
	default:
		return m.append(w, i, map[bool]byte{true: 's', false: 'f'}[p.got == done])
	}
}

// off calls a key off.
func off(key *uint8, forgets bool) {
	switch {
	case *key == done:
		*key = undone
	case *key == open && !forgets:
		*key = closed
	}
}

func (m *model) undo(w world, i int) []world {
	seen := m.fold(w.history[:w.workers[i].seen])
	switch w.workers[i].step {
	case 0:
		return m.read(w, i, m.fold(w.history).Allows(order.PaymentVoided{}))
	case 1:
		if seen.CarrierAsked() && !m.neverRecalls {
			off(&w.carrier, m.forgetsRecall)
		}
		w.workers[i].step = 2
		return []world{w}
	case 2:
		if !m.voidsWhatIsRecorded || !seen.PaidOn.IsZero() {
			off(&w.ledger, m.forgetsVoid)
		}
		w.workers[i].step = 3
		return []world{w}
	default:
		return m.append(w, i, 'v')
	}
}

// wrong says in what the order, the money and the goods disagree.
func (m *model) wrong(w world) string {
	o := m.fold(w.history)
	switch sent := o.Status == order.Shipped || o.Status == order.Delivered; {
	case w.debits > 1:
		return "two debits"
	case sent && w.ledger != done:
		return "shipped unpaid"
	case sent && w.carrier != done:
		return "shipped, and the carrier does not have it"
	case o.Voided && w.ledger == done:
		return "ended, and the debit is kept"
	case o.Voided && w.carrier == done:
		return "ended, and the goods are on their way"
	}
	return ""
}

// walk walks every world that can be, and answers the first that is wrong. All
// others can come to an end: nothing is ever stuck.
func (m *model) walk(created order.Created) (worlds int, why string) {
	m.created, m.folded = created, map[string]order.Order{}
	known, list := map[world]int{{}: 0}, []world{{}}
	var before [][]int // the worlds that a world can follow
	before = append(before, nil)
	for at := 0; at < len(list); at++ {
		if why := m.wrong(list[at]); why != "" {
			return len(list), fmt.Sprintf("%s: %+v", why, list[at])
		}
		for _, n := range m.next(list[at]) {
			i, ok := known[n]
			if !ok {
				i = len(list)
				known[n], list, before = i, append(list, n), append(before, nil)
			}
			before[i] = append(before[i], at)
		}
	}
	ends := map[int]bool{}
	var todo []int
	for i, w := range list {
		if o := m.fold(w.history); o.Status == order.Delivered || o.Voided {
			ends[i], todo = true, append(todo, i)
		}
	}
	for len(todo) > 0 {
		last := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, i := range before[last] {
			if !ends[i] {
				ends[i], todo = true, append(todo, i)
			}
		}
	}
	for i, w := range list {
		if !ends[i] {
			return len(list), fmt.Sprintf("it never ends: %+v", w)
		}
	}
	return len(list), ""
}

// TestMoneyAndGoodsAgree walks the model as it is, and then with one rule broken
// at a time, which must be noticed.
func TestMoneyAndGoodsAgree(t *testing.T) {
	worlds, why := new(model).walk(placed(t))
	if why != "" {
		t.Error(why)
	}
	t.Logf("%d worlds", worlds)
	for _, c := range []struct {
		broken model
		want   string
	}{
		{model{forgetsVoid: true}, "the debit is kept"},
		{model{voidsWhatIsRecorded: true}, "the debit is kept"},
		{model{forgetsRecall: true}, "the goods are on their way"},
		{model{neverRecalls: true}, "the goods are on their way"},
		{model{debitsAgain: true}, "two debits"},
	} {
		m := c.broken
		if _, why := m.walk(placed(t)); !strings.Contains(why, c.want) {
			t.Errorf("%+v: want %q, found %q", c.broken, c.want, why)
		}
	}
}
