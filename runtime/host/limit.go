package host

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// limit is how many requests an endpoint holds, running and waiting. It follows
// how long they take: all places that there are, until they take much longer than
// they do while few are held; then fewer, down to a least. So what is taken is
// answered soon, whatever it is that it waits for: a place, the processor, a
// store.
//
// It looks at this endpoint's requests only, and of time it knows what it is told.
// What is held when it falls stays.
type limit struct {
	least, most float64
	change      func(places int)

	epoch time.Time
	end   atomic.Int64 // of the window: nanoseconds after epoch

	mu    sync.Mutex
	value float64
	// careful is from where on it grows slowly: a part of where it was too high.
	careful float64
	// usual is how long one takes while few are held, a mean over known windows.
	usual time.Duration
	known int
	slow  int // windows in a row that took too long
	// stuck are those of them in a row at the least, and quickest is the shortest
	// median of these.
	stuck    int
	quickest time.Duration

	// The window.
	began   time.Time
	took    []time.Duration // by the first of them
	held    int             // at the most
	refused int
}

const (
	// limitWindow is what it looks at together.
	limitWindow  = 50 * time.Millisecond
	limitSamples = 256
	// longestWindow ends one in which none was done.
	longestWindow = time.Minute
	// quick is never too long: a disk or the collector may take that.
	quick = 10 * time.Millisecond
	// tooLong is so many times the usual.
	tooLong = 3
	// slowWindows in a row are taken for more than a hiccup; one is enough where
	// places run out.
	slowWindows = 2
	// stuckWindows in a row at the least, two seconds, say that it is not for the
	// number: it is how long they take now.
	stuckWindows = 40
	// usualWindows is over how many the usual is a mean.
	usualWindows = 100
	// leastPart of what may run at once is the least, two at least: a caller that
	// asks again has its answer a little before its place is free.
	leastPart = 6
)

func newLimit(now time.Time, concurrency int, change func(places int)) *limit {
	most := float64(placesOf(concurrency))
	return &limit{
		least: float64(max(2, concurrency/leastPart)), most: most, value: most, careful: most,
		change: change, epoch: now, began: now,
	}
}

// arrive is told of every request before it is held or refused, and how many are
// held then.
func (l *limit) arrive(now time.Time, held int) {
	if int64(now.Sub(l.epoch)) < l.end.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lasted := now.Sub(l.began)
	if lasted < limitWindow || len(l.took) == 0 && held > 0 && lasted < longestWindow {
		return // nobody knows yet how long they take
	}
	before := int(l.value)
	l.judge(lasted)
	l.began, l.took, l.held, l.refused = now, l.took[:0], 0, 0
	l.end.Store(int64(now.Sub(l.epoch) + limitWindow))
	if int(l.value) != before {
		l.change(int(l.value))
	}
}

// refuse is told of one that found no place.
func (l *limit) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

// done is told how long one took, and how many were held by then. What fails soon
// does not tell how long the work takes.
func (l *limit) done(took time.Duration, held int, failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = max(l.held, held)
	if len(l.took) < limitSamples && (!failed || took > l.bound()) {
		l.took = append(l.took, took)
	}
}

// bound is what is not too long.
func (l *limit) bound() time.Duration { return max(quick, tooLong*l.usual) }

// judge draws the conclusion from a window.
func (l *limit) judge(lasted time.Duration) {
	if len(l.took) == 0 {
		l.slow, l.stuck = 0, 0
		l.value = min(l.most, l.value*float64(int(1)<<min(lasted/limitWindow, 10)))
		return
	}
	slices.Sort(l.took)
	median := l.took[len(l.took)/2]
	l.learn(median)
	if median <= l.bound() {
		l.slow, l.stuck = 0, 0
		l.grow()
		return
	}
	l.slow++
	if l.refused > 0 || l.slow >= slowWindows && l.known > 0 && !l.few() { // else they may always take that long
		l.shrink(median)
	}
}

// few tells whether no more were there than are always let in.
func (l *limit) few() bool { return l.held <= int(l.least) && l.refused == 0 }

// learn makes the usual of a window's median. A longer one counts if few were
// held, and as twice the usual at the most: a long one now and then is none.
func (l *limit) learn(median time.Duration) {
	if !l.few() && (l.known == 0 || median >= l.usual) {
		return
	}
	if l.known == 0 {
		l.usual = median
	}
	l.known = min(l.known+1, usualWindows)
	l.usual += (min(median, 2*l.usual) - l.usual) / time.Duration(l.known)
}

// grow lets more in: soon all while none is refused, else ever more slowly.
func (l *limit) grow() {
	switch {
	case l.refused == 0:
		l.value *= 2
	case l.value < l.careful:
		l.value *= 1.5
	default:
		l.value++
	}
	l.value = min(l.value, l.most)
}

// shrink lets as many in as would take as long as they may, if it is for their
// number; at the least it is not.
func (l *limit) shrink(median time.Duration) {
	l.careful = max(l.least, l.value*0.7)
	l.value = max(l.least, l.value*float64(l.bound())/float64(median))
	if l.value > l.least {
		l.stuck = 0
		return
	}
	if l.stuck == 0 || median < l.quickest {
		l.quickest = median
	}
	if l.stuck++; l.stuck == stuckWindows {
		l.usual, l.known, l.stuck = l.quickest, 1, 0
	}
}
