package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/internal/bench"
	"github.com/waybill-go/waybill/internal/scenario"
	"github.com/waybill-go/waybill/runtime/discovery"
)

// TestBench runs each scenario through each door, against a system that is set to
// what they need, and against one that is not.
func TestBench(t *testing.T) {
	s := newSystem(t)
	run := func(args string) (code int, r bench.Report, out string) {
		t.Helper()
		p := s.start("bench orders --json --clients 8 --customers 10 --duration 60s --url http://"+s.http+" "+args, "NATS_URL=nats://"+s.nats)
		code, out = p.ended(), p.out.String()
		begin, end := strings.Index(out, "{\n"), strings.LastIndex(out, "\n}")
		if begin < 0 || end < begin {
			t.Fatalf("%s ended with %d: %s", args, code, out)
		}
		if err := json.Unmarshal([]byte(out[begin:end+2]), &r); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
		return code, r, out
	}
	up := s.start("up", scenario.Settings()...).ready()
	for _, door := range []string{"nats", "http"} {
		code, r, out := run("--scenario happy --orders 20 --door " + door)
		if code != 0 || r.Accepted != 20 || r.Ends["shipped"] != 20 || len(r.Ends) != 1 || r.Money.Accounts != 10 || r.Money.Unjudged != 0 {
			t.Errorf("happy over %s ended with %d: %s", door, code, out)
		}
		code, r, out = run("--scenario mixed --orders 100 --door " + door)
		want := map[string]int{"shipped": 83 + r.TooLate, "paymentdeclined": 5, "rejected": 5, "cancelled": 5 - r.TooLate, "shippingfailed": 2}
		if r.TooLate == 5 {
			delete(want, "cancelled")
		}
		if code != 0 || r.Accepted != 100 || r.Ended != 100 || !maps.Equal(r.Ends, want) || len(r.Money.Wrong) > 0 {
			t.Errorf("mixed over %s ended with %d, want %v: %s", door, code, want, out)
		}
		if r.PerSecond <= 0 || r.ToAccepted.P50 <= 0 || r.ToEnd.P50 <= r.ToAccepted.P50 {
			t.Errorf("mixed over %s has times that can't be: %s", door, out)
		}
	}
	if code, r, out := run("--scenario mixed --orders 100 --rate 100"); code != 0 || r.Ended == 0 || r.Ended != r.Accepted || r.Accepted+r.Refused+r.Unanswered != 100 {
		t.Errorf("the open loop ended with %d: %s", code, out)
	}
	gateway, err := discovery.Find(t.Context(), s.connect(), "gateway")
	if err != nil || len(gateway) != 1 || gateway[0].Stats[0].NumRequests < 120 {
		t.Errorf("of orders placed through the gateway it shows %+v (%v)", gateway, err)
	}
	up.kill()

	s.start("up").ready()
	code, r, out := run("--scenario mixed --orders 100")
	if code != 1 || r.Ended != 100 || !slices.ContainsFunc(scenario.Settings(), func(s string) bool { return strings.Contains(out, "start what runs with "+s) }) {
		t.Errorf("without settings it ended with %d: %s", code, out)
	}
	if p := s.start("bench orders --door http --url http://127.0.0.1:1", "NATS_URL=nats://"+s.nats); p.ended() != 1 || !strings.Contains(p.out.String(), "no gateway answers") {
		t.Errorf("without a gateway: %s", p.out.String())
	}
}
