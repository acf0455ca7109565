package host

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRestOfAProjection: events come together while it rests, until they are worth
// a batch or the function stops.
func TestRestOfAProjection(t *testing.T) {
	const rest = 8 * time.Millisecond
	for name, c := range map[string]struct {
		before, meanwhile int // events, the later ones after half of the rest
		stops             bool
		lasts             time.Duration
	}{
		"nothing comes":              {0, 0, false, rest},
		"few come":                   {batchWorth / 2, batchWorth/2 - 1, false, rest},
		"enough are there":           {batchWorth, 0, false, 0},
		"enough come":                {1, batchWorth - 1, false, rest / 2},
		"it stops":                   {1, 0, true, rest / 2},
		"more come than are handled": {2 * batchSize, 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pull, stop := context.WithCancel(t.Context())
				b := &batchDoor{c: &consumer{pull: pull}, running: true, worth: make(chan struct{}, 1)}
				add := func(n int) {
					for range n {
						b.add(&delivery{})
					}
				}
				add(2 * batchWorth) // what the last batch was: it says nothing of this rest
				b.waiting = nil
				add(c.before)
				began := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					time.Sleep(rest / 2)
					add(c.meanwhile)
					if c.stops {
						stop()
					}
				})
				b.rest(rest)
				if lasted := time.Since(began); lasted != c.lasts {
					t.Errorf("it rested %v, want %v", lasted, c.lasts)
				}
				wg.Wait()
				stop()
			})
		})
	}
}
