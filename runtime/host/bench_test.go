package host_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/function"
)

type nothing struct{}

// BenchmarkEndpoint is a request that asks for nothing: raw micro beside a
// function, so that the two can be compared.
func BenchmarkEndpoint(b *testing.B) {
	w := newWorld(b)
	service, err := micro.AddService(w.server.Connect(), micro.Config{Name: "raw", Version: "1.0.0"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = service.Stop() })
	answer := micro.HandlerFunc(func(r micro.Request) { _ = r.Respond([]byte(`{}`)) })
	if err := service.AddEndpoint("do", answer, micro.WithEndpointSubject("raw.do")); err != nil {
		b.Fatal(err)
	}
	w.start(function.Function{Name: "ours", Doors: []function.Door{
		function.Endpoint("ours.do", func(context.Context, nothing) (nothing, error) { return nothing{}, nil }),
	}})
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var raw, ours time.Duration
			const turns = 5
			for range turns {
				raw += w.askMany(b.N, clients, "raw.do")
				ours += w.askMany(b.N, clients, "ours.do")
			}
			rate := func(took time.Duration) float64 { return float64(turns*b.N) / took.Seconds() }
			b.ReportMetric(rate(raw), "raw-requests/s")
			b.ReportMetric(rate(ours), "requests/s")
			b.ReportMetric(rate(ours)/rate(raw), "of-raw")
		})
	}
}

// askMany has so many clients, each on a connection of its own, make n requests.
func (w *world) askMany(n, clients int, subject string) time.Duration {
	w.t.Helper()
	connections := make([]*nats.Conn, clients)
	for i := range connections {
		nc, err := nats.Connect(w.server.URL())
		if err != nil {
			w.t.Fatal(err)
		}
		defer nc.Close()
		connections[i] = nc
	}
	var left atomic.Int64
	left.Store(int64(n))
	began := time.Now()
	var wg sync.WaitGroup
	for _, nc := range connections {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if m, err := nc.Request(subject, []byte(`{}`), 10*time.Second); err != nil || m.Header != nil {
					w.t.Errorf("%v %v", err, m)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// events are what a benchmark of consumers has to handle.
const events = 50_000

// fill appends the first event of so many counters, many at once.
func (w *world) fill(prefix string, n int) {
	w.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				id := fmt.Sprintf("%s%d", prefix, i)
				_, err := w.store.Append(w.t.Context(), eventstore.Append{
					Stream: "COUNTERS", Aggregate: id, Expected: eventstore.New,
					Events: []eventstore.Event{storetest.Event("opened", fmt.Sprintf(`{"ID":%q}`, id))},
				})
				if err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// stream waits until so many events are in JetStream.
func (w *world) stream(n int) jetstream.Stream {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	var stream jetstream.Stream
	w.eventually("relay all", func() error {
		if stream, err = js.Stream(w.t.Context(), "COUNTERS"); err == nil && stream.CachedInfo().State.Msgs < uint64(n) {
			return fmt.Errorf("%d of %d", stream.CachedInfo().State.Msgs, n)
		}
		return err
	})
	return stream
}

// BenchmarkConsumer handles a backlog, in turns: raw Consume beside a function
// that does nothing but decode. One round is all of it: -benchtime 5x.
func BenchmarkConsumer(b *testing.B) {
	w := newWorld(b)
	w.fill("f", events)
	stream := w.stream(events)
	var raw, ours time.Duration
	for round := 0; b.Loop(); round++ {
		raw += w.consumeRaw(stream, fmt.Sprintf("raw%d", round))
		ours += w.consume(fmt.Sprintf("ours%d", round))
	}
	rate := func(took time.Duration) float64 { return float64(b.N*events) / took.Seconds() }
	b.ReportMetric(rate(raw), "raw-events/s")
	b.ReportMetric(rate(ours), "events/s")
	b.ReportMetric(rate(ours)/rate(raw), "of-raw")
}

// consumeRaw has raw Consume acknowledge all events.
func (w *world) consumeRaw(stream jetstream.Stream, name string) time.Duration {
	w.t.Helper()
	began := time.Now()
	c, err := stream.CreateConsumer(w.t.Context(), jetstream.ConsumerConfig{
		Durable: name, FilterSubject: "COUNTERS.opened", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1280,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var n atomic.Int64
	done := make(chan struct{})
	consuming, err := c.Consume(func(m jetstream.Msg) {
		_ = m.Ack()
		if n.Add(1) == events {
			close(done)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	<-done
	took := time.Since(began)
	consuming.Stop()
	return took
}

// consume has a function handle all events.
func (w *world) consume(name string) time.Duration {
	w.t.Helper()
	var n atomic.Int64
	done := make(chan struct{})
	began := time.Now()
	h := w.start(step(name, func(context.Context, counter, opened) ([]event, error) {
		if n.Add(1) == events {
			close(done)
		}
		return nil, nil
	}))
	<-done
	took := time.Since(began)
	w.stop(h)
	return took
}

// BenchmarkReplicas handles a backlog in processes of their own, each event for
// 5 ms: one process beside two.
func BenchmarkReplicas(b *testing.B) {
	w := newWorld(b)
	w.fill("f", events)
	stream := w.stream(events)
	address := w.serve()
	round := 0
	for _, replicas := range []int{1, 2} {
		b.Run(fmt.Sprintf("processes=%d", replicas), func(b *testing.B) {
			handled := uint64(0)
			for b.Loop() {
				b.StopTimer()
				round++
				name := fmt.Sprintf("busy%d", round)
				ctx, cancel := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				for range replicas {
					wg.Go(func() { _ = w.child(ctx, address, childBusy+"="+name) }) // it is killed in the end
				}
				pending := func() uint64 {
					c, err := stream.Consumer(b.Context(), name)
					if err != nil {
						return events
					}
					return c.CachedInfo().NumPending
				}
				// From when they are at it until they are nearly through.
				for pending() > events*9/10 {
					time.Sleep(10 * time.Millisecond)
				}
				from := pending()
				b.StartTimer()
				for pending() > events/10 {
					time.Sleep(10 * time.Millisecond)
				}
				b.StopTimer()
				handled += from - pending()
				cancel()
				wg.Wait()
				b.StartTimer()
			}
			b.ReportMetric(float64(handled)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// child runs this binary as a process of a function, until ctx ends.
func (w *world) child(ctx context.Context, store string, env ...string) error {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), childNATS+"="+w.server.URL(), childStore+"="+store), env...)
	in, err := cmd.StdinPipe() // it ends with this process
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	return cmd.Run()
}
