package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// The store that is not empty.
const (
	manyAggregates = 100_000
	eventsOfEach   = 10
)

// BenchmarkSize appends to, and reads from, an empty store and one of a million
// events in turn, and reports the medians of both. open makes an empty one.
func BenchmarkSize(b *testing.B, open func(testing.TB) eventstore.Backend) {
	stores := map[string]eventstore.Backend{"empty": open(b), "full": open(b)}
	fill(b, stores["full"], manyAggregates)
	fill(b, stores["empty"], 1) // what is read
	took := map[string][]time.Duration{}
	timed := func(what string, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took[what] = append(took[what], time.Since(began))
	}
	n := 0
	for b.Loop() {
		n++
		for name, s := range stores {
			aggregate := 0
			if name == "full" {
				aggregate = n * 7919 % manyAggregates
			}
			timed(name+"-append", func() error {
				_, err := s.Append(b.Context(), To(fmt.Sprintf("new%d", n), eventstore.New, Event("happened", pad)))
				return err
			})
			timed(name+"-read", func() error {
				events, err := eventstore.Collect(s.ReadAggregate(b.Context(), eventstore.AggregateRead{Stream: Stream, Aggregate: fmt.Sprintf("a%d", aggregate)}))
				if err == nil && len(events) != eventsOfEach {
					err = fmt.Errorf("read %d events", len(events))
				}
				return err
			})
		}
	}
	for what, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), what+"-p50-µs")
	}
}

var pad = `{"pad":"` + strings.Repeat("x", 118) + `"}`

// fill stores events of so many aggregates, in turn.
func fill(b *testing.B, s eventstore.Backend, aggregates int) {
	b.Helper()
	at := time.Now().UTC().Truncate(time.Microsecond)
	batch := make([]eventstore.Event, 0, eventstore.MaxRestoreEvents)
	for i := range aggregates * eventsOfEach {
		e := Event("happened", pad)
		e.Stream, e.Aggregate, e.Position, e.Version = Stream, fmt.Sprintf("a%d", i%aggregates), uint64(i)+1, uint64(i/aggregates)+1
		e.Time, e.Schema = at, 1
		if batch = append(batch, e); len(batch) == cap(batch) || i == aggregates*eventsOfEach-1 {
			if err := s.Restore(b.Context(), Stream, batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
}
