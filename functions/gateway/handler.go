package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waybill-go/waybill/runtime/function"
)

// handler is everything that is served.
func (a *api) handler() (http.Handler, error) {
	routes := a.routes()
	document, err := describe(routes)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+documentPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document) // the caller is gone, or reads it
	})
	for _, rt := range routes {
		mux.Handle(rt.method+" "+rt.path, rt.handler(a.port.Operation(rt.name, rt.method+" "+rt.path)))
	}
	return front(mux), nil
}

// front refuses what has no route, and what a page of another site has a browser
// send.
func front(mux *http.ServeMux) http.Handler {
	sites := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := sites.Check(r); err != nil {
			(&refused{http.StatusForbidden, "a page of another site sent this: " + err.Error()}).write(w)
			return
		}
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// The mux says it in plain text.
		said := &discarded{header: http.Header{}}
		h.ServeHTTP(said, r)
		if allow := said.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
		}
		(&refused{cmp.Or(said.status, http.StatusNotFound), fmt.Sprintf("there is no %s %.200s; what there is says %s", r.Method, r.URL.Path, documentPath)}).write(w)
	})
}

// discarded is an answer that nobody is to see.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) WriteHeader(status int)      { d.status = status }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }

// handler answers the route's requests.
func (rt *route) handler(operation function.Operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{route: rt, r: r}
		if err := rt.take(w, c); err != nil {
			if no, ok := errors.AsType[*refused](err); ok {
				no.write(w)
				return
			}
			rt.refuse(w, function.RefusalOf(err, false))
			return
		}
		ctx := function.WithCause(r.Context(), function.Cause{
			ID: c.key, Traceparent: r.Header.Get("Traceparent"), Time: time.Now(),
		})
		var out *reply
		no := operation(ctx, func(ctx context.Context) (err error) {
			out, err = rt.handle(ctx, c)
			return err
		})
		if no != nil {
			rt.refuse(w, no)
			return
		}
		out.write(w)
	})
}

// take reads the request as far as HTTP has a say in it.
func (rt *route) take(w http.ResponseWriter, c *call) (err error) {
	for name, values := range c.r.URL.Query() {
		known := slices.ContainsFunc(rt.params, func(p *huma.Param) bool { return p.In == "query" && p.Name == name })
		switch {
		case !known:
			return function.Invalid(queryPrefix+name, "is not a parameter of this request")
		case len(values) > 1:
			return function.Invalid(name, "is there twice")
		}
	}
	if key := c.r.Header.Get(keyHeader); key != "" && rt.method == http.MethodPost {
		if c.key, err = idOf(key); err != nil {
			return err
		}
	}
	if c.body, err = readBody(w, c.r); err != nil || len(c.body) == 0 {
		return err
	}
	return checkType(c.r.Header.Get("Content-Type"))
}
