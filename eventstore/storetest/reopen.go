package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
)

// RunReopen tests what is there after a store went away without being closed.
// open makes an empty store, and answers with it a function that stands for the
// crash: it opens the store again as it would be found if its process had been
// killed now.
func RunReopen(t *testing.T, open func(t *testing.T) (s eventstore.Store, crash func(t *testing.T) eventstore.Store)) {
	before, crash := open(t)
	appends := make([]eventstore.Append, 100)
	answers := make([]eventstore.Appended, len(appends))
	var wg sync.WaitGroup
	for i := range appends {
		appends[i] = To(fmt.Sprintf("a%d", i%7), eventstore.Any, some(1+i%3, one)...)
		wg.Go(func() {
			var err error
			if answers[i], err = before.Append(t.Context(), appends[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := Consistent(t, t.Context(), before, Stream)

	after := crash(t)
	equal(t, Consistent(t, t.Context(), after, Stream), want)
	for i, a := range appends {
		done := must(t, after, a)
		if !done.Duplicate {
			t.Fatalf("the repeat of append %d is not marked", i)
		}
		equal(t, done.Events, answers[i].Events)
	}
	// It goes on where it was.
	version := answers[0].Version()
	for _, e := range want {
		if e.Aggregate == "a0" {
			version = max(version, e.Version)
		}
	}
	if _, err := after.Append(t.Context(), To("a0", eventstore.New, one())); !isConflict(err) {
		t.Fatalf("a new aggregate where there is one: %v", err)
	}
	done := must(t, after, To("a0", eventstore.Exactly(version), one()))
	if head := uint64(len(want)); done.Events[0].Position != head+1 {
		t.Fatalf("position %d after %d", done.Events[0].Position, head)
	}
	count(t, after, len(want)+1)
}
