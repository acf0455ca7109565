package host

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestAProjectionPauses: events come together after a batch, until they are worth
// one or the function stops.
func TestAProjectionPauses(t *testing.T) {
	const took = 2 * time.Millisecond
	for name, c := range map[string]struct {
		took              time.Duration // a batch
		during, meanwhile int           // events that come while it is applied, and in the middle of the pause
		stops             bool          // then
		pause             time.Duration
	}{
		"nothing comes":    {took, 0, 0, false, 4 * took},
		"few come":         {took, batchWorth / 2, batchWorth/2 - 1, false, 4 * took},
		"enough are there": {took, batchWorth, 0, false, 0},
		"enough come":      {took, 1, batchWorth - 1, false, 2 * took},
		"it stops":         {took, 0, 0, true, 2 * took},
		"a backlog":        {took, 2 * batchSize, 0, false, 0},
		"a slow database":  {time.Second, 1, 0, false, longestPause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pull, stop := context.WithCancel(t.Context())
				defer stop()
				b := &batchDoor{c: &consumer{pull: pull}, worth: make(chan struct{}, 1), running: true}
				add := func(n int) {
					for range n {
						b.add(&delivery{})
					}
				}
				var ended time.Time // the first batch
				var lasted time.Duration
				var middle sync.WaitGroup
				batches := 0
				b.each = func([]*delivery) {
					if batches++; batches > 1 {
						if batches == 2 {
							lasted = time.Since(ended)
						}
						return
					}
					add(c.during)
					time.Sleep(c.took)
					ended = time.Now()
					middle.Go(func() {
						time.Sleep(min(pauseFactor*c.took, longestPause) / 2)
						add(c.meanwhile)
						if c.stops {
							stop()
						}
					})
				}
				add(2 * batchWorth) // the first batch, whose size says nothing of the pause after it
				b.idle.Go(b.run)
				b.drain()
				if batches == 1 { // nothing came
					lasted = time.Since(ended)
				}
				middle.Wait()
				if lasted != c.pause {
					t.Errorf("it paused for %v, want %v", lasted, c.pause)
				}
			})
		})
	}
}
