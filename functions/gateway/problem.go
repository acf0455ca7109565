package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waybill-go/waybill/runtime/function"
)

// refused is what HTTP itself is refused for, with a status that no endpoint has.
type refused struct {
	status int
	detail string
}

func (r *refused) Error() string { return r.detail }

// write answers with problem details as RFC 9457 has them.
func (r *refused) write(w http.ResponseWriter, details ...*huma.ErrorDetail) {
	body, err := json.Marshal(huma.ErrorModel{
		Type: "about:blank", Title: http.StatusText(r.status), Status: r.status, Detail: r.detail, Errors: details,
	})
	if err != nil {
		body = fmt.Appendf(nil, `{"type":"about:blank","status":%d}`, r.status)
	}
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	if r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the caller is gone, or reads it
}

// queryPrefix begins the field of a refusal for a parameter that there is not.
const queryPrefix = "query."

const problemType = "application/problem+json"

// refuse answers with an endpoint's refusal, whose code is a status of HTTP. The
// field is told with where the caller put it.
func (rt *route) refuse(w http.ResponseWriter, no *function.Refusal) {
	r := refused{int(no.Code), no.Error()}
	if no.Field == "" {
		r.write(w)
		return
	}
	r.write(w, &huma.ErrorDetail{Location: rt.location(no.Field), Message: no.Reason})
}

// location is where a field is in the request: query.limit, body.order_items[0].code.
func (rt *route) location(field string) string {
	i := slices.IndexFunc(rt.params, func(p *huma.Param) bool { return p.Name == field })
	switch {
	case i >= 0:
		return rt.params[i].In + "." + field
	case rt.body == nil, field == "body", strings.HasPrefix(field, queryPrefix):
		return field
	default:
		return "body." + field
	}
}
