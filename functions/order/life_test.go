package order_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
)

// happenings are one event of each type, those of other releases too.
func happenings(t testing.TB) []order.Event {
	return []order.Event{
		placed(t), order.PaymentDebited{At: at}, order.PaymentDeclined{Reason: "declined"}, order.WasApproved{At: at, By: "ann"},
		order.WasRejected{Reason: "rejected"}, order.WasShipped{Tracking: "n1"}, order.ShippingFailed{Reason: "failed"}, order.WasDelivered{},
		order.WasCancelled{Reason: "cancelled"}, order.Overdue{Reason: "overdue"}, order.PaymentVoided{}, order.Unknown{Type: "eaten"},
	}
}

// lived is an order after a sequence of events, and what that was about:
// how often money was taken and given back, goods were sent and arrived.
type lived struct {
	order                          order.Order
	debited, voided, sent, arrived int
}

func (l lived) after(e order.Event) lived {
	changes := l.order.Allows(e)
	l.order = l.order.Evolve(e)
	if !changes {
		return l
	}
	switch e.(type) {
	case order.PaymentDebited:
		l.debited++
	case order.PaymentVoided:
		l.voided++
	case order.WasShipped:
		l.sent++
	case order.WasDelivered:
		l.arrived++
	}
	return l
}

// wrong says in what money, goods and state disagree.
func (l lived) wrong() string {
	o := l.order
	paid := o.Status == order.Paid || o.Status == order.Approved || o.Status == order.Shipped || o.Status == order.Delivered
	sent := o.Status == order.Shipped || o.Status == order.Delivered
	unhappy := o.Status == order.Rejected || o.Status == order.Cancelled
	switch {
	case l.debited > 1 || l.voided > 1 || l.sent > 1:
		return "it was paid, voided or shipped twice"
	case paid && (l.debited != 1 || l.voided > 0):
		return "it goes on without its payment"
	case sent != (l.sent == 1):
		return "its goods are elsewhere"
	case (o.Status == order.Delivered) != (l.arrived == 1):
		return "it arrived or not"
	case o.Voided != (l.voided == 1) || o.Voided && !unhappy:
		return "its payment was undone or not"
	case unhappy == (o.Reason == ""):
		return "an unhappy end has a reason, and nothing else has one"
	case unhappy && !o.Voided != o.Allows(order.PaymentVoided{}):
		return "an unhappy end is undone once"
	case sent && o.Tracking == "":
		return "nobody can follow its goods"
	}
	return ""
}

// TestEverySequence walks all sequences of events up to length 8. Two that led
// to the same order, apart from its version, are one from there on.
func TestEverySequence(t *testing.T) {
	const longest = 8
	all := happenings(t)
	reached := map[string]bool{}
	level := map[string]lived{"": {}}
	for range longest {
		next := map[string]lived{}
		for _, l := range level {
			for _, e := range all {
				n := l.after(e)
				if n.order.Version != l.order.Version+1 {
					t.Fatalf("%s did not count", e.EventType())
				}
				if !l.order.Allows(e) {
					same := n.order
					same.Version = l.order.Version
					if !reflect.DeepEqual(same, l.order) {
						t.Fatalf("%s does not go with %+v, and made it %+v", e.EventType(), l.order, n.order)
					}
				}
				if why := n.wrong(); why != "" {
					t.Fatalf("%s after %s: %s: %+v", e.EventType(), l.order.Status, why, n)
				}
				reached[string(n.order.Status)] = true
				n.order.Version %= 2 // it only tells that events count
				next[fmt.Sprintf("%+v", n)] = n
			}
		}
		level = next
	}
	for _, s := range order.Statuses {
		if !reached[string(s)] {
			t.Errorf("no sequence leads to %s", s)
		}
	}
}

func TestWaitsAndTimesOut(t *testing.T) {
	limits := order.Timeouts{Payment: time.Minute, Review: time.Hour, Shipping: 2 * time.Hour}
	o := order.Order{}
	if !o.WaitsUntil(limits).IsZero() {
		t.Error("an order that is not there waits")
	}
	for _, c := range []struct {
		event order.Event
		until time.Time
		then  string
		why   string
	}{
		{placed(t), at.Add(time.Minute), "overdue", "paid within 1m0s"},
		{order.PaymentDebited{At: at.Add(time.Second)}, at.Add(time.Hour + time.Second), "rejected", "decided on it within 1h0m0s"},
		{order.WasApproved{At: at.Add(time.Minute)}, at.Add(2*time.Hour + time.Minute), "overdue", "shipped within 2h0m0s"},
		{order.WasShipped{Tracking: "n1"}, time.Time{}, "", ""},
		{order.WasDelivered{}, time.Time{}, "", ""},
	} {
		o = o.Evolve(c.event)
		if got := o.WaitsUntil(limits); !got.Equal(c.until) {
			t.Errorf("%s waits until %v, want %v", o.Status, got, c.until)
		}
		if e := o.TimedOut(limits, c.until.Add(-time.Microsecond)); e != nil {
			t.Errorf("%s: %+v too early", o.Status, e)
		}
		e := o.TimedOut(limits, c.until)
		if c.then == "" {
			if e != nil {
				t.Errorf("%s: %+v, and it waits for nothing", o.Status, e)
			}
			continue
		}
		if e == nil || e.EventType() != c.then || !o.Allows(e) || !strings.Contains(o.Evolve(e).Reason, c.why) {
			t.Errorf("%s: %+v in the end, want %s", o.Status, e, c.then)
		}
		if e := o.TimedOut(order.Timeouts{}, c.until); e != nil {
			t.Errorf("%s: %+v without a timeout", o.Status, e)
		}
	}
}

func TestLimit(t *testing.T) {
	for in, above := range map[string]map[order.Money]bool{
		"none": {1 << 60: false}, "0": {0: false, 1: true}, "12.5": {1250: false, 1251: true}, "-1": nil, "": nil, "all": nil,
	} {
		var l order.Limit
		if err := l.UnmarshalText([]byte(in)); (err != nil) != (above == nil) {
			t.Errorf("%q: %v", in, err)
		}
		for m, want := range above {
			if l.Exceeded(m) != want {
				t.Errorf("%v is above %q: %v", m, in, !want)
			}
		}
	}
}

// TestDone says of each status whether nothing more can happen, once what can be is
// undone.
func TestDone(t *testing.T) {
	for _, s := range append([]order.Status{""}, order.Statuses...) {
		if want := s == order.Delivered || s == order.Rejected || s == order.Cancelled; (order.Order{Status: s, Voided: true}).Done() != want {
			t.Errorf("%q, voided, is done: %v", s, !want)
		}
	}
}

// TestEveryStatusWaitsOrNot: an order that goes on waits for a step, with a time
// to it and an event that ends it, or is on its way; one that ended does not.
func TestEveryStatusWaitsOrNot(t *testing.T) {
	want := map[order.Status]struct{ timeout, ends string }{
		order.Pending: {"Payment", "overdue"}, order.Paid: {"Review", "rejected"}, order.Approved: {"Shipping", "overdue"},
	}
	limits := order.Timeouts{Payment: time.Minute, Review: time.Hour, Shipping: 24 * time.Hour}
	for _, s := range append([]order.Status{""}, order.Statuses...) {
		o := order.Order{Status: s, CreatedOn: at, PaidOn: at, ApprovedOn: at}
		w, waits := want[s]
		if s.Waits() != waits || o.WaitsUntil(limits).IsZero() == waits {
			t.Errorf("%q waits: %v, until %v", s, s.Waits(), o.WaitsUntil(limits))
		}
		e := o.TimedOut(limits, at.Add(1000*time.Hour))
		if !waits {
			if e != nil {
				t.Errorf("%q ends by %+v", s, e)
			}
			continue
		}
		most := reflect.ValueOf(limits).FieldByName(w.timeout).Interface().(time.Duration) //nolint:forcetypeassert // it is one
		if until := o.WaitsUntil(limits); !until.Equal(at.Add(most)) || e == nil || e.EventType() != w.ends || o.Evolve(e).Done() || !o.Evolve(e).Evolve(order.PaymentVoided{}).Done() {
			t.Errorf("%q waits until %v, and ends by %+v", s, until, e)
		}
	}
}
