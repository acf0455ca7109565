package verify

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/order"
)

// The checks, by the names that a report has.
const (
	checkAcks         = "every acknowledged append and order is stored once"
	checkGapless      = "positions and versions have no gap, ids are unique"
	checkSequence     = "JetStream's sequence n is the event at position n"
	checkFollow       = "a reader that follows saw every event once, in order"
	checkPaid         = "no order is paid, shipped or undone twice: each event goes with its state"
	checkMoney        = "every account is the sum of its entries, and agrees with its orders and deposits"
	checkEnds         = "each order ended as it had to, nothing is unanswered or a dead letter, and no process ends by itself"
	checkView         = "the view is the fold of the events"
	checkLinearizable = "histories of aggregates are linearizable"
)

var checks = []struct {
	name string
	run  func(*evidence) (looked int, found []violation)
}{
	{checkAcks, (*evidence).acks},
	{checkGapless, (*evidence).gapless},
	{checkSequence, (*evidence).sequence},
	{checkFollow, (*evidence).follow},
	{checkPaid, (*evidence).paid},
	{checkMoney, (*evidence).money},
	{checkEnds, (*evidence).ends},
	{checkView, (*evidence).view},
	{checkLinearizable, (*evidence).linearizable},
}

// violation is a broken promise, with the least that shows it.
type violation struct {
	Check string `json:"check"`
	What  string `json:"what"`
}

// evidence is all that a run left: what was promised, and what is there.
type evidence struct {
	events   map[string][]eventstore.Event // by stream, as a read from the start answers them
	followed map[string][]string           // ids that a reader got which followed from the start
	messages map[string][]message          // JetStream's, in the order of their sequences
	rows     map[string]order.Order        // the view
	orders   map[string]ack
	paidIn   map[string]paidIn      // deposits that were asked for, by id
	balances map[string]order.Money // of the accounts, as they are answered
	ops      []op
	letters  []eventstore.Event
	wrong    []violation // found on the way
}

// message is one of JetStream's.
type message struct {
	sequence uint64
	id       string
}

// result is what one check found.
type result struct {
	Name       string      `json:"name"`
	Looked     int         `json:"looked_at"` // how many things
	Violations []violation `json:"violations,omitempty"`
}

// judge runs all checks.
func (e *evidence) judge() []result {
	all := make([]result, len(checks))
	for i, c := range checks {
		r := result{Name: c.name}
		if r.Looked, r.Violations = c.run(e); r.Looked == 0 {
			r.Violations = append(r.Violations, violation{c.name, "there was nothing to look at: nothing is proven"})
		}
		for _, v := range e.wrong {
			if v.Check == c.name {
				r.Violations = append(r.Violations, v)
			}
		}
		all[i] = r
	}
	return all
}

// finder collects violations of one check.
type finder struct {
	check string
	found []violation
}

func (f *finder) add(format string, args ...any) {
	f.found = append(f.found, violation{f.check, fmt.Sprintf(format, args...)})
}

func line(e eventstore.Event) string {
	return fmt.Sprintf("{%s position %d, %s version %d, id %s, %s}", e.Stream, e.Position, e.Aggregate, e.Version, e.ID, e.Type)
}

// acks: every id that was promised is there once, where the answer said.
func (e *evidence) acks() (int, []violation) {
	f := finder{check: checkAcks}
	byID := map[string][]eventstore.Event{}
	for _, ev := range e.events[rawStream] {
		byID[ev.ID] = append(byID[ev.ID], ev)
	}
	looked := 0
	for _, o := range e.ops {
		if o.Outcome != stored && o.Outcome != conflicted {
			continue
		}
		looked++
		for i, id := range o.IDs {
			has := byID[id]
			switch {
			case o.Outcome == conflicted && len(has) > 0:
				f.add("%s is stored, and its append was answered with a conflict at version %d", line(has[0]), o.Version)
			case o.Outcome == conflicted:
			case len(has) != 1:
				f.add("id %s of %s was acknowledged at position %d, and is stored %d times", id, o.Aggregate, o.First+uint64(i), len(has))
			case has[0].Position != o.First+uint64(i) || has[0].Aggregate != o.Aggregate || has[0].Version != o.Version-uint64(len(o.IDs)-1-i): //nolint:gosec // indexes
				f.add("%s was acknowledged as position %d of %s up to version %d", line(has[0]), o.First+uint64(i), o.Aggregate, o.Version)
			}
		}
	}
	created := map[string]int{}
	for _, ev := range e.events[ordersStream] {
		if ev.Type == (order.Created{}).EventType() {
			created[ev.Aggregate]++
		}
	}
	for id := range e.orders {
		looked++
		if n := created[id]; n != 1 {
			f.add("order %s was accepted, and is created %d times", id, n)
		}
	}
	return looked, f.found
}

// gapless: positions 1, 2, 3, ... of a stream, versions 1, 2, 3, ... of an
// aggregate, no id twice.
func (e *evidence) gapless() (looked int, _ []violation) {
	f := finder{check: checkGapless}
	for _, stream := range streams {
		versions, ids := map[string]uint64{}, map[string]uint64{}
		for i, ev := range e.events[stream] {
			looked++
			if want := uint64(i) + 1; ev.Position != want {
				f.add("%s stands where position %d belongs", line(ev), want)
				break // all that follow are off
			}
			if want := versions[ev.Aggregate] + 1; ev.Version != want {
				f.add("%s stands where version %d belongs", line(ev), want)
			}
			versions[ev.Aggregate] = ev.Version
			if at, twice := ids[ev.ID]; twice {
				f.add("%s has the id of position %d", line(ev), at)
			}
			ids[ev.ID] = ev.Position
		}
	}
	return looked, f.found
}

// sequence: what JetStream holds is the events, without a hole, up to the last.
func (e *evidence) sequence() (looked int, _ []violation) {
	f := finder{check: checkSequence}
	for _, stream := range streams {
		events, messages := e.events[stream], e.messages[stream]
		for i, m := range messages {
			looked++
			if want := messages[0].sequence + uint64(i); m.sequence != want {
				f.add("%s: sequence %d follows %d", stream, m.sequence, want-1)
				break
			}
			if m.sequence < 1 || m.sequence > uint64(len(events)) {
				f.add("%s: sequence %d has the id %s, and SQL ends at %d", stream, m.sequence, m.id, len(events))
				break
			}
			if has := events[m.sequence-1]; has.ID != m.id {
				f.add("%s: sequence %d has the id %s; position %d is %s", stream, m.sequence, m.id, m.sequence, line(has))
				break
			}
		}
		if n := len(messages); len(events) > 0 && (n == 0 || messages[n-1].sequence != uint64(len(events))) {
			last := uint64(0)
			if n > 0 {
				last = messages[n-1].sequence
			}
			f.add("%s: JetStream ends at sequence %d and SQL at position %d", stream, last, len(events))
		}
	}
	return looked, f.found
}

// follow: a reader that followed, and went on after each break at the position
// it had, saw the stream.
func (e *evidence) follow() (looked int, _ []violation) {
	f := finder{check: checkFollow}
	for _, stream := range streams {
		events, ids := e.events[stream], e.followed[stream]
		for i := range max(len(events), len(ids)) {
			looked++
			if i >= len(ids) || i >= len(events) || events[i].ID != ids[i] {
				was := "nothing"
				if i < len(ids) {
					was = ids[i]
				}
				f.add("%s: as number %d the reader saw %s of %d events", stream, i+1, was, len(events))
				break
			}
		}
	}
	return looked, f.found
}

// view: each row is what its events make.
func (e *evidence) view() (int, []violation) {
	f := finder{check: checkView}
	folded, err := fold(e.events[ordersStream])
	if err != nil {
		f.add("%v", err)
	}
	for id, want := range folded {
		has, there := e.rows[id]
		switch {
		case !there:
			f.add("order %s is not in the view; its events make %s at version %d", id, want.Status, want.Version)
		case has.Status != want.Status || has.Version != want.Version || has.Amount != want.Amount || has.Customer != want.Customer ||
			has.Reason != want.Reason || has.Tracking != want.Tracking || has.Voided != want.Voided ||
			!has.CreatedOn.Equal(want.CreatedOn) || !slices.Equal(has.Items, want.Items):
			f.add("order %s is %+v in the view, and %+v by its events", id, has, want.Order)
		}
	}
	for id := range e.rows {
		if _, there := folded[id]; !there {
			f.add("order %s is in the view, and has no events", id)
		}
	}
	return len(folded), f.found
}

// aggregate is the model that histories are held against: a version that
// appends raise, if it is the one they expect.
var aggregate = porcupine.Model{
	Init: func() any { return uint64(0) },
	Step: func(state, input, _ any) (bool, any) {
		version, o := state.(uint64), input.(op)
		switch o.Outcome {
		case stored:
			after := version + uint64(len(o.IDs))
			expected := o.Expected == int64(eventstore.Any) || o.Expected == int64(version)
			return expected && o.Version == after, after
		case conflicted:
			return o.Version == version && o.Expected != int64(version), version
		default:
			return o.Version == version, version
		}
	},
	DescribeOperation: func(input, _ any) string { return input.(op).String() },
}

func (o op) String() string {
	what := fmt.Sprintf("append %v expecting %d", o.IDs, o.Expected)
	if o.IDs == nil {
		what = "read"
	}
	return fmt.Sprintf("%s by caller %d from %v to %v: %s, version %d", what, o.Caller,
		time.Duration(o.Call).Round(time.Microsecond), time.Duration(o.Return).Round(time.Microsecond), o.Outcome, o.Version)
}

// judgeFor bounds the search of one aggregate's history.
const judgeFor = 30 * time.Second

// linearizable: the operations on an aggregate have an order that agrees with
// their times, in which each answer is right. One that nobody answered did
// happen if its events are there, at any time since.
func (e *evidence) linearizable() (int, []violation) {
	f := finder{check: checkLinearizable}
	versions := map[string]uint64{}
	for _, ev := range e.events[rawStream] {
		versions[ev.ID] = ev.Version
	}
	byAggregate := map[string][]porcupine.Operation{}
	looked := 0
	for _, o := range e.ops {
		if o.Outcome == nobodyKnow {
			last, there := versions[o.IDs[len(o.IDs)-1]]
			if !there {
				continue
			}
			o.Outcome, o.Version, o.Return = stored, last, math.MaxInt64
		}
		looked++
		byAggregate[o.Aggregate] = append(byAggregate[o.Aggregate], porcupine.Operation{ClientId: o.Caller, Input: o, Call: o.Call, Return: o.Return})
	}
	for name, history := range byAggregate {
		judged, info := porcupine.CheckOperationsVerbose(aggregate, history, judgeFor)
		switch judged {
		case porcupine.Ok:
		case porcupine.Unknown:
			f.add("%s: %d operations could not be judged in %v", name, len(history), judgeFor)
		case porcupine.Illegal:
			f.add("%s: no order of its operations agrees with their answers; after%s", name, smallest(history, info))
		}
	}
	return looked, f.found
}

// smallest tells the last operations of the longest order that agrees, and the
// first of those that it has no place for.
func smallest(history []porcupine.Operation, info porcupine.LinearizationInfo) string {
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, one := range orders {
			if len(one) > len(longest) {
				longest = one
			}
		}
	}
	var left []op
	for _, h := range history {
		if !slices.ContainsFunc(longest, func(o porcupine.Operation) bool { return o.ClientId == h.ClientId && o.Call == h.Call }) {
			left = append(left, h.Input.(op))
		}
	}
	slices.SortFunc(left, func(a, b op) int { return cmp.Compare(a.Call, b.Call) })
	var shown strings.Builder
	for _, o := range longest[max(0, len(longest)-2):] {
		fmt.Fprintf(&shown, "\n    %v", o.Input)
	}
	shown.WriteString("\n  there is no place for")
	for _, o := range left[:min(2, len(left))] {
		fmt.Fprintf(&shown, "\n    %v", o)
	}
	return shown.String()
}
