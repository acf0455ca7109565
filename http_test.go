package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/waybill-go/waybill/runtime/discovery"
)

// httpClient is a caller of a gateway.
type httpClient struct {
	t       *testing.T
	address string
}

// the article's, with curl's own idea of what it sends
const ordered = `{"customer_id":"shijuvar","restaurant_id":"cgh","order_items":[{"code":"vm","name":"Veg Meals","unit_price":200,"quantity":2}]}`

func (c httpClient) post(key string) (status int, body string, err error) {
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://"+c.address+"/api/orders", strings.NewReader(ordered))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), errors.Join(err, resp.Body.Close())
}

// place places an order, asking again until it is accepted.
func (c httpClient) place(id string) {
	c.t.Helper()
	eventually(c.t, "place "+id+" over HTTP", func() error {
		status, body, err := c.post(id)
		if err == nil && status != http.StatusCreated {
			err = fmt.Errorf("%d: %s", status, body)
		}
		return err
	})
}

// deliver has an order delivered, as soon as it is shipped.
func (c httpClient) deliver(id string) {
	c.t.Helper()
	eventually(c.t, "deliver "+id+" over HTTP", func() error {
		resp, err := http.Post("http://"+c.address+"/api/orders/"+id+"/deliver", "", http.NoBody)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	})
}

// watch is told of everything that happened to an order until it was delivered.
func (c httpClient) watch(id string) {
	c.t.Helper()
	resp, err := http.Get("http://" + c.address + "/api/orders/" + id + "/watch")
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	told, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%d, %v: %s", resp.StatusCode, err, told)
	}
	for _, typ := range []string{"created", "paymentdebited", "approved", "shipped", "delivered", "end"} {
		if strings.Count(string(told), "event: "+typ+"\n") != 1 {
			c.t.Errorf("not told of %s once: %s", typ, told)
		}
	}
}

// TestHTTP places orders over HTTP, all of them while the whole program is told to
// stop: each is answered as ever, or finds nobody.
func TestHTTP(t *testing.T) {
	s := newSystem(t)
	up := s.start("up").ready()
	c := httpClient{t, s.http}
	c.place("o1")
	c.deliver("o1")
	c.watch("o1")
	found, err := discovery.Find(t.Context(), s.connect(), "gateway")
	if err != nil || len(found) != 1 || found[0].Endpoints[0].Subject != "POST /api/orders" || found[0].Stats[0].NumRequests == 0 {
		t.Errorf("nats micro shows %+v, %v", found, err)
	}
	var doc struct{ OpenAPI string }
	resp, err := http.Get("http://" + s.http + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&doc), resp.Body.Close()); err != nil || doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi.json: %+v, %v", doc, err)
	}
	var wg sync.WaitGroup
	stopping := make(chan struct{})
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				status, body, err := c.post(fmt.Sprintf("o%d-%d", w, i))
				switch {
				case err != nil:
					return // it is gone
				case status != http.StatusCreated:
					t.Errorf("%d: %s", status, body)
					return
				case w == 0 && i == 20:
					close(stopping)
				}
			}
		})
	}
	<-stopping
	if err := up.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if code := up.ended(); code != 0 {
		t.Fatalf("ended with %d: %s", code, up.out.String())
	}
}
