package orderdb

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// filters are all forms of a list, with a status that many orders have and with
// one that few have.
func filters() (all []Filter) {
	for i := range 32 {
		var f Filter
		if i&1 > 0 {
			f.Customer = "c0"
		}
		if i&2 > 0 {
			f.Status = order.Paid
			if i&16 > 0 {
				f.Status = order.Rejected
			}
		}
		if i&4 > 0 {
			f.CreatedFrom = time.Unix(1000, 0)
		}
		if i&8 > 0 {
			f.CreatedBefore = time.Unix(19_000, 0)
		}
		all = append(all, f)
	}
	return all
}

// mixed are n orders, one a second: half of them of one customer, half of both
// halves paid, and a thousandth rejected.
func mixed(t testing.TB, n int) history {
	t.Helper()
	h := make(history, 0, n+n/2)
	for i := range n {
		customer := "c0"
		if i%2 > 0 {
			customer = fmt.Sprintf("c%d", i)
		}
		c, err := order.Place(fmt.Sprintf("o%d", i*7919%n), customer, "cgh", "", h0Items(), time.Unix(int64(i), 0))
		if err != nil {
			t.Fatal(err)
		}
		events := []order.Event{c}
		switch {
		case i%1000 == 2:
			events = append(events, order.PaymentDeclined{Reason: "a test"})
		case i%4 < 2:
			events = append(events, order.PaymentDebited{Amount: c.Amount, Currency: c.Currency})
		}
		for v, e := range events {
			data, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			h = append(h, function.Message{
				Stream: order.Stream, Position: uint64(len(h) + 1), Aggregate: c.ID, Version: uint64(v + 1), Type: e.EventType(), Schema: 1, Data: data,
			})
		}
	}
	return h
}

// TestListsUseTheirIndex holds the plan of every form of a list: an index is
// searched, and no more of it is read than is needed for the page.
func TestListsUseTheirIndex(t *testing.T) { each(t, listsUseTheirIndex) }

func listsUseTheirIndex(t *testing.T, empty func(testing.TB) string) {
	db := open(t, empty(t))
	h := mixed(t, 20_000)
	if err := db.Apply(t.Context(), h, h); err != nil {
		t.Fatal(err)
	}
	if err := db.kind.settle(t.Context(), db.write, "orderview_1"); err != nil {
		t.Fatal(err)
	}
	for _, f := range filters() {
		query, args := f.query(db.kind, "orderview_1", newest, limit)
		plan := planned
		if db.kind == (sqliteKind{}) {
			plan = searched
		}
		plan(t, db, f, query, append(args, db.view, 1))
	}
}

// searched holds SQLite's plan, which does not change with the data.
func searched(t *testing.T, db *DB, f Filter, query string, args []any) {
	t.Helper()
	rows, err := db.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var steps []string
	for rows.Next() {
		var detail string
		if err := rows.Scan(new(int), new(int), new(int), &detail); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(steps, "\n")
	for bound, asked := range map[string]bool{
		"customer_id=?": f.Customer != "", "status=?": f.Status != "", "created_on>?": !f.CreatedFrom.IsZero(), "created_on<?": true,
	} {
		if asked && !strings.Contains(plan, bound) {
			t.Errorf("%+v is not searched by %s:\n%s", f, bound, plan)
		}
	}
	if !strings.Contains(plan, "SEARCH orderview_1 USING INDEX orderview_1"+f.index()+" (") || strings.Contains(plan, "TEMP") || strings.Contains(plan, "SCAN") {
		t.Errorf("%+v: %s", f, plan)
	}
}

// limit is that of the page.
const limit = 50

// planNode is a part of PostgreSQL's plan.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Rows     int        `json:"Actual Rows"`
	Removed  int        `json:"Rows Removed by Filter"`
	Plans    []planNode `json:"Plans"`
}

// planned holds PostgreSQL's plan as it is run.
func planned(t *testing.T, db *DB, f Filter, query string, args []any) {
	t.Helper()
	query = regexp.MustCompile(`\$\d+`).ReplaceAllStringFunc(query, func(p string) string {
		var n int
		if _, err := fmt.Sscanf(p, "$%d", &n); err != nil {
			t.Fatal(err)
		}
		value, err := json.Marshal(args[n-1])
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(value), `"`, "'")
	})
	var plan []byte
	if err := db.read.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+query).Scan(&plan); err != nil {
		t.Fatal(err)
	}
	var root []struct{ Plan planNode }
	if err := json.Unmarshal(plan, &root); err != nil {
		t.Fatal(err)
	}
	read := 0
	var walk func(n planNode)
	walk = func(n planNode) {
		if n.Relation == "orderview_1" {
			if read += n.Rows + n.Removed; n.Type == "Seq Scan" {
				t.Errorf("%+v reads all: %s", f, plan)
			}
		}
		for _, one := range n.Plans {
			walk(one)
		}
	}
	walk(root[0].Plan)
	if read == 0 || read > 4*limit {
		t.Errorf("%+v reads %d orders: %s", f, read, plan)
	}
}
