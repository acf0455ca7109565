package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
)

// ack is what is due to an accepted order.
type ack struct {
	decline   bool // it costs more than may be paid
	unshipped bool // the carrier does not take it
	cancels   end  // what it was answered when it was cancelled
}

// end says whether an order was cancelled.
type end string

const (
	notCancelled   end = ""          // nobody wanted that
	wasCancelled   end = "cancelled" // in time
	cameTooLate    end = "too late"
	maybeCancelled end = "unknown" // it was not answered until the end
)

// reason is why an order is cancelled.
const reason = "cancelled by verify"

// allows tells whether an order may end like this.
func (a ack) allows(o order.Order) bool {
	cancelled := o.Status == order.Cancelled && o.Reason == reason
	switch {
	case a.cancels == wasCancelled, a.cancels == maybeCancelled && cancelled:
		return cancelled && o.Voided
	case a.decline:
		return o.Status == order.Rejected && o.Voided
	case a.unshipped:
		return o.Status == order.Cancelled && o.Voided && !cancelled
	}
	return o.Status == order.Shipped && !o.Voided
}

// placeOrders places one order after the other. Until one is answered it is
// asked for again, also when the load is over.
func (l *load) placeOrders(loading, ctx context.Context, caller int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(caller))) //nolint:gosec // no secret, and no negative
	for n := 0; loading.Err() == nil; n++ {
		price := 1 + r.IntN(200)
		if r.IntN(20) == 0 {
			price = dear
		}
		restaurant := "cgh"
		if r.IntN(20) == 0 {
			restaurant = nobodyGoes
		}
		id := fmt.Sprintf("o%d-%d", caller, n)
		body := fmt.Sprintf(`{"order_id":%q,"customer_id":"c%d","restaurant_id":%q,"order_items":[{"code":"vm","name":"Veg Meals","unit_price":%d,"quantity":2}]}`,
			id, int64(time.Since(l.began)/hotFor)*hotCustomers+r.Int64N(hotCustomers), restaurant, price)
		if l.place(ctx, id, body, ack{decline: price == dear, unshipped: restaurant == nobodyGoes}, price) && r.IntN(20) == 0 {
			sleep(loading, time.Duration(r.IntN(30))*time.Millisecond) // at any moment of its way
			l.cancel(ctx, id)
		}
		sleep(loading, time.Duration(r.IntN(60))*time.Millisecond)
	}
}

// place places an order, and tells whether it was accepted.
func (l *load) place(ctx context.Context, id, body string, due ack, price int) bool {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		m, err := l.nc.RequestWithContext(asking, "orders.place", []byte(body))
		cancel()
		if err != nil {
			sleep(ctx, 50*time.Millisecond)
			continue
		}
		switch code, _ := strconv.Atoi(m.Header.Get(micro.ErrorCodeHeader)); {
		case code == 0:
			var answer struct {
				ID      string      `json:"order_id"`
				Amount  json.Number `json:"amount"`
				Version int         `json:"version"`
			}
			if err := json.Unmarshal(m.Data, &answer); err != nil || answer.ID != id || answer.Amount.String() != strconv.Itoa(2*price) || answer.Version != 1 {
				l.complain(checkAcks, "order %s was accepted as %s", id, m.Data)
			}
			l.accepted.Add(1)
			l.mu.Lock()
			l.orders[id] = due
			l.mu.Unlock()
			return true
		case code == 429 || code >= 500:
			sleep(ctx, 50*time.Millisecond)
		default:
			l.complain(checkAcks, "order %s was refused: %s", id, m.Data)
			return false
		}
	}
	l.complain(checkEnds, "order %s was asked for until the end, and never answered", id)
	return false
}

// cancel cancels an order, asking again until that is answered.
func (l *load) cancel(ctx context.Context, id string) {
	end := maybeCancelled
	for end == maybeCancelled && ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		m, err := l.nc.RequestWithContext(asking, "orders.cancel", fmt.Appendf(nil, `{"order_id":%q,"reason":%q}`, id, reason))
		cancel()
		code := 503
		if err == nil {
			code, _ = strconv.Atoi(m.Header.Get(micro.ErrorCodeHeader))
		}
		switch {
		case code == 0:
			end = wasCancelled
		case code == 409 && strings.Contains(string(m.Data), "any more"):
			end = cameTooLate
		case code == 409, code == 429, code >= 500: // 409: it is being changed at this moment
			sleep(ctx, 50*time.Millisecond)
		default:
			l.complain(checkAcks, "cancelling order %s was refused: %s", id, m.Data)
			end = cameTooLate
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.orders[id]
	a.cancels = end
	l.orders[id] = a
}

// paid: at most one debit for an order, and none beside a decline.
func (e *evidence) paid() (int, []violation) {
	f := finder{check: checkPaid}
	first := map[string]eventstore.Event{}
	for _, ev := range e.events[ordersStream] {
		if ev.Type != (order.PaymentDebited{}).EventType() && ev.Type != (order.PaymentDeclined{}).EventType() {
			continue
		}
		if was, twice := first[ev.Aggregate]; twice {
			f.add("%s comes after %s", line(ev), line(was))
		}
		first[ev.Aggregate] = ev
	}
	return len(first), f.found
}

// money: each account is the sum of its entries, and each key of a payment has
// what goes with the order of that id: one debit if that was shipped, and none
// that was not undone if it ended without.
func (e *evidence) money() (int, []violation) {
	f := finder{check: checkMoney}
	sums, keys := map[string]order.Money{}, map[string]string{}
	for _, ev := range e.events[accountsStream] {
		entry, err := (ledger.Account{}).Decode(ev.Type, ev.Schema, ev.Data)
		if err != nil {
			f.add("%s: %v", line(ev), err)
			continue
		}
		account := entry.Customer + " " + entry.Currency
		switch entry.Kind {
		case ledger.Debited:
			sums[account] -= entry.Amount
		case ledger.Voided:
			sums[account] += entry.Amount
		}
		if has := entry.Balances[entry.Currency]; has != sums[account] {
			f.add("%s says that %s has %v, and the entries make %v", line(ev), account, has, sums[account])
		}
		keys[entry.Key] += " " + entry.Kind
	}
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		f.add("%v", err)
	}
	for id := range e.orders {
		var allowed []string
		switch o := folded[id]; o.Status {
		case order.Shipped, order.Delivered:
			allowed = []string{" debited"}
		case order.Rejected, order.Cancelled:
			allowed = []string{" debited voided", " declined", " closed"}
		default:
			continue // it is stuck, which another check finds
		}
		if !slices.Contains(allowed, keys[id]) {
			f.add("order %s is %s, and its payment is:%s", id, folded[id].Status, keys[id])
		}
	}
	return len(keys), f.found
}

// ends: every accepted order came to the end that is due.
func (e *evidence) ends() (int, []violation) {
	f := finder{check: checkEnds}
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		f.add("%v", err)
	}
	for id, due := range e.orders {
		if o := folded[id]; !due.allows(o) {
			f.add("order %s was accepted and is %q at version %d (%s), and due is %+v", id, o.Status, o.Version, o.Reason, due)
		}
	}
	for _, letter := range e.letters {
		f.add("%s: %.300s", line(letter), letter.Data)
	}
	return len(e.orders), f.found
}
