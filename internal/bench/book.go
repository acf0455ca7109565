package bench

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
)

// tracked is an order that something may still happen to.
type tracked struct {
	order scenario.Order
	paid  chan struct{} // closed when it is
	done  chan struct{} // closed when it is at its end

	// Guarded by the book. What ended it is the type of an event; an order that
	// ends unshipped is at its end when its payment is undone.
	seen, isPaid, over     bool
	ended                  string
	debits, voids, refused int // entries on its account
}

// settled tells whether nothing is to come any more, for the order or on the
// account.
func (t *tracked) settled() bool {
	if t.ended == (order.WasShipped{}).EventType() {
		return t.over && t.debits == 1
	}
	return t.over && t.debits == t.voids && t.debits+t.refused == 1
}

// book is what became of the orders of a run, by the events that were told. It
// forgets an order when it is settled, all but that it was: a run may have any
// number.
type book struct {
	prefix string // of the ids of the run's orders and customers
	make   func(n int64) (scenario.Way, scenario.Order)

	mu      sync.Mutex
	open    map[int64]*tracked
	settled []uint64               // a bit for each order
	spent   map[string]order.Money // by customer: what their shipped orders cost
	wrong   []string               // what can't be right
	read    map[string]uint64      // by stream, the sequence of its last event
}

func newBook(run string, makeOrder func(int64) (scenario.Way, scenario.Order)) *book {
	return &book{prefix: run + "-", make: makeOrder, open: map[int64]*tracked{}, spent: map[string]order.Money{}, read: map[string]uint64{}}
}

// begin is called before order n is placed.
func (b *book) begin(n int64) *tracked {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.track(n)
}

// track answers what is known of order n; nil if it is settled.
func (b *book) track(n int64) *tracked {
	if at := n / 64; at < int64(len(b.settled)) && b.settled[at]>>(n%64)&1 == 1 {
		return nil
	}
	t := b.open[n]
	if t == nil {
		t = &tracked{paid: make(chan struct{}), done: make(chan struct{})}
		_, t.order = b.make(n)
		b.open[n] = t
	}
	return t
}

// giveUp is called when order n was not accepted. It may have been placed for all
// that: then its events tell.
func (b *book) giveUp(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.open[n]; t != nil && !t.seen {
		delete(b.open, n)
	}
}

// end is the type of the event that ended the order; empty if it is not at its end.
func (b *book) end(t *tracked) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !t.over {
		return ""
	}
	return t.ended
}

// number is the order's, of this run.
func (b *book) number(id string) (n int64, ok bool) {
	text, ok := strings.CutPrefix(id, b.prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// isNews tells whether an event was not told before: a JetStream stream that is
// made anew tells again what it told, and in the same order.
func (b *book) isNews(stream string, sequence uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sequence <= b.read[stream] {
		return false
	}
	b.read[stream] = sequence
	return true
}

// happened takes note of an order's event.
func (b *book) happened(id, typ string) {
	n, ok := b.number(id)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.track(n)
	if t == nil {
		return
	}
	t.seen = true
	switch typ {
	case order.PaymentDebited{}.EventType():
		if !t.isPaid {
			t.isPaid = true
			close(t.paid)
		}
	case order.WasShipped{}.EventType():
		t.ended = typ
		b.over(t)
	case order.PaymentVoided{}.EventType():
		b.over(t)
	case order.PaymentDeclined{}.EventType(), order.WasRejected{}.EventType(), order.WasCancelled{}.EventType(),
		order.ShippingFailed{}.EventType(), order.Overdue{}.EventType():
		t.ended = typ
	}
	b.forget(n, t)
}

// over has the order be at its end, once.
func (b *book) over(t *tracked) {
	if t.over {
		return
	}
	t.over = true
	close(t.done)
	if t.ended == (order.WasShipped{}).EventType() {
		b.spent[t.order.Customer] += t.order.Amount()
	}
}

// forget forgets an order that is settled.
func (b *book) forget(n int64, t *tracked) {
	if !t.settled() {
		return
	}
	for int64(len(b.settled)) <= n/64 {
		b.settled = append(b.settled, 0)
	}
	b.settled[n/64] |= 1 << (n % 64)
	delete(b.open, n)
}

// entered takes note of an entry on an account.
func (b *book) entered(e ledger.Entry) {
	n, ok := b.number(e.Key)
	if !ok || e.Kind == ledger.Deposited {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.track(n)
	if t == nil {
		b.wrong = append(b.wrong, fmt.Sprintf("order %s: its payment is %s once more, when all was done", e.Key, e.Kind))
		return
	}
	t.seen = true
	switch e.Kind {
	case ledger.Debited:
		t.debits++
	case ledger.Voided:
		t.voids++
	default:
		t.refused++
	}
	switch shipped := t.ended == (order.WasShipped{}).EventType(); {
	case t.debits > 1 || t.voids > 1:
		b.wrong = append(b.wrong, fmt.Sprintf("order %s: its payment is debited %d times and voided %d times", e.Key, t.debits, t.voids))
	case shipped && t.voids > 0:
		b.wrong = append(b.wrong, fmt.Sprintf("order %s: it is shipped, and its payment is voided", e.Key))
	case e.Customer != t.order.Customer || e.Amount != t.order.Amount():
		b.wrong = append(b.wrong, fmt.Sprintf("order %s: it is of %s and costs %v; %s is %s %v", e.Key, t.order.Customer, t.order.Amount(), e.Customer, e.Kind, e.Amount))
	}
	b.forget(n, t)
}
