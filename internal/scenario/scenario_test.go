package scenario_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
)

// TestMix: any hundred orders in a row have exactly their shares, and a bit
// more than half as many have each way.
func TestMix(t *testing.T) {
	m := scenario.NewMix(scenario.Mixed()...)
	for _, from := range []int64{0, 1, 250} {
		got := map[scenario.Way]int{}
		for n := from; n < from+100; n++ {
			got[m.Way(n)]++
			if n == from+59 && len(got) != 5 {
				t.Errorf("after 60 orders from %d only %v", from, got)
			}
		}
		for way, want := range map[scenario.Way]int{scenario.Ship: 83, scenario.Decline: 5, scenario.Reject: 5, scenario.Cancel: 5, scenario.Fail: 2} {
			if got[way] != want {
				t.Errorf("from %d: %d go the way %s, want %d", from, got[way], way, want)
			}
		}
	}
	if happy := scenario.NewMix(); happy.Way(0) != scenario.Ship || happy.Way(37) != scenario.Ship {
		t.Error("without shares not all are shipped")
	}
}

// TestOrders: what is placed costs what the settings make of its way.
func TestOrders(t *testing.T) {
	for _, way := range []scenario.Way{scenario.Ship, scenario.Decline, scenario.Reject, scenario.Cancel, scenario.Fail} {
		o := way.New("o1", "c1", 200_00)
		var body struct {
			Customer   string       `json:"customer_id"`
			Restaurant string       `json:"restaurant_id"`
			Items      []order.Item `json:"order_items"`
		}
		if err := json.Unmarshal([]byte("{"+o.Fields()+"}"), &body); err != nil {
			t.Fatal(err)
		}
		made, err := order.Place(o.ID, body.Customer, body.Restaurant, "", body.Items, time.Now())
		if err != nil || made.Amount != o.Amount() {
			t.Errorf("%s: costs %v and not %v (%v)", way, made.Amount, o.Amount(), err)
		}
		above := made.Amount > scenario.ReviewLimit*100
		if above != (way == scenario.Reject || way == scenario.Decline) || (made.Amount > scenario.Credit*100) != (way == scenario.Decline) {
			t.Errorf("%s costs %v", way, made.Amount)
		}
		if (made.Restaurant == scenario.NobodyGoes) != (way == scenario.Fail) {
			t.Errorf("%s is of the restaurant %s", way, made.Restaurant)
		}
		if !slices.Contains(order.Types(), way.End()) {
			t.Errorf("%s ends with %q", way, way.End())
		}
		if s := way.Setting(); s != "" && !slices.Contains(scenario.Settings(), s) {
			t.Errorf("%s is not among all settings", s)
		}
	}
}
