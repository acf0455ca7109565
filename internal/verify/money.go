package verify

import (
	"slices"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
)

// paid: no event came that did not go with its order's state, as a second debit, a
// second void or one of what was shipped.
func (e *evidence) paid() (int, []violation) {
	f := finder{check: checkPaid}
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		f.add("%v", err)
	}
	for _, s := range folded {
		for _, what := range s.amiss {
			f.add("%s", what)
		}
	}
	return len(e.events[ordersStream]), f.found
}

// money: each account is the sum of its entries, as it is answered, and each key of
// a payment has what goes with the order of that id: one debit if that was shipped,
// and none that was not undone if it ended without. So what customers have is what
// they paid in without what was shipped to them. Each deposit is there once.
func (e *evidence) money() (int, []violation) {
	f := finder{check: checkMoney}
	sums, keys := map[string]order.Money{}, map[string]string{}
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		f.add("%v", err)
	}
	deposited := map[string]int{}
	due := map[string]order.Money{} // by what was ordered and paid in
	for _, ev := range e.events[accountsStream] {
		entry, err := (ledger.Account{}).Decode(ev.Type, ev.Schema, ev.Data)
		if err != nil {
			f.add("%s: %v", line(ev), err)
			continue
		}
		if entry.Currency != order.DefaultCurrency {
			f.add("%s is in %s", line(ev), entry.Currency)
		}
		switch entry.Kind {
		case ledger.Debited:
			sums[entry.Customer] -= entry.Amount
		case ledger.Voided, ledger.Deposited:
			sums[entry.Customer] += entry.Amount
		}
		if has := entry.Balances[entry.Currency]; has != sums[entry.Customer] {
			f.add("%s says that %s has %v, and the entries make %v", line(ev), entry.Customer, has, sums[entry.Customer])
		}
		if entry.Kind == ledger.Deposited {
			if p := e.paidIn[entry.Key]; p.customer != entry.Customer || p.amount != entry.Amount {
				f.add("%s is of %v by %s, and asked for was %+v", line(ev), entry.Amount, entry.Customer, p)
			}
			deposited[entry.Key]++
			due[entry.Customer] += entry.Amount
			continue
		}
		if o := folded[entry.Key]; o.Customer != entry.Customer || o.Amount != entry.Amount {
			f.add("%s is of %v by %s, and the order %s of %v by %s", line(ev), entry.Amount, entry.Customer, entry.Key, o.Amount, o.Customer)
		}
		keys[entry.Key] += " " + entry.Kind
	}
	for id, p := range e.paidIn {
		if n := deposited[id]; n > 1 || n == 0 && p.answered {
			f.add("deposit %s of %v by %s is there %d times", id, p.amount, p.customer, n)
		}
	}
	stuck := map[string]bool{} // customers of orders that are, which another check finds
	for id, o := range folded {
		var allowed []string
		switch o.Status {
		case order.Shipped, order.Delivered:
			allowed = []string{" debited"}
			due[o.Customer] -= o.Amount
		case order.Rejected, order.Cancelled:
			allowed = []string{" debited voided", " declined", " closed"}
		default:
			stuck[o.Customer] = true
			continue
		}
		if !slices.Contains(allowed, keys[id]) {
			f.add("order %s is %s, and its payment is:%s", id, o.Status, keys[id])
		}
	}
	for customer := range due {
		sums[customer] += 0 // also where there are no entries
	}
	for customer, sum := range sums {
		if sum != due[customer] && !stuck[customer] {
			f.add("the entries of %s make %v; deposits and shipped orders make %v", customer, sum, due[customer])
		}
		if has := e.balances[customer]; has != sum {
			f.add("the account of %s is answered as %v, and its entries make %v", customer, has, sum)
		}
	}
	return len(keys) + len(deposited), f.found
}

// ends: every accepted order came to an end that is due.
func (e *evidence) ends() (int, []violation) {
	f := finder{check: checkEnds}
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		f.add("%v", err)
	}
	for id, a := range e.orders {
		if s := folded[id]; a.wrong(s) != "" {
			f.add("order %s (%+v) is %q at version %d, ended at %v from %q: %s", id, a, s.Status, s.Version, s.endedAt, s.before.Status, a.wrong(s))
		}
	}
	for _, letter := range e.letters {
		f.add("%s: %.300s", line(letter), letter.Data)
	}
	return len(e.orders), f.found
}

// howMany counts the ends of orders.
func (e *evidence) howMany() map[string]int {
	ends := map[string]int{}
	folded, _ := fold(e.events[ordersStream]) // what can't be decoded is told by the checks
	for _, s := range folded {
		ends[s.how()]++
	}
	return ends
}
