package host

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestKeyed: so many at once, never two of a key, those of a key in order, and no
// more than the limit.
func TestKeyed(t *testing.T) {
	const concurrency, keys, each = 4, 10, 50
	k := newKeyed(concurrency, keys*each)
	var running, most atomic.Int32
	var all sync.WaitGroup
	begin := make(chan struct{})
	next := make([]int, keys) // each is touched by its own key's jobs alone
	busy := make([]atomic.Bool, keys)
	for i := range each {
		for key := range keys {
			all.Add(1)
			ok := k.add(fmt.Sprint(key), func() {
				defer all.Done()
				<-begin
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				if busy[key].Swap(true) {
					t.Error("two of one key run at once")
				}
				if next[key] != i {
					t.Errorf("key %d: job %d runs as number %d", key, i, next[key])
				}
				next[key]++
				busy[key].Store(false)
				running.Add(-1)
			})
			if !ok {
				t.Fatal("no room below the limit")
			}
		}
	}
	if k.add("", func() { t.Error("it ran beyond the limit") }) {
		t.Error("room beyond the limit")
	}
	close(begin)
	all.Wait()
	if err := k.wait(t.Context()); err != nil || most.Load() > concurrency {
		t.Errorf("%d ran at once, %v", most.Load(), err)
	}
	k.rest()
}

// TestKeyedFillsItsSlots: jobs that wait for each other all run at once, also
// when workers are idle as they come, and after a rest.
func TestKeyedFillsItsSlots(t *testing.T) {
	const concurrency = 8
	k := newKeyed(concurrency, 100)
	for round := range 3 {
		var meet, done sync.WaitGroup
		meet.Add(concurrency)
		for range concurrency {
			done.Add(1)
			k.add("", func() { meet.Done(); meet.Wait(); done.Done() })
		}
		done.Wait()
		if round == 1 {
			k.rest()
		}
	}
	if err := k.wait(t.Context()); err != nil {
		t.Error(err)
	}
}
