package host

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestKeyed: so many at once, never two of a key, those of a key in order, and no
// more than the limit.
func TestKeyed(t *testing.T) {
	const concurrency, keys, each = 4, 10, 50
	k := newKeyed(concurrency, keys*each, each)
	var running, most atomic.Int32
	var all sync.WaitGroup
	begin := make(chan struct{})
	next := make([]int, keys) // each is touched by its own key's jobs alone
	busy := make([]atomic.Bool, keys)
	for i := range each {
		for key := range keys {
			all.Add(1)
			err := k.add(fmt.Sprint(key), func(bool) {
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
			if err != nil {
				t.Fatal("no room below the limit:", err)
			}
		}
	}
	if err := k.add("", func(bool) { t.Error("it ran beyond the limit") }); !errors.Is(err, errFull) {
		t.Error("room beyond the limit:", err)
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
	k := newKeyed(concurrency, 100, 100)
	for round := range 3 {
		var meet, done sync.WaitGroup
		meet.Add(concurrency)
		for range concurrency {
			done.Add(1)
			if err := k.add("", func(bool) { meet.Done(); meet.Wait(); done.Done() }); err != nil {
				t.Fatal(err)
			}
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

// TestKeyedLeavesRoomForOtherKeys: no key's queue is longer than its share, and
// what has no key has no queue.
func TestKeyedLeavesRoomForOtherKeys(t *testing.T) {
	const share = 2
	k := newKeyed(4, 100, share)
	release := make(chan struct{})
	var ran atomic.Int32
	job := func(bool) { <-release; ran.Add(1) }
	for _, key := range []string{"hot", "other", ""} {
		for i := range 10 {
			want := error(nil)
			if key != "" && i > share {
				want = errKeyFull
			}
			if err := k.add(key, job); !errors.Is(err, want) {
				t.Errorf("job %d of %q: %v, want %v", i, key, err, want)
			}
		}
	}
	close(release)
	if err := k.wait(t.Context()); err != nil || ran.Load() != 2*(1+share)+10 {
		t.Errorf("%d ran, %v", ran.Load(), err)
	}
	if err := k.add("hot", job); err != nil {
		t.Error("no room when the queue is empty again:", err)
	}
	if err := k.wait(t.Context()); err != nil {
		t.Error(err)
	}
	k.rest()
}
