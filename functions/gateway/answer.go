package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waybill-go/waybill/runtime/function"
)

func (a *api) place(ctx context.Context, c *call) (*reply, error) {
	body := c.body
	if c.key != "" {
		var err error
		if body, err = withID(body, c.key, keyHeader); err != nil {
			return nil, err
		}
	}
	r, o, err := a.askOne(ctx, "orders.place", body)
	if err != nil {
		return nil, err
	}
	r.status = http.StatusCreated // the same request again is answered as it was at first
	r.header.Set("Location", ordersPath+"/"+url.PathEscape(o.ID))
	return r, nil
}

// placed is what the gateway reads of an order.
type placed struct {
	ID      string `json:"order_id"`
	Version uint64 `json:"version"`
}

// askOne asks for something that is answered with an order.
func (a *api) askOne(ctx context.Context, subject string, request []byte) (*reply, placed, error) {
	var o placed
	body, err := a.port.Ask(ctx, subject, request)
	if err != nil {
		return nil, o, err
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, o, fmt.Errorf("read the answer of %s: %w", subject, err)
	}
	return &reply{status: http.StatusOK, body: body, header: http.Header{"Etag": {fmt.Sprintf(`"%d"`, o.Version)}}}, o, nil
}

func (a *api) get(ctx context.Context, c *call) (*reply, error) {
	request, err := requestOf(c)
	if err != nil {
		return nil, err
	}
	r, _, err := a.askOne(ctx, "orders.get", request)
	if err != nil {
		return nil, err
	}
	for tag := range strings.SplitSeq(c.r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(tag), "W/") == r.header.Get("ETag") {
			r.status, r.body = http.StatusNotModified, nil
		}
	}
	return r, nil
}

func (a *api) events(ctx context.Context, c *call) (*reply, error) {
	request, err := requestOf(c)
	if err != nil {
		return nil, err
	}
	body, err := a.port.Ask(ctx, "orders.history", request)
	if err != nil {
		return nil, err
	}
	return paged(c, body, "from_version")
}

func (a *api) list(ctx context.Context, c *call) (*reply, error) {
	request, err := requestOf(c)
	if err != nil {
		return nil, err
	}
	body, err := a.port.Ask(ctx, "orders.list", request)
	if err != nil {
		return nil, err
	}
	return paged(c, body, "cursor")
}

// requestOf is the JSON of a request made of the path and the query. What is left
// out there is left out here.
func requestOf(c *call) ([]byte, error) {
	request := map[string]any{}
	if id := c.id(); id != "" {
		request[pathID] = id
	}
	query := c.r.URL.Query()
	for _, p := range c.route.params {
		v := query.Get(p.Name)
		switch {
		case p.In != "query" || v == "":
		case p.Schema.Type == huma.TypeInteger:
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return nil, function.Invalid(p.Name, "must be a whole number")
			}
			request[p.Name] = n
		default:
			request[p.Name] = v
		}
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	return body, nil
}

// paged answers a page with a Link to the next one, if there is one; param is the
// parameter that says where that begins.
func paged(c *call, body []byte, param string) (*reply, error) {
	var page struct {
		Cursor      string      `json:"cursor"`
		NextVersion json.Number `json:"next_version"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	r := &reply{status: http.StatusOK, body: body, header: http.Header{}}
	if value := cmp.Or(page.Cursor, page.NextVersion.String()); value != "" {
		query := c.r.URL.Query()
		query.Set(param, value)
		r.header.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, c.r.URL.EscapedPath(), query.Encode()))
	}
	return r, nil
}
