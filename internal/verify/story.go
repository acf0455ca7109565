package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
)

// story is what happened to an order.
type story struct {
	order.Order             // what its events make
	end         order.Event // which one it ended with; nil if with none
	endedAt     time.Time
	before      order.Order // as it was then
	amiss       []string    // events that did not go with its state
}

// fold makes the orders of their events.
func fold(events []eventstore.Event) (map[string]story, error) {
	all := map[string]story{}
	for _, ev := range events {
		s := all[ev.Aggregate]
		decoded, err := s.Decode(ev.Type, ev.Schema, ev.Data)
		if err != nil {
			return all, fmt.Errorf("decode %s: %w", line(ev), err)
		}
		was := s.Order
		if !was.Allows(decoded) {
			s.amiss = append(s.amiss, fmt.Sprintf("%s comes when the order is %q", line(ev), was.Status))
		}
		s.Order = was.Evolve(decoded)
		if s.Status != was.Status {
			switch s.Status {
			case order.Shipped, order.Rejected, order.Cancelled:
				s.end, s.endedAt, s.before = decoded, ev.Time, was
			}
		}
		all[ev.Aggregate] = s
	}
	return all, nil
}

// how names the end, for people: a decision is a person's, or nobody's in time.
func (s story) how() string {
	if s.end == nil {
		return "at no end"
	}
	if no, ok := s.end.(order.WasRejected); ok && no.By == "" {
		return "undecided"
	}
	return s.end.EventType()
}

// wrong says in what the order is not what it has to be, by what was asked for and
// answered; empty if it is. Whatever was to become of it, it may have waited for too
// long, if it really has.
func (a ack) wrong(s story) string {
	above := s.Amount > scenario.ReviewLimit*100
	rejects := a.way == scenario.Reject || a.way == lastCall
	byPerson := false // what ended it
	ok := false
	switch end := s.end.(type) {
	case nil:
		return "it is stuck"
	case order.WasShipped:
		ok = a.way != scenario.Decline && a.way != scenario.Fail && end.Tracking != "" && !s.Voided && above == (s.ReviewedBy != "")
	case order.PaymentDeclined:
		ok = a.way == scenario.Decline && strings.Contains(end.Reason, "may owe no more than")
	case order.ShippingFailed:
		ok = a.way == scenario.Fail && strings.Contains(end.Reason, scenario.NobodyGoes)
	case order.WasCancelled:
		ok = a.cancel.can() && end.Reason == reason
	case order.WasRejected:
		if byPerson = end.By != ""; byPerson {
			ok = rejects && a.review.can() && end.By == reviewer && end.Reason == saysNo
			break
		}
		ok = s.before.TimedOut(limits, s.endedAt) == s.end
	case order.Overdue:
		ok = s.before.TimedOut(limits, s.endedAt) == s.end
	}
	_, cancelled := s.end.(order.WasCancelled)
	_, shipped := s.end.(order.WasShipped)
	switch {
	case !ok:
		return fmt.Sprintf("it can't have ended with %+v", s.end)
	case !shipped && !s.Voided:
		return "it ended unshipped, and its payment is not undone"
	case a.cancel == done && !cancelled:
		return "it was cancelled, that was answered, and it is not"
	case rejects && a.review == done && !byPerson:
		return "it was rejected, that was answered, and it is not"
	case a.way == approve && a.review == done && s.ReviewedBy != reviewer:
		return "it was approved, that was answered, and it is not"
	case s.ReviewedBy != "" && (s.ReviewedBy != reviewer || !above || !a.review.can()):
		return "nobody decided on it, and it says so: " + s.ReviewedBy
	}
	return ""
}
