package rpc_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/postgres"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/storetest"
)

// instant answers every append at once and keeps nothing: what is measured in
// front of it is the façade alone.
type instant struct{ position atomic.Uint64 }

func (s *instant) Append(_ context.Context, a eventstore.Append) (eventstore.Appended, error) {
	for i := range a.Events {
		e := &a.Events[i]
		e.Stream, e.Aggregate, e.Version, e.Position = a.Stream, a.Aggregate, uint64(i)+1, s.position.Add(1)
	}
	return eventstore.Appended{Events: a.Events}, nil
}

func (*instant) ReadAggregate(context.Context, eventstore.AggregateRead) iter.Seq2[eventstore.Event, error] {
	return func(func(eventstore.Event, error) bool) {}
}

func (*instant) ReadStream(context.Context, eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	return func(func(eventstore.Event, error) bool) {}
}

func openPostgres(b *testing.B) *postgres.Store {
	s, err := postgres.Open(b.Context(), pgtest.Database(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkAppend appends one event at a time from so many callers: to each
// backend itself, to it through the façade, and to a store that costs nothing
// through the façade.
func BenchmarkAppend(b *testing.B) {
	through := func(b *testing.B, store eventstore.Store) eventstore.Store {
		_, address := serve(b, store, "127.0.0.1:0")
		return client(b, address)
	}
	for _, c := range []struct {
		name string
		open func(b *testing.B) eventstore.Store
	}{
		{"sqlite", func(b *testing.B) eventstore.Store { return backend(b) }},
		{"rpc+sqlite", func(b *testing.B) eventstore.Store { return through(b, backend(b)) }},
		{"postgres", func(b *testing.B) eventstore.Store { return openPostgres(b) }},
		{"rpc+postgres", func(b *testing.B) eventstore.Store { return through(b, openPostgres(b)) }},
		{"rpc", func(b *testing.B) eventstore.Store { return through(b, &instant{}) }},
	} {
		for _, callers := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("%s/callers=%d", c.name, callers), func(b *testing.B) {
				appends(b, c.open(b), callers)
			})
		}
	}
}

func appends(b *testing.B, store eventstore.Store, callers int) {
	data := `{"pad":"` + strings.Repeat("x", 240) + `"}`
	var wg sync.WaitGroup
	var begun atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				e := storetest.Event("happened", data)
				if _, err := store.Append(context.Background(), storetest.To(e.ID, eventstore.New, e)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}
