package host

import (
	"slices"
	"testing"
	"time"
)

// machine is an endpoint on two processors, which are shared by all that is under
// way: requests, and the work that others have for each that was done. Its time is
// its own, so a test takes little, and depends on none.
type machine struct {
	limit  *limit
	now    time.Time
	places int
	others int           // how much work others have for each request that was done
	waits  time.Duration // what a request takes beside the processor

	asked   float64
	held    []*work
	behind  []*work
	took    []time.Duration
	refused int
}

type work struct {
	came  time.Time
	needs time.Duration // of a processor
}

const (
	tick       = 100 * time.Microsecond
	processors = 2
	needs      = 300 * time.Microsecond // of a processor, a request or what others do
	refusing   = 10 * time.Microsecond
	atOnce     = 128 // of the others' work
)

// newMachine has an endpoint with the default concurrency.
func newMachine(others int) *machine {
	m := &machine{now: time.Unix(1e9, 0), others: others, places: placesOf(64)}
	m.limit = newLimit(m.now, 64, func(places int) { m.places = places })
	return m
}

// can is how many requests a second it can do.
func (m *machine) can() float64 { return processors / (needs.Seconds() * float64(1+m.others)) }

// load asks so many times a second, and notes what became of it.
func (m *machine) load(rate float64, during time.Duration) {
	m.took, m.refused = nil, 0
	for range during / tick {
		m.now = m.now.Add(tick)
		power := processors * tick
		for m.asked += rate * tick.Seconds(); m.asked >= 1; m.asked-- {
			m.ask()
			power -= refusing
		}
		m.work(max(0, power))
	}
	slices.Sort(m.took)
}

func (m *machine) ask() {
	m.limit.arrive(m.now, len(m.held))
	if len(m.held) >= m.places {
		m.refused++
		m.limit.refuse()
		return
	}
	m.held = append(m.held, &work{m.now, needs})
}

func (m *machine) work(power time.Duration) {
	active := slices.Concat(m.held, m.behind[:min(len(m.behind), atOnce)])
	for _, w := range active {
		w.needs -= min(tick, power/time.Duration(len(active)))
	}
	m.behind = slices.DeleteFunc(m.behind, func(w *work) bool { return w.needs <= 0 })
	m.held = slices.DeleteFunc(m.held, func(w *work) bool {
		took := m.now.Sub(w.came)
		if w.needs > 0 || took < m.waits {
			return false
		}
		m.took = append(m.took, took)
		m.limit.done(took, len(m.held), false)
		for range m.others {
			m.behind = append(m.behind, &work{m.now, needs})
		}
		return true
	})
}

// p99 is what nearly all took at most.
func (m *machine) p99() time.Duration { return m.took[len(m.took)*99/100] }

// TestAnOverloadIsNotFelt: what is taken of ten times too much is answered soon,
// as much is done as can be, and a second later nothing is left of it. Without a
// limit by latency it takes long.
func TestAnOverloadIsNotFelt(t *testing.T) {
	const soon, lasts = 20 * time.Millisecond, 5 * time.Second
	for _, others := range []int{1, 4} {
		m := newMachine(others)
		m.load(100, 5*time.Second)
		m.load(10*m.can(), time.Second) // many are taken before it shows
		m.load(10*m.can(), lasts)
		if done := float64(len(m.took)) / (m.can() * lasts.Seconds()); m.p99() > soon || done < 0.7 {
			t.Errorf("others' work %d: p99 %v, %.2f of what can be was done", others, m.p99(), done)
		}
		m.load(100, time.Second)
		if m.load(100, time.Second); m.refused > 0 || m.p99() > 2*time.Millisecond || m.places != placesOf(64) {
			t.Errorf("others' work %d: a second later %d are refused, p99 %v, %d places", others, m.refused, m.p99(), m.places)
		}
	}
	m := newMachine(4)
	m.limit.least = m.limit.most
	if m.load(10*m.can(), time.Second); m.p99() < 2*soon {
		t.Errorf("without it p99 is %v: this machine shows nothing", m.p99())
	}
}

// TestWhoIsNotOverloadedIsNotShed, however long its requests take.
func TestWhoIsNotOverloadedIsNotShed(t *testing.T) {
	half := newMachine(4)
	half.load(half.can()/2, 10*time.Second)
	slow := newMachine(0)
	slow.waits = 300 * time.Millisecond
	slow.load(200, 10*time.Second) // 60 at once, from the first
	bursts := newMachine(0)
	bursts.waits = 20 * time.Millisecond
	var refused int
	for range 20 {
		for range placesOf(64) {
			bursts.ask()
		}
		bursts.load(10, time.Second)
		refused += bursts.refused
	}
	hiccup := newMachine(0)
	hiccup.load(500, 2*time.Second)
	for range 20 {
		hiccup.waits = 40 * time.Millisecond // those that came while it lasts
		hiccup.load(500, 40*time.Millisecond)
		refused += hiccup.refused
		hiccup.waits = 0
		hiccup.load(500, time.Second)
		refused += hiccup.refused
	}
	few := newMachine(0)
	few.load(100, time.Second)
	few.waits = 90 * time.Millisecond // 9 at once, of whom none is too many
	few.load(100, 5*time.Second)
	refused += few.refused
	if few.places != placesOf(64) {
		t.Errorf("few have %d places", few.places)
	}
	if half.refused+slow.refused+refused > 0 {
		t.Errorf("%d, %d, %d were refused", half.refused, slow.refused, refused)
	}
}

// TestWhatTakesLongerForGood is what is usual, two seconds later: many are held
// then, and fewer would not make it quicker.
func TestWhatTakesLongerForGood(t *testing.T) {
	m := newMachine(0)
	m.load(400, 5*time.Second)
	m.waits = 80 * time.Millisecond // 32 at once, three times the least
	if m.load(400, 4*time.Second); m.refused == 0 {
		t.Error("it was not taken for an overload")
	}
	if m.load(400, 5*time.Second); m.refused > 0 {
		t.Errorf("%d are still refused, at %d places", m.refused, m.places)
	}
	m.waits = 0
	m.load(400, 10*time.Second)
	if m.limit.usual > 2*time.Millisecond {
		t.Errorf("%v is still usual", m.limit.usual)
	}
}

// TestWhatFailsSoon is no measure of what takes its time.
func TestWhatFailsSoon(t *testing.T) {
	m := newMachine(0)
	m.waits = 80 * time.Millisecond
	m.load(50, 5*time.Second)
	for range 1000 {
		m.limit.done(time.Millisecond, 1, true)
	}
	m.load(400, 5*time.Second)
	if m.refused > 0 || m.limit.usual < m.waits/2 {
		t.Errorf("%d are refused, %v is usual", m.refused, m.limit.usual)
	}
}
