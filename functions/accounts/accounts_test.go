package accounts

import (
	"testing"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
)

func TestDepositAndGet(t *testing.T) {
	const (
		deposit, get = "accounts.deposit", "accounts.get"
		ten          = `{"customer_id":"c1","amount":10,"deposit_id":"d1"}`
		hasTen       = `{"customer_id":"c1","balances":{"USD":10}}`
	)
	h := functiontest.Given(t, New(ledger.New())).Of("c1")
	h.WhenAsked(get, `{"customer_id":"c1"}`).ThenRefused(function.CodeNotFound, "customer_id")
	h.WhenAsked(deposit, ten).ThenReplies(hasTen).Again().ThenReplies(hasTen)
	h.WhenAsked(deposit, `{"customer_id":"c1","amount":2.5,"currency":"EUR","deposit_id":"d2"}`).ThenReplies(`{"customer_id":"c1","balances":{"USD":10,"EUR":2.5}}`)
	h.WhenAsked(deposit, ten).ThenReplies(hasTen) // as it was answered first
	h.WhenAsked(deposit, `{"customer_id":"c1","amount":11,"deposit_id":"d1"}`).ThenRefused(function.CodeConflict, "deposit_id")
	h.WhenAsked(deposit, `{"customer_id":"c1","amount":10,"currency":"EUR","deposit_id":"d1"}`).ThenRefused(function.CodeConflict, "deposit_id")
	h.WhenAsked(deposit, `{"customer_id":"c2","amount":1,"deposit_id":"d1"}`).ThenReplies(`{"customer_id":"c2","balances":{"USD":1}}`)
	h.WhenAsked(get, `{"customer_id":"c1"}`).ThenNothing().ThenReplies(`{"customer_id":"c1","balances":{"USD":10,"EUR":2.5}}`)
}

func TestMalformed(t *testing.T) {
	h := functiontest.Given(t, New(ledger.New()))
	for body, field := range map[string]string{
		`{}`: "amount", `{"amount":0}`: "amount", `{"amount":-1}`: "amount", `{"amount":1000000000.01}`: "amount", `{"amount":"1"}`: "amount",
		`{"amount":1,"deposit_id":"d"}`:                                    "customer_id",
		`{"amount":1,"customer_id":"a b","deposit_id":"d"}`:                "customer_id",
		`{"amount":1,"customer_id":"c"}`:                                   "deposit_id",
		`{"amount":1,"customer_id":"c","deposit_id":"d","currency":"XXX"}`: "currency",
		`{"amount":1,"customer_id":"c","deposit_id":"d","balance":5}`:      "balance",
	} {
		h.WhenAsked("accounts.deposit", body).ThenRefused(function.CodeInvalid, field)
	}
	h.WhenAsked("accounts.get", `{}`).ThenRefused(function.CodeInvalid, "customer_id")
}
