package host

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/function"
)

// retryAfter is the header with the seconds after which to try again, of what
// may go better then.
const retryAfter = "Retry-After"

// refusalBody is the body of a refusal; its code and text are in the headers of
// NATS's micro protocol too.
type refusalBody struct {
	Code  function.Code `json:"code"`
	Error string        `json:"error"`
	Field string        `json:"field,omitzero"`
}

// refuse makes the message that says no.
func refuse(no *function.Refusal) (nats.Header, []byte) {
	header := nats.Header{
		micro.ErrorCodeHeader: {strconv.Itoa(int(no.Code))},
		micro.ErrorHeader:     {headerText(no.Error())},
	}
	if no.Code == function.CodeOverloaded || no.Code == function.CodeUnavailable {
		header.Set(retryAfter, "1")
	}
	body, err := json.Marshal(refusalBody{Code: no.Code, Error: no.Error(), Field: no.Field})
	if err != nil {
		body = []byte(`{"code":500,"error":"internal error"}`)
	}
	return header, body
}

// Refused is the refusal that an answer is; nil if it is a reply. The code of one
// that does not come from here may be none of function's.
func Refused(m *nats.Msg) *function.Refusal {
	text := m.Header.Get(micro.ErrorCodeHeader)
	if text == "" {
		return nil
	}
	code, _ := strconv.Atoi(text) // 0 is a code that nobody knows
	var body refusalBody
	if json.Unmarshal(m.Data, &body) != nil || body.Error == "" { // not one of ours: the headers say it too
		body = refusalBody{Error: m.Header.Get(micro.ErrorHeader)}
	}
	return &function.Refusal{
		Code: function.Code(code), Field: body.Field, Reason: strings.TrimPrefix(body.Error, body.Field+": "),
	}
}
