package payment

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

// provider answers what a test wants.
type provider struct {
	declined string
	err      error
	keys     []string
}

func (p *provider) Debit(_ context.Context, key string, _ Debit) (string, error) {
	p.keys = append(p.keys, key)
	return p.declined, p.err
}

func (p *provider) Void(context.Context, string) error { return nil }

func TestDebit(t *testing.T) {
	broken := errors.New("broken")
	pending := order.Order{ID: "o1", Status: order.Pending, Amount: 500, Currency: "USD", Version: 1}
	paid := pending
	paid.Status = order.Paid
	for name, c := range map[string]struct {
		order    order.Order
		provider provider
		want     []order.Event
		err      error
		asked    int
	}{
		"pays":        {pending, provider{}, []order.Event{order.PaymentDebited{Amount: 500, Currency: "USD"}}, nil, 1},
		"is declined": {pending, provider{declined: "no"}, []order.Event{order.PaymentDeclined{Reason: "no"}}, nil, 1},
		"is unknown":  {pending, provider{err: broken}, nil, broken, 1},
		"comes late":  {paid, provider{}, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := debit(&c.provider)(t.Context(), c.order, order.Created{})
			if !reflect.DeepEqual(got, c.want) || !errors.Is(err, c.err) || len(c.provider.keys) != c.asked {
				t.Fatalf("%v, %v, asked %v", got, err, c.provider.keys)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	l := NewLimit()
	l.Settings.Most = 1000
	for amount, declined := range map[order.Money]bool{0: false, 1000: false, 1001: true} {
		reason, err := l.Debit(t.Context(), "k", Debit{Customer: "c", Amount: amount, Currency: "USD"})
		if err != nil || (reason != "") != declined {
			t.Errorf("%v: %q, %v", amount, reason, err)
		}
	}
}

// TestTheDoor hands the function its event as it is stored, twice: the second
// time, in a process that remembers nothing, finds nothing to do.
func TestTheDoor(t *testing.T) {
	for name, c := range map[string]struct {
		amount order.Money
		want   string
	}{
		"pays":        {1000, "paymentdebited"},
		"is declined": {1001, "paymentdeclined"},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			created, err := order.Place("o1", "c", "r", "", []order.Item{{Code: "a", Name: "b", UnitPrice: c.amount, Quantity: 1}}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(created)
			if err != nil {
				t.Fatal(err)
			}
			placed, err := store.Append(t.Context(), eventstore.Append{
				Stream: order.Stream, Aggregate: "o1", Events: []eventstore.Event{{ID: "e1", Type: "created", Data: data}},
			})
			if err != nil {
				t.Fatal(err)
			}
			l := NewLimit()
			l.Settings.Most = 1000
			f := New(l)
			if err := f.Check(); err != nil || len(f.Needs) != 1 {
				t.Fatalf("%v, needs %v", err, f.Needs)
			}
			for range 2 {
				if err := f.Doors[0].(*function.Event).Handle(t.Context(), function.NewRunner(f.Name, store, nil), placed.Events[0]); err != nil {
					t.Fatal(err)
				}
			}
			events, err := eventstore.Collect(store.ReadAggregate(t.Context(), eventstore.AggregateRead{Stream: order.Stream, Aggregate: "o1"}))
			if err != nil || len(events) != 2 || events[1].Type != c.want || events[1].CausationID != "e1" {
				t.Fatalf("%+v, %v", events, err)
			}
		})
	}
}

func TestSetting(t *testing.T) {
	for value, want := range map[string]order.Money{"": 1000000, "0": 0, "12.5": 1250, "-1": -1, "1e-30": -1, "abc": -1} {
		l := NewLimit()
		err := config.Load(t.Context(), func(string) (string, bool) { return value, value != "" }, l.Config())
		if wrong, refused := errors.AsType[*config.Error](err); refused != (want < 0) || refused && wrong.Variable != "PAYMENT_LIMIT" || !refused && l.Settings.Most != want {
			t.Errorf("PAYMENT_LIMIT=%q: %v, %v", value, l.Settings.Most, err)
		}
	}
}
