//go:build unix

package host_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/function"
)

// BenchmarkRefusal has an endpoint refuse that has no place left: raw micro beside
// it, which refuses in its handler.
func BenchmarkRefusal(b *testing.B) {
	w := newWorld(b)
	service, err := micro.AddService(w.server.Connect(), micro.Config{Name: "raw", Version: "1.0.0"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = service.Stop() })
	answer := micro.HandlerFunc(func(r micro.Request) { _ = r.Error("429", "too many requests", nil) })
	if err := service.AddEndpoint("do", answer, micro.WithEndpointSubject("raw.do")); err != nil {
		b.Fatal(err)
	}
	release := make(chan struct{})
	defer close(release)
	w.start(function.Function{Name: "ours", Concurrency: 1, Doors: []function.Door{
		function.Endpoint("ours.do", func(context.Context, nothing) (nothing, error) { <-release; return nothing{}, nil }),
	}})
	for range 2 {
		if err := w.nc.PublishRequest("ours.do", nats.NewInbox(), []byte(`{}`)); err != nil {
			b.Fatal(err)
		}
	}
	w.eventually("fill all places", func() error {
		if m := w.request("ours.do", `{}`); m.Header.Get(micro.ErrorCodeHeader) != "429" {
			return errors.New("it is not refused")
		}
		return nil
	})
	var raw, ours time.Duration
	for range 3 {
		raw += w.processor(b.N, "raw.do", `{}`)
		ours += w.processor(b.N, "ours.do", `{}`)
	}
	b.ReportMetric(float64(raw.Nanoseconds())/float64(3*b.N), "raw-cpu-ns/op")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(3*b.N), "cpu-ns/op")
}

// processor makes n requests, some under way at once, and answers what processor
// time all of it took.
func (w *world) processor(n int, subject, body string) time.Duration {
	w.t.Helper()
	nc := w.server.Connect()
	defer nc.Close()
	under := make(chan struct{}, 64)
	sub, err := nc.Subscribe("answers", func(*nats.Msg) { <-under })
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	before := cpuTime(w.t)
	for range n {
		under <- struct{}{}
		if err := nc.PublishRequest(subject, "answers", []byte(body)); err != nil {
			w.t.Fatal(err)
		}
	}
	for range cap(under) {
		under <- struct{}{}
	}
	return cpuTime(w.t) - before
}

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// parcel is a request like one that places an order; free is the same, of which
// the schema says no more than the types do.
type (
	parcel struct {
		Customer string  `json:"customer" required:"true"`
		Note     *string `json:"note"`
		Lines    []line  `json:"lines" required:"true"`
	}
	line struct {
		Code     string `json:"code" required:"true"`
		Quantity *int64 `json:"quantity" required:"true"`
	}
	free struct {
		Customer string  `json:"customer"`
		Note     *string `json:"note"`
		Lines    []struct {
			Code     string `json:"code"`
			Quantity *int64 `json:"quantity"`
		} `json:"lines"`
	}
)

// BenchmarkSchema is what the check of a request against its schema costs an
// endpoint that does nothing: usually, and where a null has it look closely.
func BenchmarkSchema(b *testing.B) {
	w := newWorld(b)
	w.start(function.Function{Name: "checks", Doors: []function.Door{
		function.Endpoint("checks.parcel", func(context.Context, parcel) (nothing, error) { return nothing{}, nil }),
		function.Endpoint("checks.free", func(context.Context, free) (nothing, error) { return nothing{}, nil }),
	}})
	const (
		usual = `{"customer":"c1","lines":[{"code":"vm","quantity":2}]}`
		null  = `{"customer":"c1","note":null,"lines":[{"code":"vm","quantity":2}]}`
	)
	for name, body := range map[string]string{"usual": usual, "null": null} {
		b.Run(name, func(b *testing.B) {
			var checked, unchecked time.Duration
			for range 5 {
				unchecked += w.processor(b.N, "checks.free", usual)
				checked += w.processor(b.N, "checks.parcel", body)
			}
			b.ReportMetric(float64(checked.Nanoseconds())/float64(5*b.N), "cpu-ns/op")
			b.ReportMetric(checked.Seconds()/unchecked.Seconds(), "of-unchecked")
		})
	}
}
