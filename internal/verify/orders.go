package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
)

// Ways of orders that a person has to decide on, beside scenario.Reject.
const (
	approve   scenario.Way = "approve"
	undecided scenario.Way = "undecided" // nobody decides
	lastCall  scenario.Way = "last call" // somebody rejects just when the time is over
)

// ways is the mixed scenario, with those of people.
var ways = scenario.NewMix(append(scenario.Mixed(), scenario.Share{Way: approve, Percent: 4}, scenario.Share{Way: undecided, Percent: 3},
	scenario.Share{Way: lastCall, Percent: 3})...)

// newOrder is an order that goes this way.
func newOrder(way scenario.Way, id, customer string, price order.Money) scenario.Order {
	switch way {
	case approve, undecided, lastCall:
		way = scenario.Reject // it costs as much
	}
	return way.New(id, customer, price)
}

// limits are how long an order waits for each step: longer than an event of a
// process that was killed waits for another, so that it is shipped for all that, and
// short enough for a run to have orders that wait for too long.
var limits = order.Timeouts{Payment: 20 * time.Second, Review: 20 * time.Second, Shipping: 20 * time.Second}

// settings are those of the processes that decide what an order's way is.
func settings() []string {
	return append(scenario.Settings(), fmt.Sprint("PAYMENT_TIMEOUT=", limits.Payment), fmt.Sprint("REVIEW_TIMEOUT=", limits.Review),
		fmt.Sprint("SHIPPING_TIMEOUT=", limits.Shipping))
}

// ack is an accepted order, and what else about it was asked for.
type ack struct {
	way    scenario.Way
	cancel answer
	review answer // of the decision that goes with its way
}

// answer is what a change of an order was answered.
type answer string

const (
	notAsked answer = ""
	done     answer = "done"
	tooLate  answer = "too late"
	noAnswer answer = "unknown" // it was not answered until the end
)

// can tells whether what was asked for may have happened.
func (a answer) can() bool { return a == done || a == noAnswer }

// What a customer and a person say.
const (
	reason     = "cancelled by verify"
	reviewer   = "verify"
	saysNo     = "rejected by verify"
	decideNo   = `"decision":"reject","reason":"` + saysNo + `","by":"` + reviewer + `"`
	decideYes  = `"decision":"approve","by":"` + reviewer + `"`
	cancelling = `"reason":"` + reason + `"`
)

// placeOrders places one order after the other, while there are to be more. Until
// one is answered it is asked for again, also when the load is over.
func (l *load) placeOrders(ctx context.Context, more func() bool, caller int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(caller))) //nolint:gosec // no secret, and no negative
	var people sync.WaitGroup
	defer people.Wait()
	for n := 0; more(); n++ {
		way := ways.Way(l.placed.Add(1) - 1)
		customer := fmt.Sprintf("c%d", int64(time.Since(l.began)/hotFor)*hotCustomers+r.Int64N(hotCustomers))
		o := newOrder(way, fmt.Sprintf("o%d-%d", caller, n), customer, order.Money(1+r.Int64N(200_00)))
		if r.IntN(20) == 0 {
			l.deposit(ctx, customer, o.ID, order.Money(1+r.Int64N(100_00)))
		}
		cancel := way == scenario.Cancel || r.IntN(40) == 0
		moment := time.Duration(r.IntN(30)) * time.Millisecond // any of its way
		if l.place(ctx, o, way) {
			switch way {
			case approve:
				people.Go(func() { l.review(ctx, o.ID, moment, decideYes) })
			case scenario.Reject:
				people.Go(func() { l.review(ctx, o.ID, moment, decideNo) })
			case lastCall:
				people.Go(func() { l.review(ctx, o.ID, limits.Review-15*time.Millisecond+moment, decideNo) })
			}
			if cancel {
				sleep(ctx, moment)
				l.change(ctx, o.ID, "cancel", cancelling, "any more", func(a *ack, said answer) { a.cancel = said })
			}
		}
		sleep(ctx, time.Duration(r.IntN(60))*time.Millisecond)
	}
}

// review has a person decide after a while.
func (l *load) review(ctx context.Context, id string, after time.Duration, decision string) {
	sleep(ctx, after)
	l.change(ctx, id, "review", decision, "already", func(a *ack, said answer) { a.review = said })
}

// ask asks until there is an answer; the code is 0 if it is a good one. It tells
// whether there was one before the end.
func (l *load) ask(ctx context.Context, subject, body string) (data []byte, code int, ok bool) {
	for ; ctx.Err() == nil; sleep(ctx, 50*time.Millisecond) {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		m, err := l.nc.RequestWithContext(asking, subject, []byte(body))
		cancel()
		if err != nil {
			continue
		}
		if code, _ = strconv.Atoi(m.Header.Get(micro.ErrorCodeHeader)); code != 429 && code < 500 {
			return m.Data, code, true
		}
	}
	return nil, 0, false
}

// place places an order, and tells whether it was accepted.
func (l *load) place(ctx context.Context, o scenario.Order, way scenario.Way) bool {
	data, code, ok := l.ask(ctx, "orders.place", fmt.Sprintf(`{"order_id":%q,%s}`, o.ID, o.Fields()))
	switch {
	case !ok:
		l.complain(checkEnds, "order %s was asked for until the end, and never answered", o.ID)
		return false
	case code != 0:
		l.complain(checkAcks, "order %s was refused: %s", o.ID, data)
		return false
	}
	var answer struct {
		ID      string      `json:"order_id"`
		Amount  order.Money `json:"amount"`
		Version int         `json:"version"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.ID != o.ID || answer.Amount != o.Amount() || answer.Version != 1 {
		l.complain(checkAcks, "order %s was accepted as %s", o.ID, data)
	}
	l.accepted.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders[o.ID] = ack{way: way}
	return true
}

// change changes an order, asking again until it is done or the answer says that it
// is too late, in this word; note takes what it was.
func (l *load) change(ctx context.Context, id, what, fields, late string, note func(*ack, answer)) {
	said := noAnswer
	for said == noAnswer && ctx.Err() == nil {
		data, code, ok := l.ask(ctx, "orders."+what, fmt.Sprintf(`{"order_id":%q,%s}`, id, fields))
		switch {
		case !ok:
		case code == 0:
			said = done
		case code == 409 && strings.Contains(string(data), late):
			said = tooLate
		case code == 409: // it is not paid yet, or being changed at this moment
			sleep(ctx, 50*time.Millisecond)
		default:
			l.complain(checkAcks, "%s of order %s was refused: %s", what, id, data)
			said = tooLate
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.orders[id]
	note(&a, said)
	l.orders[id] = a
}

// paidIn is a deposit that was asked for.
type paidIn struct {
	customer string
	amount   order.Money
	answered bool
}

// deposit pays in.
func (l *load) deposit(ctx context.Context, customer, id string, amount order.Money) {
	data, code, ok := l.ask(ctx, "accounts.deposit", fmt.Sprintf(`{"customer_id":%q,"amount":%v,"deposit_id":%q}`, customer, amount, id))
	if ok && code != 0 {
		l.complain(checkAcks, "deposit %s of %s was refused: %s", id, customer, data)
	}
	if ok {
		l.deposits.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paidIn[id] = paidIn{customer, amount, ok && code == 0}
}
