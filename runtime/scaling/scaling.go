// Package scaling decides how many replicas of a function there are to be: a
// pure function of what was seen, without a clock and without doing anything.
//
//	events wait      → more, at once
//	fewer are enough → fewer, when that was so for a whole cool-down
//	no event came    → the least, which may be none
//
// What waits is not enough to go by: with one replica too few events pile up,
// with one more nothing waits, so that one seems too many; and so on for ever. So
// a policy learns how much a replica does in a second when it has all it can do, and
// takes none away that the arriving events need.
package scaling

import (
	"fmt"
	"time"
)

// Policy is how a function scales.
type Policy struct {
	// Min and Max bound the replicas; 0 <= Min <= Max, and 1 <= Max.
	Min, Max int
	// TargetLag is how many events may wait for each replica; at least 1.
	TargetLag int
	// CoolDown is how long fewer must have been enough before there are fewer.
	CoolDown time.Duration
}

// Observation is what was seen of a function at a moment.
type Observation struct {
	At time.Time
	// Lag is how many events wait, InHand how many were delivered and
	// are not yet done.
	Lag, InHand int
	// Done counts the events that are done; only its growth matters.
	Done uint64
	// Running is how many replicas there are.
	Running int
}

func (o Observation) load() int { return o.Lag + o.InHand }

// arrivals are the events that came in a second, from o until now.
func (o Observation) arrivals(now Observation) float64 {
	seconds := now.At.Sub(o.At).Seconds()
	if seconds <= 0 || now.Done < o.Done { // the durable was made anew
		return 0
	}
	return max(0, float64(now.Done-o.Done)+float64(now.load()-o.load())) / seconds
}

// State is what a policy remembers. The zero value is that of a function which
// does not run.
type State struct {
	// Wanted is how many replicas there are to be.
	Wanted int
	// Rate is how many events a replica does in a second; 0 while that is not
	// known.
	Rate float64

	last     Observation
	crewed   time.Time // when the last one was started
	arriving float64   // events in a second, of late
	calm     calm
}

// calm is a time in which fewer replicas were enough.
type calm struct {
	began    Observation
	replicas int     // the most that were needed in it
	arriving float64 // the most that came in a second
}

const (
	// spare is how full fewer replicas may be: those that are full at once
	// would be too few a moment later.
	spare = 0.8
	// Weights of what was last seen in Rate. What is slow for a moment is more
	// often than not something else than the replicas.
	weightMore, weightLess = 0.5, 0.1
	// starting is how long a replica may need until it works.
	starting = 3 * time.Second
	// lately is how far back arriving looks.
	lately = 5 * time.Second
)

// Next is the state after an observation. The reason is empty when Wanted stays
// as it is.
func (p Policy) Next(s State, o Observation) (next State, reason string) {
	if o.Running > s.last.Running {
		s.crewed = o.At
	}
	s.Rate, s.arriving = p.learn(s, o), s.lately(o)
	s.last = o
	need, keep := p.replicas(float64(o.load())/float64(p.TargetLag)), p.replicas(float64(o.load())/(spare*float64(p.TargetLag)))
	switch {
	case need > s.Wanted:
		s.Wanted, s.calm = need, calm{}
		if o.load() == 0 {
			return s, "it is the least"
		}
		return s, fmt.Sprintf("%d waiting, %d in hand", o.Lag, o.InHand)
	case keep >= s.Wanted:
		s.calm = calm{}
		return s, ""
	case s.calm.began.At.IsZero():
		s.calm = calm{began: o}
	}
	s.calm.replicas, s.calm.arriving = max(s.calm.replicas, keep), max(s.calm.arriving, s.arriving)
	if o.At.Sub(s.calm.began.At) < p.CoolDown {
		return s, ""
	}
	enough, why := p.enough(s, o)
	s.calm = calm{}
	if enough >= s.Wanted {
		return s, ""
	}
	s.Wanted = enough
	return s, why
}

// enough is how many replicas were enough in a calm that ends. An event now and
// then keeps one: to start it each time would cost more.
func (p Policy) enough(s State, o Observation) (replicas int, why string) {
	if s.calm.replicas == p.Min && s.calm.began.arrivals(o) == 0 {
		return p.Min, fmt.Sprintf("no event came for %v", p.CoolDown)
	}
	forRate := 1
	if s.Rate > 0 {
		forRate = p.replicas(s.calm.arriving / (spare * s.Rate))
	}
	return max(s.calm.replicas, forRate), fmt.Sprintf("no more than %.0f events a second came for %v", s.calm.arriving, p.CoolDown)
}

// lately is how many events come in a second, smoothed.
func (s State) lately(o Observation) float64 {
	if s.last.At.IsZero() {
		return 0
	}
	w := min(1, o.At.Sub(s.last.At).Seconds()/lately.Seconds())
	return (1-w)*s.arriving + w*s.last.arrivals(o)
}

// learn is how many events a replica does in a second, as far as it shows: when
// all of them work, and there was more than enough to do.
func (p Policy) learn(s State, o Observation) float64 {
	enough := max(1, p.TargetLag/2)
	seconds := o.At.Sub(s.last.At).Seconds()
	if s.last.Lag < enough || o.Lag < enough || o.Running == 0 || o.At.Sub(s.crewed) < starting || seconds <= 0 || o.Done < s.last.Done {
		return s.Rate
	}
	seen := float64(o.Done-s.last.Done) / seconds / float64(o.Running)
	weight := weightLess
	if seen > s.Rate {
		weight = weightMore
	}
	if s.Rate == 0 {
		weight = 1
	}
	return (1-weight)*s.Rate + weight*seen
}

// replicas rounds up, within the bounds.
func (p Policy) replicas(n float64) int {
	most := float64(p.Max)
	if n >= most {
		return p.Max
	}
	up := int(n)
	if float64(up) < n {
		up++
	}
	return max(p.Min, up)
}
