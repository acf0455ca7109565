package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/memory"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is what has a cache of its own.
type process struct {
	run *function.Runner
	l   *ledger.Ledger
}

func newProcess(store eventstore.Store, credit order.Limit) process {
	l := ledger.New()
	l.Settings.Credit = credit
	return process{function.NewRunner("payment", store, nil), l}
}

// handle calls f as a handler is called.
func (p process) handle(ctx context.Context, f func(context.Context) error) error {
	door := function.Endpoint("test.handle", func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, f(ctx) }).(*function.Request)
	prepared, err := door.Prepare(nil)
	if err == nil {
		_, err = prepared.Answer(ctx, p.run)
	}
	return err
}

func (p process) debit(ctx context.Context, key string, c order.Charge) (declined string, err error) {
	err = p.handle(ctx, func(ctx context.Context) error {
		var reference string
		reference, err = p.l.Debit(ctx, key, c)
		if no, ok := errors.AsType[*order.DeclinedError](err); ok {
			declined, err = no.Error(), nil
		} else if err == nil && reference == "" {
			err = errors.New("a debit without a reference")
		}
		return err
	})
	return declined, err
}

func (p process) void(ctx context.Context, key string, c order.Charge) error {
	return p.handle(ctx, func(ctx context.Context) error { return p.l.Void(ctx, key, c) })
}

func (p process) deposit(ctx context.Context, key string, c order.Charge) error {
	return p.handle(ctx, func(ctx context.Context) error {
		_, err := p.l.Deposit(ctx, key, c)
		return err
	})
}

func usd(amount order.Money) order.Charge {
	return order.Charge{Customer: "c", Amount: amount, Currency: "USD"}
}

// entries are an account's, and each must say the balance that those up to it
// make.
func entries(t testing.TB, store eventstore.Store, customer string) []ledger.Entry {
	t.Helper()
	events, err := eventstore.Collect(store.ReadAggregate(t.Context(), eventstore.AggregateRead{Stream: ledger.Stream, Aggregate: customer}))
	if err != nil {
		t.Fatal(err)
	}
	var all []ledger.Entry
	sums := map[string]order.Money{}
	for _, ev := range events {
		e, err := (ledger.Account{}).Decode(ev.Type, ev.Schema, ev.Data)
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case ledger.Debited:
			sums[e.Currency] -= e.Amount
		case ledger.Voided, ledger.Deposited:
			sums[e.Currency] += e.Amount
		}
		for currency, sum := range sums {
			if e.Balances[currency] != sum {
				t.Fatalf("entry %+v: the balance in %s is %v", e, currency, sum)
			}
		}
		all = append(all, e)
	}
	return all
}

// TestTheFirstOutcomeOfAKeyStands: each step is asked twice, by processes that
// remember nothing.
func TestTheFirstOutcomeOfAKeyStands(t *testing.T) {
	type step struct {
		do       string // debit, void, deposit
		key      string
		amount   order.Money
		declined bool
	}
	for name, c := range map[string]struct {
		credit  order.Limit
		steps   []step
		kinds   []string
		balance order.Money
	}{
		"debited":                  {0, []step{{"debit", "a", 500, false}}, []string{"debited"}, -500},
		"debited and voided":       {0, []step{{"debit", "a", 500, false}, {"void", "a", 500, false}}, []string{"debited", "voided"}, 0},
		"called off before":        {0, []step{{"void", "a", 500, false}, {"debit", "a", 500, true}}, []string{"closed"}, 0},
		"voided, then asked":       {0, []step{{"debit", "a", 500, false}, {"void", "a", 500, false}, {"debit", "a", 500, false}}, []string{"debited", "voided"}, 0},
		"up to the credit":         {order.AtMost(1000), []step{{"debit", "a", 600, false}, {"debit", "b", 401, true}, {"debit", "c", 400, false}}, []string{"debited", "declined", "debited"}, -1000},
		"no credit":                {order.AtMost(0), []step{{"debit", "a", 1, true}, {"debit", "b", 0, false}, {"deposit", "x", 5, false}, {"debit", "c", 5, false}}, []string{"declined", "debited", "deposited", "debited"}, 0},
		"declined stays so":        {order.AtMost(0), []step{{"debit", "a", 5, true}, {"deposit", "x", 9, false}, {"debit", "a", 5, true}, {"void", "a", 5, false}}, []string{"declined", "deposited"}, 9},
		"debited stays so":         {order.AtMost(5), []step{{"debit", "a", 5, false}, {"debit", "b", 5, true}, {"debit", "a", 5, false}}, []string{"debited", "declined"}, -5},
		"a deposit like a payment": {0, []step{{"deposit", "a", 5, false}, {"debit", "a", 7, false}}, []string{"deposited", "debited"}, -2},
	} {
		t.Run(name, func(t *testing.T) {
			store := openMemory(t)
			for _, s := range append(c.steps, c.steps...) {
				p := newProcess(store, c.credit)
				var declined string
				var err error
				switch s.do {
				case "debit":
					declined, err = p.debit(t.Context(), s.key, usd(s.amount))
				case "void":
					err = p.void(t.Context(), s.key, usd(s.amount))
				default:
					err = p.deposit(t.Context(), s.key, usd(s.amount))
				}
				if err != nil || (declined != "") != s.declined {
					t.Fatalf("%+v: %q, %v", s, declined, err)
				}
			}
			all := entries(t, store, "c")
			var kinds []string
			for _, e := range all {
				kinds = append(kinds, e.Kind)
			}
			if !reflect.DeepEqual(kinds, c.kinds) || all[len(all)-1].Balances["USD"] != c.balance {
				t.Errorf("entries %v, balances %v", kinds, all[len(all)-1].Balances)
			}
		})
	}
}

func TestAnotherAmountIsRefused(t *testing.T) {
	store := openMemory(t)
	p := newProcess(store, 0)
	if _, err := p.debit(t.Context(), "a", usd(5)); err != nil {
		t.Fatal(err)
	}
	for _, other := range []order.Charge{usd(6), {Customer: "c", Amount: 5, Currency: "EUR"}} {
		if _, err := p.debit(t.Context(), "a", other); function.FateOf(err, false) != function.Buried {
			t.Errorf("%+v: %v", other, err)
		}
	}
	if err := p.void(t.Context(), "a", usd(6)); err != nil { // gives back what was taken
		t.Error(err)
	}
	if e := entries(t, store, "c"); e[1].Amount != 5 || e[1].Balances["USD"] != 0 {
		t.Errorf("%+v", e)
	}
}

// TestAnAccountHasABound, so that no sum overflows.
func TestAnAccountHasABound(t *testing.T) {
	const huge = order.Money(4_000_000_000_000_000_000)
	store := openMemory(t)
	p := newProcess(store, 0)
	if declined, err := p.debit(t.Context(), "a", usd(huge)); err != nil || declined != "" {
		t.Errorf("all: %q, %v", declined, err)
	}
	if declined, err := p.debit(t.Context(), "b", usd(1)); err != nil || declined == "" {
		t.Errorf("more than all: %q, %v", declined, err)
	}
	if err := p.deposit(t.Context(), "x", order.Charge{Customer: "d", Amount: huge, Currency: "USD"}); err != nil {
		t.Error(err)
	}
	more := order.Charge{Customer: "d", Amount: 1, Currency: "USD"}
	for _, again := range []process{p, newProcess(store, 0), p} {
		if no := function.RefusalOf(again.deposit(t.Context(), "y", more), false); no == nil || no.Code != function.CodeRejected {
			t.Errorf("more than all: %v", no)
		}
		if _, err := again.debit(t.Context(), "room", more); err != nil { // and yet the key stays refused
			t.Error(err)
		}
	}
	if all := entries(t, store, "d"); len(all) != 3 || all[1].Kind != ledger.Declined || all[2].Balances["USD"] != huge-1 {
		t.Errorf("%+v", all)
	}
	if err := p.deposit(t.Context(), "y2", more); err != nil {
		t.Errorf("under another key, now that there is room: %v", err)
	}
	for _, again := range []process{p, newProcess(store, 0)} {
		if err := again.deposit(t.Context(), "x", order.Charge{Customer: "d", Amount: huge, Currency: "USD"}); err != nil {
			t.Errorf("the one that is there already: %v", err)
		}
	}
}

// TestOrdersAtOnceNeverOverdraw has 64 orders of one customer at once, in two
// processes: as many are paid as the credit lasts, and none is an error.
func TestOrdersAtOnceNeverOverdraw(t *testing.T) {
	for name, store := range map[string]eventstore.Store{"memory": openMemory(t), "sqlite": openSQLite(t)} {
		for _, last := range []int{64, 10} {
			t.Run(fmt.Sprint(name, " ", last), func(t *testing.T) {
				customer := fmt.Sprint("c", last)
				var wg sync.WaitGroup
				var paid atomic.Int64
				for range 2 {
					p := newProcess(store, order.AtMost(order.Money(500*last)))
					for i := range 64 {
						wg.Go(func() { // both are asked for every order
							declined, err := p.debit(t.Context(), fmt.Sprintf("%s-%d", customer, i), order.Charge{Customer: customer, Amount: 500, Currency: "USD"})
							if err != nil {
								t.Error(err)
							}
							if declined == "" {
								paid.Add(1)
							}
						})
					}
				}
				wg.Wait()
				all := entries(t, store, customer)
				if len(all) != 64 || paid.Load() != int64(2*last) || all[63].Balances["USD"] != order.Money(-500*last) {
					t.Errorf("%d entries, %d paid, %v", len(all), paid.Load(), all[len(all)-1].Balances)
				}
			})
		}
	}
}

// shaky is a store that sometimes stores and does not say so, or does not store.
type shaky struct {
	eventstore.Store
	mu   sync.Mutex
	rand *rand.Rand
}

func (s *shaky) fails() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(4) == 0
}

func (s *shaky) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if s.fails() {
		return eventstore.Appended{}, eventstore.ErrUnavailable
	}
	done, err := s.Store.Append(ctx, a)
	if s.fails() {
		return eventstore.Appended{}, eventstore.ErrUnavailable
	}
	return done, err
}

// TestCrashesKeepNoDebit has debits and voids of the same keys race each other
// over a shaky store, each repeated until it is answered: in the end nothing is
// kept of what was called off.
func TestCrashesKeepNoDebit(t *testing.T) {
	base := openMemory(t)
	store := &shaky{Store: base, rand: rand.New(rand.NewPCG(1, 2))}
	ask := func(f func(p process) error) {
		p := newProcess(store, order.AtMost(10_000))
		for err := f(p); err != nil; err = f(p) {
			if !errors.Is(err, eventstore.ErrUnavailable) {
				t.Error(err)
				return
			}
			p = newProcess(store, order.AtMost(10_000))
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		key := fmt.Sprint("k", i)
		wg.Go(func() { ask(func(p process) error { _, err := p.debit(t.Context(), key, usd(100)); return err }) })
		if i%4 > 0 {
			wg.Go(func() { ask(func(p process) error { return p.void(t.Context(), key, usd(100)) }) })
		}
	}
	wg.Wait()
	all := entries(t, base, "c")
	if last := all[len(all)-1]; last.Balances["USD"] != -1000 {
		t.Errorf("10 of 40 debits stand, and the balance is %v", last.Balances)
	}
	kinds := map[string][]string{}
	for _, e := range all {
		kinds[e.Key] = append(kinds[e.Key], e.Kind)
	}
	for key, has := range kinds {
		switch fmt.Sprint(has) {
		case "[debited]", "[closed]", "[debited voided]":
		default:
			t.Errorf("%s: %v", key, has)
		}
	}
}

func TestSetting(t *testing.T) {
	for value, want := range map[string]string{"": "none", "none": "none", "0": "0", "12.5": "12.5", "-1": "", "1e-30": "", "abc": ""} {
		l := ledger.New()
		err := config.Load(t.Context(), func(string) (string, bool) { return value, value != "" }, l.Config())
		if wrong, refused := errors.AsType[*config.Error](err); refused != (want == "") || refused && wrong.Variable != "PAYMENT_CREDIT" || !refused && l.Settings.Credit.String() != want {
			t.Errorf("PAYMENT_CREDIT=%q: %v, %v", value, l.Settings.Credit, err)
		}
	}
}

func openMemory(t testing.TB) *memory.Store {
	t.Helper()
	s := memory.New()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openSQLite(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	return storetest.Opened(t, s, err)
}
