package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/waybill-go/waybill/internal/scenario"
)

// Report is what a run found.
type Report struct {
	Scenario string  `json:"scenario"`
	Door     string  `json:"door"`
	Clients  int     `json:"clients"`
	Rate     float64 `json:"rate,omitempty"`
	Seconds  float64 `json:"seconds"`
	Accepted int     `json:"accepted"`
	// Ended came to their end, the unshipped ones with their payment undone: how
	// many by each type of event.
	Ended int            `json:"ended"`
	Ends  map[string]int `json:"ends"`
	// Waiting were accepted and not at their end when the run gave up on them.
	Waiting int `json:"waiting"`
	// TooLate were shipped before they could be cancelled.
	TooLate int `json:"cancelled_too_late"`
	// Retried counts requests that got no good answer and were made again
	// under the same order id.
	Retried int `json:"retried"`
	// Refused were told 429 or 503, of an open loop, which does not ask again;
	// Unanswered got no answer, or another error.
	Refused    int `json:"refused"`
	Unanswered int `json:"unanswered"`
	// Skipped are those an open loop could not begin, because as many as it
	// may hold were under way.
	Skipped    int         `json:"skipped"`
	PerSecond  float64     `json:"ended_per_second"`
	ToAccepted Percentiles `json:"to_accepted_ms"`
	ToEnd      Percentiles `json:"to_end_ms"`
	ToRefused  Percentiles `json:"to_refused_ms"`
	Money      verdict     `json:"money"`

	ends map[scenario.Way]map[string]int
}

// Percentiles are in milliseconds.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1000 }
	return Percentiles{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}

func (l *load) report(took time.Duration, money verdict) *Report {
	r := &Report{
		Scenario: l.c.Scenario, Door: l.c.Door, Clients: l.c.Clients, Rate: l.c.Rate, Seconds: took.Seconds(),
		Accepted: int(l.accepted.TotalCount()), Ended: int(l.done.Load()), Ends: map[string]int{}, Waiting: int(l.waiting.Load()),
		Retried: int(l.retried.Load()), Skipped: int(l.skipped.Load()),
		Refused: int(l.refused.TotalCount()), Unanswered: int(l.unanswered.Load()),
		PerSecond:  float64(l.done.Load()) / took.Seconds(),
		ToAccepted: percentiles(l.accepted), ToEnd: percentiles(l.ended), ToRefused: percentiles(l.refused),
		Money: money, ends: l.ends,
	}
	for _, ends := range l.ends {
		for end, n := range ends {
			r.Ends[end] += n
		}
	}
	r.TooLate = l.ends[scenario.Cancel][scenario.Ship.End()]
	return r
}

// print prints the report, and answers what is wrong with what it says.
func (r *Report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		return r.verdict()
	}
	fmt.Fprintf(w, "%d orders accepted and %d at their end in %.1f s: %.0f orders/s (%d not at their end, %d retried, %d refused, %d unanswered, %d skipped)\n",
		r.Accepted, r.Ended, r.Seconds, r.PerSecond, r.Waiting, r.Retried, r.Refused, r.Unanswered, r.Skipped)
	var ends []string
	for _, end := range slices.SortedFunc(maps.Keys(r.Ends), func(a, b string) int { return r.Ends[b] - r.Ends[a] }) {
		ends = append(ends, fmt.Sprintf("%d %s", r.Ends[end], end))
	}
	if r.TooLate > 0 {
		ends = append(ends, fmt.Sprintf("%d of those shipped were to be cancelled, and that came too late", r.TooLate))
	}
	fmt.Fprintf(w, "ends: %s\n", strings.Join(ends, ", "))
	says := "adds up"
	if r.Money.Accounts == 0 {
		says = "not checked"
	}
	if n := len(r.Money.Wrong); n > 0 {
		says = fmt.Sprintf("DOES NOT ADD UP, %d times", n)
	}
	fmt.Fprintf(w, "money: %s (%d accounts looked at, %d not at rest)\n", says, r.Money.Accounts, r.Money.Unjudged)
	for _, what := range r.Money.Wrong[:min(10, len(r.Money.Wrong))] {
		fmt.Fprintf(w, "  %s\n", what)
	}
	fmt.Fprintf(w, "%-20s %9s %9s %9s %9s %9s\n", "milliseconds", "p50", "p90", "p99", "p99.9", "max")
	for _, row := range []struct {
		name string
		p    Percentiles
	}{{"placed to accepted", r.ToAccepted}, {"placed to its end", r.ToEnd}, {"placed to refused", r.ToRefused}} {
		fmt.Fprintf(w, "%-20s %9.2f %9.2f %9.2f %9.2f %9.2f\n", row.name, row.p.P50, row.p.P90, row.p.P99, row.p.P999, row.p.Max)
	}
	return r.verdict()
}

// verdict is an error that says all that is wrong.
func (r *Report) verdict() error {
	var wrong []error
	if n := len(r.Money.Wrong); n > 0 {
		wrong = append(wrong, fmt.Errorf("money does not add up: %s", r.Money.Wrong[0]))
	}
	if r.Waiting > 0 {
		wrong = append(wrong, fmt.Errorf("%d accepted orders are not at their end yet; look again with orders.get, and for dead letters", r.Waiting))
	}
	if r.Ended == 0 {
		return errors.Join(append(wrong, errors.New("no order came to its end; is everything running? see waybill ls"))...)
	}
	for end, n := range r.ends[scenario.Ship] {
		if end != scenario.Ship.End() {
			wrong = append(wrong, fmt.Errorf("%d orders that had to be shipped ended with %s; orders.list says why", n, end))
		}
	}
	for _, way := range []scenario.Way{scenario.Decline, scenario.Reject, scenario.Fail} {
		ends := r.ends[way]
		if shipped := ends[scenario.Ship.End()]; shipped > 0 || len(ends) > 0 && ends[way.End()] == 0 {
			wrong = append(wrong, fmt.Errorf("%d of the orders that had to end with %s did, and %d were shipped: start what runs with %s",
				ends[way.End()], way.End(), shipped, way.Setting()))
		}
	}
	return errors.Join(wrong...)
}
