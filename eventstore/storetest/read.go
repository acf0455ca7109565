package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

func reads(t *testing.T, s eventstore.Store) {
	const n = 1300 // more than a page, of the backend's and of the client's
	var all []eventstore.Event
	for len(all) < n {
		all = append(all, must(t, s, To("a", eventstore.Any, some(100, one)...)).Events...)
		must(t, s, To("b", eventstore.Any, one()))
	}
	for _, c := range []struct {
		read eventstore.AggregateRead
		want []eventstore.Event
	}{
		{eventstore.AggregateRead{}, all},
		{eventstore.AggregateRead{From: 1}, all},
		{eventstore.AggregateRead{From: 777}, all[776:]},
		{eventstore.AggregateRead{From: n}, all[n-1:]},
		{eventstore.AggregateRead{From: n + 1}, nil},
		{eventstore.AggregateRead{Last: 1}, all[n-1:]},
		{eventstore.AggregateRead{Last: 3}, all[n-3:]},
		{eventstore.AggregateRead{Last: 1000}, all[n-1000:]},
		{eventstore.AggregateRead{Aggregate: "b", Last: 1000}, aggregate(t, s, eventstore.AggregateRead{Aggregate: "b"})},
		{eventstore.AggregateRead{Aggregate: "nobody"}, nil},
		{eventstore.AggregateRead{Aggregate: "nobody", Last: 5}, nil},
		{eventstore.AggregateRead{Stream: Other}, nil},
	} {
		if c.read.Aggregate == "" {
			c.read.Aggregate = "a"
		}
		equal(t, aggregate(t, s, c.read), c.want)
	}
	whole := Consistent(t, t.Context(), s, Stream)
	end := uint64(len(whole))
	for _, c := range []struct {
		read eventstore.StreamRead
		want []eventstore.Event
	}{
		{eventstore.StreamRead{From: 1}, whole},
		{eventstore.StreamRead{From: 1000}, whole[999:]},
		{eventstore.StreamRead{Limit: 1}, whole[:1]},
		{eventstore.StreamRead{From: 5, Limit: 600}, whole[4:604]},
		{eventstore.StreamRead{From: end, Limit: 600}, whole[end-1:]},
		{eventstore.StreamRead{From: end + 1}, nil},
		{eventstore.StreamRead{Stream: Other}, nil},
	} {
		equal(t, stream(t, s, c.read), c.want)
	}
}

// greatReads reads more than comes in one piece because of its bytes.
func greatReads(t *testing.T, s eventstore.Store) {
	var all []eventstore.Event
	for range 3 {
		all = append(all, must(t, s, To("a", eventstore.Any, greatest(1)...)).Events...)
	}
	for name, events := range map[string][]eventstore.Event{
		"aggregate": aggregate(t, s, eventstore.AggregateRead{Aggregate: "a"}),
		"last":      aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", Last: 100}),
		"stream":    stream(t, s, eventstore.StreamRead{}),
	} {
		if !slices.EqualFunc(events, all, same) {
			t.Errorf("%s: %d events, want the %d that were appended", name, len(events), len(all))
		}
	}
	last := aggregate(t, s, eventstore.AggregateRead{Aggregate: "a", Last: 7})
	if !slices.EqualFunc(last, all[len(all)-7:], same) {
		t.Errorf("last 7: %d events, or others", len(last))
	}
	// A repeat of a great append answers with all of it.
	again := slices.Clone(all[:6])
	if done := must(t, s, To("a", eventstore.New, again...)); !done.Duplicate || !slices.EqualFunc(done.Events, all[:6], same) {
		t.Errorf("repeat: %d events, duplicate %v", len(done.Events), done.Duplicate)
	}
}

func leftReads(t *testing.T, s eventstore.Store) {
	for range 3 {
		must(t, s, To("a", eventstore.Any, some(100, one)...))
	}
	for i := range 50 { // more often than there are connections to leak
		left := 0
		for _, err := range s.ReadStream(t.Context(), eventstore.StreamRead{Stream: Stream}) {
			if err != nil {
				t.Fatal(err)
			}
			if left++; left > 5*i {
				break
			}
		}
		for _, err := range s.ReadAggregate(t.Context(), eventstore.AggregateRead{Stream: Stream, Aggregate: "a", Last: 1 + i}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	// While a reader thinks, others read and write.
	for e, err := range s.ReadStream(t.Context(), eventstore.StreamRead{Stream: Stream, Limit: 20}) {
		if err != nil {
			t.Fatal(err)
		}
		must(t, s, To("b", eventstore.Any, one()))
		if got := stream(t, s, eventstore.StreamRead{From: e.Position, Limit: 1}); len(got) != 1 || got[0].ID != e.ID {
			t.Fatalf("read of position %d: %+v", e.Position, got)
		}
	}
	// A read may be made twice.
	twice := s.ReadStream(t.Context(), eventstore.StreamRead{Stream: Stream, From: 7, Limit: 100})
	first, err := eventstore.Collect(twice)
	if err != nil {
		t.Fatal(err)
	}
	second, err := eventstore.Collect(twice)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, second, first)
}

func contextsEnded(t *testing.T, s eventstore.Store) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Append(ended, To("a", eventstore.New, one())); !errors.Is(err, context.Canceled) {
		t.Fatalf("append: %v", err)
	}
	if _, err := eventstore.Collect(s.ReadStream(ended, eventstore.StreamRead{Stream: Stream})); !errors.Is(err, context.Canceled) {
		t.Fatalf("read of a stream: %v", err)
	}
	for _, last := range []int{0, 3} {
		r := eventstore.AggregateRead{Stream: Stream, Aggregate: "a", Last: last}
		if _, err := eventstore.Collect(s.ReadAggregate(ended, r)); !errors.Is(err, context.Canceled) {
			t.Fatalf("read %+v: %v", r, err)
		}
	}
	count(t, s, 0) // nothing of a caller that was gone before

	// A reader whose context ends on the way is told, and not given a short log.
	for range 20 {
		must(t, s, To("a", eventstore.Any, some(100, one)...))
	}
	reading, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n := 0
	for _, err := range s.ReadStream(reading, eventstore.StreamRead{Stream: Stream}) {
		cancel()
		last = err
		n++
	}
	if !errors.Is(last, context.Canceled) {
		t.Fatalf("after %d of 2000 events: %v", n, last)
	}
}

// contextsEnd has callers leave while they wait. They leave nothing half done,
// and hold up nobody; and whoever asks again learns what became of his append.
func contextsEnd(t *testing.T, s eventstore.Store) {
	const callers = 64
	appends := make([]eventstore.Append, callers)
	stored := make([]bool, callers)
	var wg sync.WaitGroup
	for i := range callers {
		appends[i] = To(fmt.Sprintf("c%d", i%4), eventstore.Any, one(), one())
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
			defer cancel()
			_, err := s.Append(ctx, appends[i])
			stored[i] = err == nil
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, a := range appends {
		if done := must(t, s, a); stored[i] && !done.Duplicate {
			t.Fatalf("append %d was answered, and is not there", i)
		}
	}
	count(t, s, 2*callers)
}
