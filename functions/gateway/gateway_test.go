package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/functions/orderdb"
	"github.com/waybill-go/waybill/functions/orderquery"
	"github.com/waybill-go/waybill/functions/orderview"
	"github.com/waybill-go/waybill/functions/payment"
	"github.com/waybill-go/waybill/functions/placeorder"
	"github.com/waybill-go/waybill/functions/review"
	"github.com/waybill-go/waybill/functions/shipping"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
	"github.com/waybill-go/waybill/runtime/functiontest/hosttest"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }

// calm is a pace at which nothing happens by itself while a test runs.
var calm = pace{read: 30 * time.Second, beat: time.Hour, again: 10 * time.Millisecond, write: 30 * time.Second}

// world is a gateway, and functions behind it.
type world struct {
	*hosttest.System
	t    *testing.T
	url  string
	host *host.Host
}

// begin runs a gateway on a free port, and these functions.
func begin(t *testing.T, g *gateway, functions ...function.Function) *world {
	t.Helper()
	if g.maxWatchers == 0 {
		g.maxWatchers = 10
	}
	if g.listener == nil {
		functiontest.Open(t, g, "HTTP_LISTEN=127.0.0.1:0")
	}
	w := &world{t: t, System: hosttest.Start(t, functions...), url: "http://" + g.listener.Addr().String()}
	var err error
	w.host, err = host.Start(declare(g), host.Options{Conn: w.Conn, Store: w.Store, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if w.host != nil {
			w.stop()
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return w
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.host.Stop(ctx); err != nil {
		w.t.Error(err)
	}
}

// everyone are all functions of an order.
func everyone(t *testing.T) []function.Function {
	t.Helper()
	money, rule, carrier, db := ledger.New(), review.NewRule(), shipping.NewCourier(), orderdb.New()
	functiontest.Open(t, money)
	functiontest.Open(t, rule)
	functiontest.Open(t, carrier)
	functiontest.Open(t, db, "ORDERS_DB=sqlite:"+filepath.Join(t.TempDir(), "orders.db"))
	return []function.Function{placeorder.New(), payment.New(money), review.New(rule), shipping.New(carrier), orderview.New(db), orderquery.New(db)}
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request: its headers are like "Content-Type: text/plain".
func (w *world) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			r.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// body is an order as the article places it, with more in front.
func body(more string) string {
	return `{` + more + `"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`
}

// TestAnOrder goes the way of an order over HTTP.
func TestAnOrder(t *testing.T) {
	w := begin(t, &gateway{pace: calm}, everyone(t)...)
	put := w.do("POST", "/api/orders", body(""), "Content-Type: application/json", "Idempotency-Key: req-1", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	var o order.Order
	if err := json.Unmarshal([]byte(put.body), &o); err != nil || put.status != 201 || o.Status != order.Pending || o.Amount != 40000 {
		t.Fatalf("placed: %+v, %v", put, err)
	}
	if at := put.header.Get("Location"); at != "/api/orders/"+o.ID || put.header.Get("ETag") != `"1"` || put.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers of a placed order: %v", put.header)
	}
	got := w.do("GET", put.header.Get("Location")+"?min_version=4", "")
	if err := json.Unmarshal([]byte(got.body), &o); err != nil || got.status != 200 || o.Status != order.Shipped || got.header.Get("ETag") != `"4"` {
		t.Fatalf("got: %+v, %v", got, err)
	}
	if same := w.do("GET", "/api/orders/"+o.ID, "", `If-None-Match: "2", W/"4"`); same.status != 304 || same.body != "" || same.header.Get("ETag") != `"4"` {
		t.Errorf("what the caller has: %+v", same)
	}
	if other := w.do("GET", "/api/orders/"+o.ID, "", `If-None-Match: "2"`); other.status != 200 {
		t.Errorf("what the caller has not: %+v", other)
	}
	var history History
	if h := w.do("GET", "/api/orders/"+o.ID+"/events", ""); json.Unmarshal([]byte(h.body), &history) != nil || h.status != 200 || len(history.Events) != 4 || history.Events[0].CausationID != "req-1" {
		t.Errorf("events: %+v", h)
	}
	if e := w.Events(order.Stream, o.ID)[0]; !strings.HasPrefix(e.Traceparent, "00-0af7651916cd43dd8448eb211c80319c-") {
		t.Errorf("the trace ends: %q", e.Traceparent)
	}
	if h := w.do("GET", "/api/orders/"+o.ID+"/events?from_version=4", ""); json.Unmarshal([]byte(h.body), &history) != nil || len(history.Events) != 1 {
		t.Errorf("events from 3 on: %+v", h)
	}
	// What curl -d sends when it is told nothing.
	second := w.do("POST", "/api/orders", body(`"order_id":"o2",`), "Content-Type: application/x-www-form-urlencoded")
	w.do("GET", second.header.Get("Location")+"?min_version=4", "")
	page := w.do("GET", "/api/orders?customer_id=shijuvar&status=Shipped&limit=1", "")
	var list List
	if err := json.Unmarshal([]byte(page.body), &list); err != nil || len(list.Orders) != 1 || list.Orders[0].ID != "o2" {
		t.Fatalf("list: %+v, %v", page, err)
	}
	next, _, ok := strings.Cut(strings.TrimPrefix(page.header.Get("Link"), "<"), `>; rel="next"`)
	page = w.do("GET", next, "")
	if err := json.Unmarshal([]byte(page.body), &list); err != nil || !ok || len(list.Orders) != 1 || list.Orders[0].ID != o.ID {
		t.Fatalf("the next page, %s: %+v, %v", next, page, err)
	}
	placed := url.QueryEscape(list.Orders[0].CreatedOn.Format(time.RFC3339Nano))
	for query, want := range map[string]string{"created_from": "o2", "created_before": ""} {
		page := w.do("GET", "/api/orders?limit=1&"+query+"="+placed, "")
		if err := json.Unmarshal([]byte(page.body), &list); err != nil || (want == "") != (len(list.Orders) == 0) || want != "" && list.Orders[0].ID != want {
			t.Errorf("%s: %+v, %v", query, page, err)
		}
	}
}

// TestProblems has everything refused, each with its status and where it is.
func TestProblems(t *testing.T) {
	w := begin(t, &gateway{pace: calm}, everyone(t)...)
	large := strings.Repeat(" ", maxBody+1)
	for _, c := range []struct {
		request, body, header string
		status                int
		location, detail      string
	}{
		{"POST /api/orders", strings.Replace(body(""), `"quantity":2`, `"quantity":0`, 1), "", 400, "body.order_items[0].quantity", "order_items[0].quantity: is 0; allowed are 1 to 10000"},
		{"POST /api/orders", strings.Replace(body(""), `200`, `1.005`, 1), "", 400, "body.order_items[0].unit_price", "two decimal places"},
		{"POST /api/orders", body(`"status":"Approved",`), "", 400, "body.status", "is not a field"},
		{"POST /api/orders", `{"customer_id":`, "", 400, "body.customer_id", "not valid JSON"},
		{"POST /api/orders", `{"customer_id":`, "Idempotency-Key: k", 400, "body.customer_id", "not valid JSON at byte"},
		{"POST /api/orders", `[]`, "Idempotency-Key: k", 400, "body", "must be a JSON object"},
		{"POST /api/orders", ``, "", 400, "body.customer_id", "is missing"},
		{"POST /api/orders", body(""), "Idempotency-Key: \"\"", 400, "header.Idempotency-Key", "printable"},
		{"POST /api/orders", body(`"order_id":"a",`), "Idempotency-Key: b", 400, "header.Idempotency-Key", "send one of them"},
		{"POST /api/orders", body(""), "Content-Type: text/xml", 415, "", "application/json"},
		{"POST /api/orders", large, "", 413, "", "524288 bytes"},
		{"POST /api/orders", body(""), "Sec-Fetch-Site: cross-site", 403, "", "another site"},
		{"POST /api/orders?x=1", body(""), "", 400, "query.x", "not a parameter"},
		{"GET /api/orders/none", "", "", 404, "path.order_id", `there is no order "none"`},
		{"GET /api/orders/a.b", "", "", 400, "path.order_id", "an id matches"},
		{"GET /api/orders/none?min_version=x", "", "", 400, "query.min_version", "whole number"},
		{"GET /api/orders/none?min_version=-1", "", "", 400, "query.min_version", "whole number"},
		{"GET /api/orders?limit=501", "", "", 400, "query.limit", "is 501; allowed are 1 to 500"},
		{"GET /api/orders?limit=1&limit=2", "", "", 400, "query.limit", "twice"},
		{"GET /api/orders?status=Eaten", "", "", 400, "query.status", "allowed are"},
		{"GET /api/orders?cursor=-", "", "", 400, "query.cursor", "not one that a page answered"},
		{"GET /api/orders?created_from=today", "", "", 400, "query.created_from", "must be a time like 2026-01-02T15:04:05Z"},
		{"GET /api/orders/none/events", "", "", 404, "path.order_id", "there is no order"},
		{"GET /api/orders/none/watch", "", "", 404, "path.order_id", "there is no order"},
		{"GET /api/orders/none/watch", "", "Last-Event-ID: x", 400, "header.Last-Event-ID", "whole number"},
		{"POST /api/orders/o1/cancel", `{"reason":"no"}`, "", 503, "", "nobody answers orders.cancel"},
		{"POST /api/orders/o1/review", `{"order_id":"o2"}`, "", 400, "path.order_id", "send one of them"},
		{"DELETE /api/orders/o1", "", "", 405, "", "/openapi.json"},
		{"GET /api/elsewhere", "", "", 404, "", "/openapi.json"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		a := w.do(method, path, c.body, c.header)
		var p struct {
			Type, Title, Detail string
			Status              int
			Errors              []struct{ Location, Message string }
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %+v, %v", c.request, a, err)
			continue
		}
		location := ""
		if len(p.Errors) == 1 && p.Errors[0].Message != "" {
			location = p.Errors[0].Location
		}
		if a.status != c.status || p.Status != c.status || p.Title != http.StatusText(c.status) || p.Type != "about:blank" {
			t.Errorf("%s %.80s: %d, want %d: %s", c.request, c.body, a.status, c.status, a.body)
		}
		if location != c.location || !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s %.80s: at %q, want %q; %q has no %q", c.request, c.body, location, c.location, p.Detail, c.detail)
		}
		if (c.status == 503) != (a.header.Get("Retry-After") == "1") || (c.status == 405) != (a.header.Get("Allow") == "GET, HEAD") {
			t.Errorf("%s: %v", c.request, a.header)
		}
	}
}

// TestPlacedAgain sends the same order again, as a caller does who got no answer.
func TestPlacedAgain(t *testing.T) {
	w := begin(t, &gateway{pace: calm}, placeorder.New())
	for name, c := range map[string]struct{ key, same, id string }{
		"an id":     {"3f0e1c1e-8f6b-4a57-9d3c-0b9a3f1f2b11", `"3f0e1c1e-8f6b-4a57-9d3c-0b9a3f1f2b11"`, "3f0e1c1e-8f6b-4a57-9d3c-0b9a3f1f2b11"},
		"in quotes": {`"k1"`, "k1", "k1"},
		"any other": {"order 4711/2026", `"order 4711/2026"`, function.DeriveID(keyHeader, "order 4711/2026")},
		"very long": {strings.Repeat("x", 255), strings.Repeat("x", 255), function.DeriveID(keyHeader, strings.Repeat("x", 255))},
		"short":     {"k2", "k2", "k2"},
	} {
		first := w.do("POST", "/api/orders", body(""), keyHeader+": "+c.key)
		again := w.do("POST", "/api/orders", strings.ReplaceAll(body(""), ",", " ,\n"), keyHeader+": "+c.same)
		if first.status != 201 || again.status != 201 || first.body != again.body || again.header.Get("Location") != "/api/orders/"+c.id {
			t.Errorf("%s: %+v, and again %+v", name, first, again)
		}
		other := w.do("POST", "/api/orders", strings.Replace(body(""), "200", "201", 1), keyHeader+": "+c.key)
		if other.status != 409 || !strings.Contains(other.body, "other content") {
			t.Errorf("%s: another order under its key: %+v", name, other)
		}
		if n := len(w.Events(order.Stream, c.id)); n != 1 {
			t.Errorf("%s: it was placed %d times", name, n)
		}
	}
	if both := w.do("POST", "/api/orders", body(`"order_id":"k2",`), keyHeader+": k2"); both.status != 201 {
		t.Errorf("a key and the same id: %+v", both)
	}
}

// TestChanges puts the order's id into what is asked, and nothing else.
func TestChanges(t *testing.T) {
	asked, causes := map[string]json.RawMessage{}, map[string]string{}
	answers := func(subject string) function.Door {
		return function.Endpoint(subject, func(ctx context.Context, r map[string]json.RawMessage) (order.Order, error) {
			causes[subject] = function.CauseOf(ctx).ID
			for name, value := range r {
				asked[subject+" "+name] = value
			}
			if string(r["reason"]) == `"late"` {
				return order.Order{}, function.Reject("it is shipped")
			}
			return order.Order{ID: "o1", Version: 4}, nil
		})
	}
	w := begin(t, &gateway{pace: calm}, function.Function{Name: "changes", Concurrency: 1, Doors: []function.Door{
		answers("orders.cancel"), answers("orders.review"), answers("orders.deliver"),
	}})
	for _, c := range []struct{ path, body, name, value string }{
		{"cancel", `{"reason":"no"}`, "reason", `"no"`},
		{"review", `{"decision":"reject","by":"ann","reason":"1.50"}`, "by", `"ann"`},
		{"review", `{"order_id":"o1","decision":"approve","amount":1.50}`, "amount", `1.50`},
		{"deliver", ``, "order_id", `"o1"`},
	} {
		a := w.do("POST", "/api/orders/o1/"+c.path, c.body, keyHeader+`: "k-`+c.path+`"`)
		if a.status != 200 || a.header.Get("ETag") != `"4"` || string(asked["orders."+c.path+" "+c.name]) != c.value || string(asked["orders."+c.path+" order_id"]) != `"o1"` || causes["orders."+c.path] != "k-"+c.path {
			t.Errorf("%s %s: %+v; asked %s", c.path, c.body, a, asked)
		}
	}
	if a := w.do("POST", "/api/orders/o1/cancel", `{"reason":"late"}`); a.status != 422 || !strings.Contains(a.body, "it is shipped") {
		t.Errorf("what is refused: %+v", a)
	}
}

func TestAnAddressThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	g := &gateway{}
	g.Settings.Address = taken.Addr().String()
	if err := g.Open(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("HTTP_LISTEN=%q", taken.Addr())) {
		t.Errorf("it says %v", err)
	}
}
