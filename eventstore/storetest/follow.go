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

func readsByType(t *testing.T, s eventstore.Store) {
	for i := range 300 {
		must(t, s, To(fmt.Sprint("a", i%7), eventstore.Any, Event("even", "1"), Event("odd", "2"), Event("rare", "3")))
	}
	all := Consistent(t, t.Context(), s, Stream)
	only := func(from, limit int, types ...string) (want []eventstore.Event) {
		for _, e := range all[from-1:] {
			if slices.Contains(types, e.Type) && (limit == 0 || len(want) < limit) {
				want = append(want, e)
			}
		}
		return want
	}
	for _, r := range []eventstore.StreamRead{
		{From: 1, Types: []string{"odd"}},
		{From: 500, Types: []string{"rare", "even"}},
		{From: 2, Limit: 70, Types: []string{"even"}},
		{From: 1, Types: []string{"never"}},
	} {
		equal(t, stream(t, s, r), only(int(r.From), r.Limit, r.Types...))
	}
	r := eventstore.StreamRead{Stream: Stream, Types: []string{"odd", "Odd"}}
	if _, err := eventstore.Collect(s.ReadStream(t.Context(), r)); !isInvalid(err, "types[1]") {
		t.Errorf("a type that can be none: %v", err)
	}
}

// follows has readers follow while events come: one from the start, one from
// the middle, one by type, one that is slow, and one that wants few. Each gets
// everything, once and in order; then the context ends them.
func follows(t *testing.T, s eventstore.Store) {
	const n = 1500
	add := func(k int) {
		for i := range k / 3 {
			must(t, s, To(fmt.Sprint("a", i%5), eventstore.Any, Event("even", "1"), Event("odd", "2"), Event("rare", "3")))
		}
	}
	add(n / 2)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var wg sync.WaitGroup
	for name, c := range map[string]struct {
		read  eventstore.StreamRead
		pause time.Duration
		want  int
	}{
		"from the start":  {eventstore.StreamRead{}, 0, n},
		"from the middle": {eventstore.StreamRead{From: 700}, 0, n - 699},
		"from later":      {eventstore.StreamRead{From: n - 9}, 0, 10},
		"by type":         {eventstore.StreamRead{Types: []string{"rare"}}, 0, n / 3},
		"slowly":          {eventstore.StreamRead{}, 100 * time.Microsecond, n},
		"a few":           {eventstore.StreamRead{From: n - 20, Limit: 3}, 0, 3},
	} {
		c.read.Stream, c.read.Follow = Stream, true
		wg.Go(func() {
			reading, enough := context.WithCancel(ctx)
			defer enough()
			got, position := 0, max(c.read.From, 1)-1
			var ended error
			for e, err := range s.ReadStream(reading, c.read) {
				if err != nil {
					ended = err
					break
				}
				if e.Position <= position || len(c.read.Types) == 0 && e.Position != position+1 {
					t.Errorf("%s: position %d after %d", name, e.Position, position)
					return
				}
				position = e.Position
				time.Sleep(c.pause) // this reader is slow
				if got++; got == c.want {
					enough()
				}
			}
			if got != c.want || (c.read.Limit == 0) != errors.Is(ended, context.Canceled) {
				t.Errorf("%s: %d events, want %d; ended with %v", name, got, c.want, ended)
			}
		})
	}
	add(n - n/2)
	wg.Wait()
}
