package ledger_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden holds the JSON of each kind of entry to what is stored in files.
func TestGolden(t *testing.T) {
	balances := map[string]order.Money{"EUR": 250, "USD": -41250}
	for _, kind := range []string{ledger.Deposited, ledger.Debited, ledger.Declined, ledger.Closed, ledger.Voided} {
		e := ledger.Entry{Kind: kind, Customer: "shijuvar", Key: "o1", Amount: 41250, Currency: "USD", Balances: balances}
		if kind == ledger.Declined || kind == ledger.Closed {
			e.Reason = "why"
		}
		got, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", kind+".json")
		if *update {
			if err := errors.Join(os.MkdirAll("testdata", 0o750), os.WriteFile(path, append(got, '\n'), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got)+"\n" != string(want) {
			t.Errorf("%s is\n%s\nand was\n%s", kind, got, want)
		}
		if back, err := (ledger.Account{}).Decode(kind, 1, want); err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("%s came back as %+v (%v)", kind, back, err)
		}
	}
	for _, bad := range []string{"", "null", "{}", `{"customer_id":"c"}`, `{"balances":{}}`, `[]`, `{"customer_id":"c","balances":{"USD":"1"}}`} {
		if e, err := (ledger.Account{}).Decode("debited", 1, []byte(bad)); err == nil {
			t.Errorf("%q became %+v", bad, e)
		}
	}
}

// TestANewerKindIsNoOutcome: an entry that a newer release made of a key is
// neither paid nor declined, and what it moved is not given back.
func TestANewerKindIsNoOutcome(t *testing.T) {
	store := openMemory(t)
	for _, id := range []string{function.DeriveID(ledger.Stream, "payment", "a"), function.DeriveID(ledger.Stream, "deposit", "c", "a")} {
		e := ledger.Entry{Kind: "held", Customer: "c", Key: "a", Amount: 5, Currency: "USD", Balances: map[string]order.Money{"USD": 0}}
		data, _, err := function.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Append(t.Context(), eventstore.Append{
			Stream: ledger.Stream, Aggregate: "c", Expected: eventstore.Any, Events: []eventstore.Event{{ID: id, Type: e.Kind, Data: data}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	p := newProcess(store, 0)
	declined, err := p.debit(t.Context(), "a", usd(5))
	for what, err := range map[string]error{"debit": err, "void": p.void(t.Context(), "a", usd(5)), "deposit": p.deposit(t.Context(), "a", usd(5))} {
		if fate := function.FateOf(err, false); err == nil || declined != "" || fate != function.Failed {
			t.Errorf("%s: %q, %v, which is %v", what, declined, err, fate)
		}
	}
	if n := len(entries(t, store, "c")); n != 2 {
		t.Errorf("%d entries", n)
	}
}
