package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
)

// RunBackend runs what a backend promises beyond eventstore.Store.
func RunBackend(t *testing.T, open func(t *testing.T) eventstore.Backend) {
	for _, c := range []struct {
		name string
		test func(*testing.T, eventstore.Backend)
	}{
		{"head and streams", headAndStreams},
		{"commits are told in order", toldInOrder},
		{"durables are replaced", durables},
		{"durables are saved while appends run", durablesAside},
		{"close finishes what is queued", closeFinishes},
		{"a restore comes back as it was", restored},
		{"a restore of another shape is refused", restoreRefusals},
		{"as much as is allowed is restored", restoreBoundaries},
		{"commits and restores are told in order", restoreTold},
		{"a restore whose context ended before", restoreEnded},
		{"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func headAndStreams(t *testing.T, s eventstore.Backend) {
	check := func(stream string, want uint64, streams ...string) {
		t.Helper()
		if head, err := s.Head(t.Context(), stream); err != nil || head != want {
			t.Fatalf("head of %s: %d, %v; want %d", stream, head, err, want)
		}
		if got, err := s.Streams(t.Context()); err != nil || !slices.Equal(got, streams) {
			t.Fatalf("streams: %v, %v; want %v", got, err, streams)
		}
	}
	check(Stream, 0)
	must(t, s, To("a", eventstore.New, one(), one()))
	check(Stream, 2, Stream)
	check(Other, 0, Stream)
	must(t, s, eventstore.Append{Stream: Other, Aggregate: "a", Events: []eventstore.Event{one()}})
	check(Other, 1, Other, Stream)
	if _, err := s.Append(t.Context(), To("a", eventstore.New, one())); !isConflict(err) {
		t.Fatal(err)
	}
	check(Stream, 2, Other, Stream)
}

// toldInOrder appends to two streams at once, with repeats and conflicts
// between: what is told of a stream is the stream.
func toldInOrder(t *testing.T, s eventstore.Backend) {
	var mu sync.Mutex
	told := map[string][]eventstore.Event{}
	s.OnCommit(func(stream string, events []eventstore.Event) {
		mu.Lock()
		defer mu.Unlock()
		told[stream] = append(told[stream], events...)
	})
	var second atomic.Int64
	s.OnCommit(func(_ string, events []eventstore.Event) { second.Add(int64(len(events))) })
	var wg sync.WaitGroup
	for i := range 80 {
		a := To(fmt.Sprintf("a%d", i%9), eventstore.Any, one(), one())
		if i%2 == 1 {
			a.Stream = Other
		}
		wg.Go(func() {
			for range 2 { // the second time it is a repeat
				done, err := s.Append(t.Context(), a)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				n := uint64(len(told[a.Stream]))
				mu.Unlock()
				if last := done.Events[1].Position; n < last {
					t.Errorf("position %d was answered before it was told", last)
				}
			}
			if _, err := s.Append(t.Context(), changed(func(c *eventstore.Append) { c.Aggregate, c.Expected = a.Aggregate, 1000 })); !isConflict(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, stream := range []string{Stream, Other} {
		equal(t, told[stream], Consistent(t, t.Context(), s, stream))
	}
	if n := second.Load(); n != 160 {
		t.Errorf("the second to register was told of %d events, want 160", n)
	}
}

func durables(t *testing.T, s eventstore.Backend) {
	other := []eventstore.Durable{{Name: "payment", Config: json.RawMessage(`{"other":true}`), Floor: 1}}
	if err := s.SaveDurables(t.Context(), Other, other); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]eventstore.Durable{
		{
			{Name: "payment", Config: json.RawMessage(`{"a": 1, "ü":"\u0000"}`), Floor: 7},
			{Name: "review", Config: json.RawMessage(`{}`), Floor: eventstore.MaxPosition},
		},
		{{Name: "payment", Config: json.RawMessage(`{"a":2}`), Floor: 9}},
		nil,
		{{Name: "saga", Config: json.RawMessage(`{}`)}},
	} {
		backwards := slices.Clone(want)
		slices.Reverse(backwards)
		if err := s.SaveDurables(t.Context(), Stream, backwards); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Durables(t.Context(), Stream); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("durables: %+v, %v; want %+v", got, err, want)
		}
	}
	if got, err := s.Durables(t.Context(), Other); err != nil || !reflect.DeepEqual(got, other) {
		t.Fatalf("durables of another stream: %+v, %v; want %+v", got, err, other)
	}
	// One that can't be saved leaves what was there.
	twice := slices.Repeat(other, 2)
	if err := s.SaveDurables(t.Context(), Other, twice); err == nil {
		t.Fatal("a name was saved twice")
	}
	if got, err := s.Durables(t.Context(), Other); err != nil || !reflect.DeepEqual(got, other) {
		t.Fatalf("durables after a failure: %+v, %v; want %+v", got, err, other)
	}
	must(t, s, To("a", eventstore.New, one()))
}

func durablesAside(t *testing.T, s eventstore.Backend) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := s.Append(t.Context(), To(fmt.Sprintf("a%d", i), eventstore.Any, one())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range uint64(10) {
		if err := s.SaveDurables(t.Context(), Stream, []eventstore.Durable{{Name: "d", Config: json.RawMessage(`{}`), Floor: i}}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	count(t, s, 80)
}

// closeFinishes closes while appends wait: each is stored and answered so, or
// refused.
func closeFinishes(t *testing.T, s eventstore.Backend) {
	var mu sync.Mutex
	var told int
	first := make(chan struct{})
	s.OnCommit(func(_ string, events []eventstore.Event) {
		mu.Lock()
		defer mu.Unlock()
		if told == 0 {
			close(first)
		}
		told += len(events)
	})
	var wg sync.WaitGroup
	stored := 0
	for i := range 64 {
		wg.Go(func() {
			for {
				_, err := s.Append(t.Context(), To(fmt.Sprintf("a%d", i), eventstore.Any, one()))
				if err != nil {
					if !errors.Is(err, eventstore.ErrUnavailable) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				stored++
				mu.Unlock()
			}
		})
	}
	<-first
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if stored != told {
		t.Errorf("%d appends were answered, %d committed", stored, told)
	}
}

func closed(t *testing.T, s eventstore.Backend) {
	must(t, s, To("a", eventstore.New, one()))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, appendErr := s.Append(t.Context(), To("a", eventstore.New, one()))
	_, headErr := s.Head(t.Context(), Stream)
	_, streamsErr := s.Streams(t.Context())
	_, readErr := eventstore.Collect(s.ReadStream(t.Context(), eventstore.StreamRead{Stream: Stream}))
	_, durablesErr := s.Durables(t.Context(), Stream)
	saveErr := s.SaveDurables(t.Context(), Stream, nil)
	restoreErr := s.Restore(t.Context(), Other, history(Other, 1))
	moreErr := s.Restore(t.Context(), Stream, history(Stream, 2)[1:])
	for name, err := range map[string]error{
		"append": appendErr, "head": headErr, "streams": streamsErr, "read": readErr, "durables": durablesErr, "save": saveErr,
		"restore": restoreErr, "restore more": moreErr,
	} {
		if !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
