package orderdb

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// restored is the history of a store that was restored to a backup of an earlier
// moment: no order is missing, and the last events are others at the same
// positions, and with the same ids.
func restored(t *testing.T) (before, after *stream) {
	t.Helper()
	event := func(position, version uint64, aggregate string, e order.Event) function.Message {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return function.Message{Stream: order.Stream, Position: position, Aggregate: aggregate, Version: version, Type: e.EventType(), Schema: 1, Data: data}
	}
	var common history
	for i, id := range []string{"o1", "o2"} {
		placed, err := order.Place(id, "c", "r", "", []order.Item{{Code: "a", Name: "b", UnitPrice: 100, Quantity: 1}}, time.Unix(int64(i), 0))
		if err != nil {
			t.Fatal(err)
		}
		common = append(common, event(uint64(i+1), 1, id, placed))
	}
	common = append(common, event(3, 2, "o1", order.PaymentDebited{Amount: 100, Currency: "USD"}))
	before = &stream{events: append(common[:3:3], event(4, 3, "o1", order.WasApproved{}), event(5, 4, "o1", order.WasShipped{Tracking: "x"}))}
	after = &stream{events: append(common[:3:3], event(4, 3, "o1", order.WasCancelled{Reason: "no"}), event(5, 4, "o1", order.PaymentVoided{}))}
	return before, after
}

func isForeign(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errForeign) || !errors.Is(err, function.ErrUnavailable) || !strings.Contains(err.Error(), "rebuild orderview") {
		t.Fatalf("it was not refused: %v", err)
	}
}

// TestTheSameOrdersOfAnotherMoment: the view says what never happened, whichever
// of its processes stored the newest event, and when.
func TestTheSameOrdersOfAnotherMoment(t *testing.T) { each(t, theSameOrdersOfAnotherMoment) }

func theSameOrdersOfAnotherMoment(t *testing.T, empty func(testing.TB) string) {
	before, after := restored(t)
	for name, slot := range map[string]int64{"one slot": 1, "two slots": 2} {
		t.Run(name, func(t *testing.T) {
			url := empty(t)
			first, second := open(t, url), open(t, url)
			first.slot, second.slot = 1, slot
			for _, applied := range []error{
				first.Apply(t.Context(), before, before.events[4:]),
				second.Apply(t.Context(), before, before.events[1:2]),
			} {
				if applied != nil {
					t.Fatal(applied)
				}
			}
			again := open(t, url)
			isForeign(t, again.Apply(t.Context(), after, after.events[3:]))
			shorter := &stream{events: before.events[:4]} // of another moment too
			isForeign(t, again.Apply(t.Context(), shorter, shorter.events[3:]))
			if err := again.Apply(t.Context(), before, before.events[3:]); err != nil {
				t.Fatalf("the store that it was made from is refused: %v", err)
			}
		})
	}
}

// TestARebuildOfAnotherMoment: one that was broken off before the restore begins
// anew, and the view that it makes is known by its newest event too.
func TestARebuildOfAnotherMoment(t *testing.T) { each(t, aRebuildOfAnotherMoment) }

func aRebuildOfAnotherMoment(t *testing.T, empty func(testing.TB) string) {
	before, after := restored(t)
	url := empty(t)
	db := open(t, url)
	broken, err := claim(t, db, before)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(broken.apply(t.Context(), before.events, noneLeft(t), "position = $1", 5), broken.release()); err != nil {
		t.Fatal(err)
	}
	if err := db.Rebuild(t.Context(), after, noneLeft(t)); err != nil {
		t.Fatal(err)
	}
	db.is(t, "orderview_3")
	if o, err := db.Get(t.Context(), "o1"); err != nil || o.Status != order.Cancelled {
		t.Errorf("%+v, %v", o, err)
	}
	isForeign(t, open(t, url).Apply(t.Context(), before, before.events[3:]))
	var kept int
	if err := db.read.QueryRowContext(t.Context(), "SELECT count(*) FROM orders_newest WHERE generation <> 3").Scan(&kept); err != nil || kept > 0 {
		t.Errorf("%d newest events of tables that are gone are kept (%v)", kept, err)
	}
}
