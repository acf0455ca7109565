package orderquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// events are a log made by hand.
type events []function.Message

func (h events) ReadAggregate(_ context.Context, id string, from uint64) iter.Seq2[function.Message, error] {
	return func(yield func(function.Message, error) bool) {
		for _, e := range h {
			if e.Aggregate == id && e.Version >= from && !yield(e, nil) {
				return
			}
		}
	}
}

// placed are the created events of n orders, one a second from 1970 on.
func placed(t *testing.T, n int) events {
	t.Helper()
	var h events
	for i := range n {
		c, err := order.Place(fmt.Sprintf("o%d", i), fmt.Sprintf("c%d", i%2), "r", "", []order.Item{{Code: "a", Name: "b", UnitPrice: 1, Quantity: 1}}, time.Unix(int64(i), 0))
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		h = append(h, function.Message{Stream: order.Stream, Position: uint64(i + 1), Aggregate: c.ID, Version: 1, ID: "e" + c.ID, CausationID: "request", Type: "created", Schema: 1, Data: data})
	}
	return h
}

// paid is the second event of the i-th order.
func paid(i int) function.Message {
	return function.Message{
		Stream: order.Stream, Position: uint64(1000 + i), Aggregate: fmt.Sprintf("o%d", i), Version: 2,
		Type: "paymentdebited", Schema: 1, Data: []byte(`{"amount":0.01,"currency":"USD"}`),
	}
}

func open(t *testing.T, h events) *orderdb.DB {
	t.Helper()
	db := orderdb.New()
	functiontest.Open(t, db, "ORDERS_DB=sqlite:"+filepath.Join(t.TempDir(), "orders.db"))
	if err := db.Apply(t.Context(), h, h); err != nil {
		t.Fatal(err)
	}
	return db
}

func refused(err error) (function.Code, string) {
	if r, ok := errors.AsType[*function.Refusal](err); ok {
		return r.Code, r.Field
	}
	return 0, ""
}

func TestGet(t *testing.T) {
	q := query{db: open(t, placed(t, 2)), wait: 20 * time.Millisecond}
	for name, c := range map[string]struct {
		request GetRequest
		code    function.Code
		field   string
	}{
		"there":                 {GetRequest{OrderID: "o1"}, 0, ""},
		"there in that version": {GetRequest{OrderID: "o1", MinVersion: 1}, 0, ""},
		"unknown":               {GetRequest{OrderID: "x"}, function.CodeNotFound, "order_id"},
		"unknown, waited for":   {GetRequest{OrderID: "x", MinVersion: 1}, function.CodeNotFound, "order_id"},
		"not yet that far":      {GetRequest{OrderID: "o1", MinVersion: 2}, function.CodeConflict, "min_version"},
	} {
		began := time.Now()
		o, err := q.get(t.Context(), c.request)
		code, field := refused(err)
		if code != c.code || field != c.field || (err == nil) != (c.code == 0) || err == nil && o.ID != c.request.OrderID {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
		if waited := time.Since(began) >= q.wait; waited != (c.code != 0 && c.request.MinVersion > 0) {
			t.Errorf("%s: took %v", name, time.Since(began))
		}
	}
}

// TestGetWaits asks for a version that another writer stores meanwhile.
func TestGetWaits(t *testing.T) {
	db := open(t, placed(t, 1))
	q := query{db: db, wait: time.Minute}
	answers := make(chan error, 1)
	go func() {
		o, err := q.get(context.Background(), GetRequest{OrderID: "o0", MinVersion: 2})
		if err == nil && (o.Version != 2 || o.Status != order.Paid) {
			err = fmt.Errorf("got %+v", o)
		}
		answers <- err
	}()
	if err := db.Apply(t.Context(), events{}, events{paid(0)}); err != nil {
		t.Fatal(err)
	}
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.get(ctx, GetRequest{OrderID: "o0", MinVersion: 3}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestList(t *testing.T) {
	q := query{db: open(t, placed(t, 60))}
	if err := q.db.Apply(t.Context(), events{}, events{paid(4), paid(5)}); err != nil {
		t.Fatal(err)
	}
	o3 := orderdb.Cursor{Created: 3_000_000, Placed: 4}.String()
	for name, c := range map[string]struct {
		body  string
		want  string // the first and the last
		count int
		more  bool
	}{
		"nothing said":         {``, "o59 o10", 50, true},
		"all":                  {`{"limit":500}`, "o59 o0", 60, false},
		"exactly all":          {`{"limit":60}`, "o59 o0", 60, false},
		"one":                  {`{"limit":1}`, "o59 o59", 1, true},
		"of a customer":        {`{"customer_id":"c1"}`, "o59 o1", 30, false},
		"of a status":          {`{"status":"Paid"}`, "o5 o4", 2, false},
		"of both":              {`{"status":"Paid","customer_id":"c0"}`, "o4 o4", 1, false},
		"of nobody":            {`{"customer_id":"nobody"}`, "", 0, false},
		"from a cursor on":     {`{"limit":2,"cursor":"` + o3 + `"}`, "o2 o1", 2, true},
		"from a cursor to end": {`{"limit":3,"cursor":"` + o3 + `"}`, "o2 o0", 3, false},
		"from a time on":       {`{"created_from":"1970-01-01T00:00:58Z"}`, "o59 o58", 2, false},
		"a moment later":       {`{"created_from":"1970-01-01T00:00:58.000000001Z"}`, "o59 o59", 1, false},
		"before a time":        {`{"created_before":"1970-01-01T01:00:02+01:00"}`, "o1 o0", 2, false},
		"between, of all":      {`{"created_from":"1970-01-01T00:00:03Z","created_before":"1970-01-01T00:00:10Z","status":"Paid","customer_id":"c1"}`, "o5 o5", 1, false},
		"and from a cursor on": {`{"created_from":"1970-01-01T00:00:01Z","created_before":"1970-01-01T00:00:10Z","cursor":"` + o3 + `"}`, "o2 o1", 2, false},
	} {
		var list List
		err := json.Unmarshal(functiontest.Given(t, New(q.db)).WhenAsked("orders.list", c.body).ThenNothing().Reply, &list)
		ends := ""
		if n := len(list.Orders); n > 0 {
			ends = list.Orders[0].ID + " " + list.Orders[n-1].ID
		}
		if err != nil || list.Orders == nil || len(list.Orders) != c.count || ends != c.want || (list.Cursor != "") != c.more {
			t.Errorf("%s: %d orders, %q, cursor %q, %v", name, len(list.Orders), ends, list.Cursor, err)
		}
	}
}

func TestHistory(t *testing.T) {
	const subject = "orders.history"
	at := functiontest.Now
	functiontest.Given(t, New(orderdb.New()), order.WasApproved{}, order.WasRejected{Reason: "no"}).Of("o0").
		WhenAsked(subject, HistoryRequest{OrderID: "o0"}).ThenReplies(History{Events: []HistoryEvent{
		{Version: 1, Position: 1, Type: "approved", Schema: 2, Time: at, ID: "given1", Data: json.RawMessage(`{}`)},
		{Version: 2, Position: 2, Type: "rejected", Schema: 2, Time: at, ID: "given2", Data: json.RawMessage(`{"reason":"no"}`)},
	}}).
		WhenAsked(subject, HistoryRequest{OrderID: "x"}).ThenRefused(function.CodeNotFound, "order_id")
}

// TestLongHistory reads a history page by page.
func TestLongHistory(t *testing.T) {
	for name, size := range map[string]int{"many": 10, "large": 300 << 10} {
		long := placed(t, 1)
		for v := uint64(2); v <= maxHistory+3; v++ {
			long = append(long, function.Message{
				Stream: order.Stream, Aggregate: "o0", Version: v, Position: v, Type: "tasted", Data: []byte(`"` + strings.Repeat("x", size) + `"`),
			})
		}
		next, pages := uint64(0), 0
		for seen := uint64(0); ; pages++ {
			got, err := history(t.Context(), long, HistoryRequest{OrderID: "o0", FromVersion: next})
			if err != nil || len(got.Events) == 0 || pages > maxHistory {
				t.Fatalf("%s: %d events, %v", name, len(got.Events), err)
			}
			if first := got.Events[0]; seen == 0 && first.CausationID != "request" {
				t.Errorf("%s: the order was placed by %q", name, first.CausationID)
			}
			total := 0
			for _, e := range got.Events {
				if seen++; e.Version != seen {
					t.Fatalf("%s: version %d after %d", name, e.Version, seen-1)
				}
				total += len(e.Data)
			}
			if total > maxHistoryBytes || len(got.Events) > maxHistory {
				t.Fatalf("%s: a page of %d events and %d bytes", name, len(got.Events), total)
			}
			if next = got.NextVersion; next == 0 {
				if seen != maxHistory+3 {
					t.Fatalf("%s: ends at %d", name, seen)
				}
				break
			}
		}
		if pages == 0 {
			t.Errorf("%s: came in one page", name)
		}
	}
}

// TestMalformed has requests as nobody should send them: each is a 400 that
// names the field.
func TestMalformed(t *testing.T) {
	nothing := functiontest.Given(t, New(orderdb.New()))
	for _, c := range []struct{ subject, body, field string }{
		{"orders.get", ``, "order_id"}, {"orders.get", `{}`, "order_id"}, {"orders.get", `x`, "body"}, {"orders.get", `[]`, "body"},
		{"orders.get", `{"order_id":""}`, "order_id"}, {"orders.get", `{"order_id":"a.b"}`, "order_id"}, {"orders.get", `{"order_id":">"}`, "order_id"},
		{"orders.get", `{"order_id":1}`, "order_id"}, {"orders.get", `{"order_id":null}`, "order_id"}, {"orders.get", `{"id":"a"}`, "id"},
		{"orders.get", `{"order_id":"a","min_version":-1}`, "min_version"}, {"orders.get", `{"order_id":"a","min_version":1.5}`, "min_version"},
		{"orders.get", `{"order_id":"a","min_version":"1"}`, "min_version"}, {"orders.get", `{"order_id":"a","min_version":1e400}`, "min_version"},
		{"orders.get", `{"order_id":"a","min_version":9007199254740993}`, "min_version"},
		{"orders.list", `null x`, "body"}, {"orders.list", `{"limit":0}`, "limit"}, {"orders.list", `{"limit":501}`, "limit"}, {"orders.list", `{"limit":-1}`, "limit"},
		{"orders.list", `{"limit":2.5}`, "limit"}, {"orders.list", `{"limit":"5"}`, "limit"}, {"orders.list", `{"limit":99999999999999999999}`, "limit"},
		{"orders.list", `{"status":"paid"}`, "status"}, {"orders.list", `{"status":1}`, "status"}, {"orders.list", `{"status":"Paid' OR 1=1"}`, "status"},
		{"orders.list", `{"created_from":"yesterday"}`, "created_from"}, {"orders.list", `{"created_before":1}`, "created_before"},
		{"orders.list", `{"created_from":"2026-01-02T00:00:00Z","created_before":"2026-01-02T00:00:00Z"}`, "created_before"},
		{"orders.list", `{"customer_id":"*"}`, "customer_id"}, {"orders.list", `{"customer_id":{}}`, "customer_id"},
		{"orders.list", `{"cursor":"-1"}`, "cursor"}, {"orders.list", `{"cursor":"\u0000"}`, "cursor"}, {"orders.list", `{"cursor":5}`, "cursor"},
		{"orders.list", `{"cursor":"` + strings.Repeat("z", 10_000) + `"}`, "cursor"}, {"orders.list", `{"order_id":"a"}`, "order_id"},
		{"orders.history", `{}`, "order_id"}, {"orders.history", `{"order_id":"a b"}`, "order_id"}, {"orders.history", `{"order_id":"a","order_id":"a"}`, "order_id"},
		{"orders.history", `{"order_id":"a","from_version":-1}`, "from_version"}, {"orders.history", `{"order_id":"a","from_version":9007199254740993}`, "from_version"},
	} {
		nothing.WhenAsked(c.subject, c.body).ThenRefused(function.CodeInvalid, c.field)
	}
}
