package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
)

// TestFates has one message of each kind of end among good ones.
func TestFates(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	tries := map[string]int{}
	away := true
	w.start(function.Function{
		Name: "fates", Attempts: 3, Backoff: 5 * time.Millisecond, Deadline: 300 * time.Millisecond,
		Doors: []function.Door{function.On(func(ctx context.Context, c counter, e opened) ([]event, error) {
			mu.Lock()
			tries[c.ID]++
			try := tries[c.ID]
			mu.Unlock()
			switch c.ID {
			case "c1":
				return nil, function.Reject("never")
			case "c2":
				panic("always")
			case "c3":
				return nil, errors.New("always")
			case "c4":
				if try < 3 {
					return nil, errors.New("twice")
				}
			case "c5":
				<-ctx.Done() // hangs
				return nil, ctx.Err()
			case "c6":
				if mu.Lock(); away && try < 9 { // more often than there are attempts
					mu.Unlock()
					return nil, function.ErrUnavailable
				}
				mu.Unlock()
			}
			return countOnce(ctx, c, e)
		})},
	})
	w.append(20)
	w.eventually("end all", func() error {
		if counted, buried := w.count("COUNTERS", "counted"), w.count(deadletter.Stream, deadletter.TypeBuried); counted != 16 || buried != 4 {
			return fmt.Errorf("%d counted, %d buried", counted, buried)
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	for id, want := range map[string]int{"c0": 1, "c1": 1, "c2": 3, "c3": 3, "c4": 3, "c5": 3, "c6": 9} {
		if id == "c1" {
			want = 2 // a refusal on a state that may be old is looked at again
			if tries[id] > want {
				t.Errorf("%s was tried %d times", id, tries[id])
			}
			continue
		}
		if tries[id] != want {
			t.Errorf("%s was tried %d times, want %d", id, tries[id], want)
		}
	}
	reasons := map[string]string{}
	for e, err := range w.store.ReadStream(t.Context(), eventstore.StreamRead{Stream: deadletter.Stream}) {
		if err != nil {
			t.Fatal(err)
		}
		var l deadletter.Letter
		if err := json.Unmarshal(e.Data, &l); err != nil {
			t.Fatal(err)
		}
		reasons[l.CorrelationID+l.Reason] = l.Error
		if l.Function != "fates" || l.Subject != "COUNTERS.opened" || len(l.Data) == 0 || len(l.Header) == 0 || l.EventID == "" {
			t.Errorf("letter %+v is not whole", l)
		}
	}
}
