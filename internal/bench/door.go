package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// door is how requests that change an order come in.
type door interface {
	// ask does what (place, cancel, review) to an order; fields are those of the
	// request's JSON but the id. The code is one of HTTP.
	ask(ctx context.Context, what, id, fields string) (code int, err error)
}

type natsDoor struct{ nc *nats.Conn }

func (d natsDoor) ask(ctx context.Context, what, id, fields string) (int, error) {
	return request(ctx, d.nc, "orders."+what, fmt.Sprintf(`{"order_id":%q,%s}`, id, fields), nil)
}

// request asks an endpoint, and reads its reply if it is good.
func request(ctx context.Context, nc *nats.Conn, subject, body string, reply any) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, []byte(body))
	if err != nil {
		return 0, fmt.Errorf("ask %s: %w", subject, err)
	}
	if text := m.Header.Get(micro.ErrorCodeHeader); text != "" {
		if code, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("ask %s: its error code is %q", subject, text)
		}
		return code, err
	}
	if reply == nil {
		return http.StatusOK, nil
	}
	if err := json.Unmarshal(m.Data, reply); err != nil {
		return 0, fmt.Errorf("read the answer of %s: %w", subject, err)
	}
	return http.StatusOK, nil
}

type httpDoor struct {
	client *http.Client
	orders string // URL
}

// newHTTPDoor finds out whether somebody answers there.
func newHTTPDoor(ctx context.Context, c *ordersCommand) (*httpDoor, error) {
	most := c.Clients
	if c.Rate > 0 {
		most = maxOpen
	}
	d := &httpDoor{
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: most}},
		orders: strings.TrimSuffix(c.URL, "/") + "/api/orders",
	}
	code, err := d.send(ctx, http.MethodGet, d.orders+"?limit=1", "", "")
	if err == nil && code != http.StatusOK {
		err = errors.New(http.StatusText(code))
	}
	if err != nil {
		return nil, fmt.Errorf("--url=%s: no gateway answers there: start it with waybill up or waybill run gateway, or give its address: %w", c.URL, err)
	}
	return d, nil
}

func (d *httpDoor) ask(ctx context.Context, what, id, fields string) (int, error) {
	if what == "place" {
		return d.send(ctx, http.MethodPost, d.orders, id, "{"+fields+"}")
	}
	return d.send(ctx, http.MethodPost, d.orders+"/"+id+"/"+what, "", "{"+fields+"}")
}

func (d *httpDoor) send(ctx context.Context, method, url, key, body string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body) // to its end, so that the connection is used again
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}
