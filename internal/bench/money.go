package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-go/waybill/functions/order"
)

// deposit is what each customer of the mixed scenario pays in before: whatever
// PAYMENT_CREDIT is, they can pay millions of orders of it, and not one of those
// that are to be declined.
const deposit = order.Money(1_000_000_000_00)

// callers is how many requests are made at once before and after the load.
const callers = 32

// deposits pays in, where the scenario has it.
func (l *load) deposits(ctx context.Context) error {
	if l.c.Scenario != "mixed" {
		return nil
	}
	var failed atomic.Pointer[error]
	each(l.customers(), func(n int64) {
		body := fmt.Sprintf(`{"customer_id":%q,"amount":%v,"deposit_id":"first"}`, l.customer(n), deposit)
		for deadline := time.Now().Add(l.c.Settle); failed.Load() == nil && ctx.Err() == nil; sleep(ctx, retryPause) {
			code, err := request(ctx, l.nc, "accounts.deposit", body, nil)
			if err == nil && code == http.StatusOK {
				return
			}
			if time.Now().After(deadline) {
				err = fmt.Errorf("the customers of the mixed scenario pay in first, and accounts.deposit answers %d: %w", code, err)
				failed.CompareAndSwap(nil, &err)
			}
		}
	})
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// customers is how many there can be.
func (l *load) customers() int64 {
	if l.c.Orders > 0 {
		return min(l.c.Customers, l.c.Orders)
	}
	return l.c.Customers
}

// each calls do for 0 to n-1, some at once.
func each(n int64, do func(int64)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(callers, n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

// account is a customer's, as it is and as their orders have it.
type account struct {
	customer  string
	balance   order.Money
	deposited order.Money
	shipped   order.Money // what the orders cost that were shipped
	open      []string    // orders that are not at their end
}

// wrong says what does not add up; empty if all does.
func (a account) wrong() string {
	if want := a.deposited - a.shipped; a.balance != want {
		return fmt.Sprintf("customer %s has %v; deposits of %v and shipped orders of %v make %v", a.customer, a.balance, a.deposited, a.shipped, want)
	}
	return ""
}

// verdict is what was found of the customers' money.
type verdict struct {
	Accounts int      `json:"accounts"` // that were looked at
	Unjudged int      `json:"unjudged"` // of those, accounts with orders that are not at their end
	Wrong    []string `json:"wrong,omitempty"`
}

// judge asks for each customer's account and holds it against what became of
// their orders.
func (l *load) judge(ctx context.Context) (verdict, error) {
	var v verdict
	var mu sync.Mutex
	var failed error
	deadline := time.Now().Add(l.c.Settle)
	begun := l.begun.Load()
	each(min(l.customers(), begun+begun/100), func(n int64) {
		a, err := l.account(ctx, n, deadline)
		mu.Lock()
		defer mu.Unlock()
		v.Accounts++
		switch {
		case err != nil:
			failed = err
		case len(a.open) > 0:
			v.Unjudged++
		default:
			if why := a.wrong(); why != "" {
				v.Wrong = append(v.Wrong, why)
			}
		}
	})
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	slices.Sort(v.Wrong)
	v.Wrong = append(slices.Clone(l.book.wrong), v.Wrong...)
	if failed != nil {
		return v, fmt.Errorf("check the money: %w", failed)
	}
	return v, nil
}

// account is that of customer n. Where it is not what events tell it should be,
// some were not heard of, or it is not at rest: then the orders are asked for, and
// both again, until they agree or the time is over.
func (l *load) account(ctx context.Context, n int64, deadline time.Time) (account, error) {
	a := account{customer: l.customer(n)}
	if l.c.Scenario == "mixed" {
		a.deposited = deposit
	}
	for first := true; ; first = false {
		var err error
		if first {
			a.shipped = l.book.spentBy(a.customer)
		} else {
			err = l.readOrders(ctx, &a)
		}
		if err == nil {
			err = l.readBalance(ctx, &a)
		}
		switch late := time.Now().After(deadline); {
		case err == nil && a.wrong() == "", late && !first, ctx.Err() != nil:
			return a, err
		}
		sleep(ctx, retryPause)
	}
}

func (b *book) spentBy(customer string) order.Money {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent[customer]
}

func (l *load) readBalance(ctx context.Context, a *account) error {
	var has struct{ Balances map[string]order.Money }
	code, err := request(ctx, l.nc, "accounts.get", fmt.Sprintf(`{"customer_id":%q}`, a.customer), &has)
	switch {
	case err != nil:
		return err
	case code != http.StatusOK && code != http.StatusNotFound: // 404: nothing was ever entered
		return fmt.Errorf("accounts.get answers %d", code)
	}
	a.balance = has.Balances[order.DefaultCurrency]
	return nil
}

// readOrders reads all orders of the customer.
func (l *load) readOrders(ctx context.Context, a *account) error {
	a.shipped, a.open = 0, nil
	for cursor := ""; ; {
		var page struct {
			Orders []order.Order
			Cursor string
		}
		code, err := request(ctx, l.nc, "orders.list", fmt.Sprintf(`{"customer_id":%q,"limit":500,"cursor":%q}`, a.customer, cursor), &page)
		switch {
		case err != nil:
			return err
		case code != http.StatusOK:
			return fmt.Errorf("orders.list answers %d", code)
		}
		for _, o := range page.Orders {
			switch {
			case o.Status == order.Shipped || o.Status == order.Delivered:
				a.shipped += o.Amount
			case !o.Voided:
				a.open = append(a.open, o.ID)
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return nil
		}
	}
}
