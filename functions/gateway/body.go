package gateway

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// readBody reads the request to its end. After that a read tells no more than that
// the caller is gone, and must not time out: that would end the request.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &refused{http.StatusRequestTimeout, "the request took too long to arrive"}
	default:
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &refused{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
		}
		return nil, &refused{http.StatusBadRequest, "the body ends too early, or is not sent as HTTP has it"}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // fails only on a connection that is gone
	return body, nil
}

// checkType refuses what does not claim to be JSON. A form is what curl -d says
// when it is told nothing, whatever it sends.
func checkType(header string) error {
	typ, _, err := mime.ParseMediaType(header)
	switch {
	case header == "", typ == "application/json", typ == "application/x-www-form-urlencoded":
		return nil
	case err == nil && strings.HasPrefix(typ, "application/") && strings.HasSuffix(typ, "+json"):
		return nil
	default:
		return &refused{http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Type is %.80q; send application/json", header)}
	}
}

// withID is the body with the order's id put in where it names none; all else stays
// as it came, to the digit. A body that can't be read stays as a whole: the endpoint
// says what is wrong with it. from says where the id was found, for a body that
// names another.
func withID(body []byte, id, from string) ([]byte, error) {
	var parts struct {
		OrderID *string        `json:"order_id"`
		Rest    jsontext.Value `json:",embed"`
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		return body, nil //nolint:nilerr // see above
	}
	switch {
	case parts.OrderID == nil:
		parts.OrderID = &id
	case *parts.OrderID == id:
		return body, nil
	default:
		return nil, function.Invalid(from, "stands for the order %q, and the body's order_id is %.80q: send one of them", id, *parts.OrderID)
	}
	out, err := json.Marshal(parts)
	if err != nil {
		return nil, fmt.Errorf("put the order's id into the body: %w", err)
	}
	return out, nil
}

const maxKey = 255

// idOf is the id that an Idempotency-Key stands for: the key itself if an id can
// look like that, like a UUID does, and else one derived from it. The header's
// draft has the key in quotes, and most callers have not: both are the same key.
func idOf(key string) (string, error) {
	if n := len(key); n > 1 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if order.CheckID(keyHeader, key) == nil {
		return key, nil
	}
	if len(key) == 0 || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", function.Invalid(keyHeader, "is %.80q; it must be 1 to %d printable ASCII characters", key, maxKey)
	}
	return function.DeriveID(keyHeader, key), nil
}

const keyHeader = "Idempotency-Key"
