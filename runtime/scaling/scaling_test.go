package scaling_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/waybill-go/waybill/runtime/scaling"
)

var began = time.Unix(1_700_000_000, 0).UTC()

func TestNext(t *testing.T) {
	policy := scaling.Policy{Min: 0, Max: 4, TargetLag: 1000, CoolDown: 10 * time.Second}
	door := scaling.Policy{Min: 1, Max: 1, TargetLag: 1000, CoolDown: 10 * time.Second}
	type seen struct {
		at              int // seconds
		waiting, inHand int
		done            uint64
		want            int
	}
	for name, c := range map[string]struct {
		policy scaling.Policy
		seen   []seen
	}{
		"nothing to do":                    {policy, []seen{{0, 0, 0, 0, 0}, {60, 0, 0, 0, 0}}},
		"the first event":                  {policy, []seen{{0, 0, 0, 0, 0}, {1, 1, 0, 0, 1}}},
		"in hand is to be done too":        {policy, []seen{{0, 0, 1, 0, 1}}},
		"as many as the lag needs":         {policy, []seen{{0, 1000, 0, 0, 1}, {1, 1000, 1, 0, 2}, {2, 2100, 0, 0, 3}}},
		"no more than the most":            {policy, []seen{{0, 900_000, 0, 0, 4}}},
		"the least, always":                {door, []seen{{0, 0, 0, 0, 1}, {60, 0, 0, 0, 1}, {120, 5000, 0, 0, 1}}},
		"down after the cool-down":         {policy, []seen{{0, 3500, 0, 0, 4}, {1, 0, 0, 3500, 4}, {10, 0, 0, 3500, 4}, {11, 0, 0, 3500, 0}}},
		"one event begins it anew":         {policy, []seen{{0, 500, 0, 0, 1}, {1, 0, 0, 500, 1}, {9, 1, 0, 500, 1}, {10, 0, 0, 501, 1}, {19, 0, 0, 501, 1}, {20, 0, 0, 501, 0}}},
		"one that nobody saw waiting":      {policy, []seen{{0, 500, 0, 0, 1}, {1, 0, 0, 500, 1}, {11, 0, 0, 501, 1}, {12, 0, 0, 501, 1}, {22, 0, 0, 501, 0}}},
		"down to the most of the time":     {policy, []seen{{0, 3500, 0, 0, 4}, {1, 100, 0, 3400, 4}, {5, 1500, 0, 3400, 4}, {11, 0, 0, 4900, 2}}},
		"one too many stays, if barely":    {policy, []seen{{0, 1500, 0, 0, 2}, {1, 900, 0, 600, 2}, {30, 900, 0, 600, 2}}},
		"the durable was made anew":        {policy, []seen{{0, 1500, 0, 5000, 2}, {1, 0, 0, 5000, 2}, {11, 0, 0, 0, 0}}},
		"an event that comes again, waits": {policy, []seen{{0, 1, 0, 0, 1}, {1, 0, 1, 0, 1}, {60, 0, 1, 0, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			var s scaling.State
			for _, e := range c.seen {
				before := s.Wanted
				var reason string
				s, reason = c.policy.Next(s, scaling.Observation{
					At: began.Add(time.Duration(e.at) * time.Second), Lag: e.waiting, InHand: e.inHand, Done: e.done, Running: before,
				})
				if s.Wanted != e.want || (reason != "") != (before != e.want) {
					t.Errorf("at %d s with %d and %d: %d, want %d; because %q", e.at, e.waiting, e.inHand, s.Wanted, e.want, reason)
				}
			}
		})
	}
}

// simulation is a function that a policy scales: a replica that was started
// works after a while, and does so many events in a second.
type simulation struct {
	policy   scaling.Policy
	arrivals func(at time.Duration) float64 // in a second
	rate     float64
	starting time.Duration
	noise    *rand.Rand // makes arrivals and rate uneven; may be nil

	waiting, done float64
	started       []time.Duration // when each replica began
	changes       []time.Duration // of Wanted
	ups           int
	last, most    int
	oldest        time.Duration // the longest that events waited without a replica
}

const tick = 200 * time.Millisecond

func (m *simulation) run(t *testing.T, length time.Duration) *simulation {
	t.Helper()
	var s scaling.State
	var alone time.Duration
	for at := time.Duration(0); at < length; at += tick {
		m.waiting += m.arrivals(at) * tick.Seconds() * m.uneven()
		working := 0
		for _, began := range m.started {
			if at-began >= m.starting {
				working++
			}
		}
		did := min(m.waiting, m.rate*float64(working)*tick.Seconds()*m.uneven())
		m.waiting, m.done = m.waiting-did, m.done+did
		before := s.Wanted
		s, _ = m.policy.Next(s, scaling.Observation{At: began.Add(at), Lag: int(m.waiting + 0.999), Done: uint64(m.done), Running: len(m.started)})
		if s.Wanted < m.policy.Min || s.Wanted > m.policy.Max {
			t.Fatalf("after %v: %d replicas", at, s.Wanted)
		}
		if s.Wanted != before {
			m.changes = append(m.changes, at)
		}
		for len(m.started) < s.Wanted {
			m.started = append(m.started, at)
			m.ups++
		}
		m.started = m.started[:s.Wanted]
		m.most = max(m.most, s.Wanted)
		if alone += tick; m.waiting < 1 || s.Wanted > 0 {
			alone = 0
		}
		m.oldest = max(m.oldest, alone)
	}
	m.last = s.Wanted
	if m.oldest > tick {
		t.Errorf("events waited %v without a replica", m.oldest)
	}
	return m
}

// uneven is 1 on average, and between a half and one and a half with noise.
func (m *simulation) uneven() float64 {
	if m.noise == nil {
		return 1
	}
	return 0.5 + m.noise.Float64()
}

// since counts the changes from a moment on.
func (m *simulation) since(at time.Duration) (n int) {
	for _, c := range m.changes {
		if c >= at {
			n++
		}
	}
	return n
}

func simulate(arrivals func(time.Duration) float64) *simulation {
	return &simulation{
		policy:   scaling.Policy{Min: 0, Max: 4, TargetLag: 1000, CoolDown: 30 * time.Second},
		arrivals: arrivals, rate: 1000, starting: 600 * time.Millisecond,
	}
}

// TestSteadySettles: after two minutes nothing changes any more, whatever the
// load, and what comes is handled when four can.
func TestSteadySettles(t *testing.T) {
	for perSecond := 1.0; perSecond < 6000; perSecond = perSecond*1.07 + 1 {
		m := simulate(func(time.Duration) float64 { return perSecond }).run(t, 30*time.Minute)
		if n := m.since(2 * time.Minute); n > 0 {
			t.Errorf("%.0f a second: %d changes after it should have settled: %v", perSecond, n, m.changes)
		}
		if perSecond < 3900 && m.waiting > 1000 {
			t.Errorf("%.0f a second: %.0f wait at the end", perSecond, m.waiting)
		}
	}
}

// TestUnevenSettles: the same, when arrivals and replicas are uneven; now and then
// a replica more is right then.
func TestUnevenSettles(t *testing.T) {
	for perSecond := 1.0; perSecond < 6000; perSecond = perSecond*1.07 + 1 {
		m := simulate(func(time.Duration) float64 { return perSecond })
		m.noise = rand.New(rand.NewPCG(1, uint64(perSecond)))
		m.run(t, 30*time.Minute)
		if n := m.since(2 * time.Minute); n > 4 {
			t.Errorf("%.0f a second: %d changes in 28 minutes: %v", perSecond, n, m.changes)
		}
		if perSecond < 3700 && m.waiting > 3000 {
			t.Errorf("%.0f a second: %.0f wait at the end", perSecond, m.waiting)
		}
	}
}

func TestBurstDrainsAndEnds(t *testing.T) {
	m := simulate(func(at time.Duration) float64 {
		if at >= time.Minute && at < 70*time.Second {
			return 5000
		}
		return 0
	}).run(t, 5*time.Minute)
	if m.waiting > 0 || m.last > 0 || m.most != 4 || m.ups > 4 || len(m.changes) > 6 {
		t.Errorf("%.0f wait, last %d, most %d, %d started, changed at %v", m.waiting, m.last, m.most, m.ups, m.changes)
	}
}

func TestIdleStaysAway(t *testing.T) {
	if m := simulate(func(time.Duration) float64 { return 0 }).run(t, time.Hour); len(m.changes) > 0 {
		t.Errorf("changed at %v", m.changes)
	}
}

// TestOscillatingDoesNotFlap: waves that are shorter than the cool-down change
// nothing, and longer ones are followed once up and once down.
func TestOscillatingDoesNotFlap(t *testing.T) {
	wave := func(half time.Duration) func(time.Duration) float64 {
		return func(at time.Duration) float64 {
			if at/half%2 == 0 {
				return 2500
			}
			return 0
		}
	}
	if m := simulate(wave(10*time.Second)).run(t, time.Hour); m.since(2*time.Minute) > 0 || m.waiting > 25_000 {
		t.Errorf("short waves: %.0f wait, changed at %v", m.waiting, m.changes)
	}
	m := simulate(wave(3*time.Minute)).run(t, time.Hour)
	if waves := 10; m.ups > 4*waves || len(m.changes) > 6*waves || m.last > 0 {
		t.Errorf("long waves: %d started, last %d, changed %d times at %v", m.ups, m.last, len(m.changes), m.changes)
	}
}

// TestNowAndThenKeepsOne: events that come more often than the cool-down don't
// start a process each.
func TestNowAndThenKeepsOne(t *testing.T) {
	m := simulate(func(at time.Duration) float64 {
		if at%(20*time.Second) == 0 {
			return 5 // one in a tick
		}
		return 0
	}).run(t, time.Hour)
	if len(m.changes) != 1 {
		t.Errorf("changed at %v", m.changes)
	}
}

// TestASlowStartIsNoSlowReplica: what a replica does while it starts is not taken
// for all it can do, which would keep too many for a few events.
func TestASlowStartIsNoSlowReplica(t *testing.T) {
	m := simulate(func(at time.Duration) float64 {
		if at < 4*time.Second {
			return 5000
		}
		return 40
	})
	m.starting = 2500 * time.Millisecond
	if m.run(t, 10*time.Minute); m.most != 4 || m.last != 1 {
		t.Errorf("most %d, last %d, changed at %v", m.most, m.last, m.changes)
	}
}
