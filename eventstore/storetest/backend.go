package storetest

import (
	"encoding/json"
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
)

// RunBackend runs what a backend promises beyond eventstore.Store.
func RunBackend(t *testing.T, open func(t *testing.T) eventstore.Backend) {
	t.Run("head and streams", func(t *testing.T) {
		s := open(t)
		if head, err := s.Head(t.Context(), Stream); err != nil || head != 0 {
			t.Fatalf("head of nothing: %d, %v", head, err)
		}
		must(t, s, To("a", eventstore.New, one(), one()))
		must(t, s, eventstore.Append{Stream: Other, Aggregate: "a", Events: []eventstore.Event{one()}})
		if head, err := s.Head(t.Context(), Stream); err != nil || head != 2 {
			t.Fatalf("head: %d, %v", head, err)
		}
		if streams, err := s.Streams(t.Context()); err != nil || !reflect.DeepEqual(streams, []string{Other, Stream}) {
			t.Fatalf("streams: %v, %v", streams, err)
		}
	})
	t.Run("commits are told in order", func(t *testing.T) {
		s := open(t)
		var mu sync.Mutex
		var told []eventstore.Event
		s.OnCommit(func(_ string, events []eventstore.Event) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, events...)
		})
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				done, err := s.Append(t.Context(), To("a", eventstore.Any, one(), one()))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if last := done.Events[1].Position; uint64(len(told)) < last {
					t.Errorf("position %d was answered before it was told", last)
				}
			})
		}
		wg.Wait()
		equal(t, told, Consistent(t, t.Context(), s, Stream))
	})
	t.Run("durables are replaced", func(t *testing.T) {
		s := open(t)
		for _, want := range [][]eventstore.Durable{
			{{Name: "payment", Config: json.RawMessage(`{"a":1}`), Floor: 7}, {Name: "review", Config: json.RawMessage(`{}`), Floor: 3}},
			{{Name: "payment", Config: json.RawMessage(`{"a":2}`), Floor: 9}},
			nil,
		} {
			if err := s.SaveDurables(t.Context(), Stream, want); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Durables(t.Context(), Stream); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("durables: %+v, %v; want %+v", got, err, want)
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		s := open(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), To("a", eventstore.New, one())); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatalf("append: %v", err)
		}
		if _, err := s.Head(t.Context(), Stream); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatalf("head: %v", err)
		}
	})
}
