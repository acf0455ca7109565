package discovery

import (
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// How long messages took is kept of the last few minutes only: a percentile
// since the start says nothing after a week. All replicas keep it in the same
// shape, so that merging loses nothing.
const (
	minutes  = 5
	shortest = time.Microsecond // and the unit
	longest  = time.Hour        // what took longer counts as that
	digits   = 2                // a percentile is right to 1 %

	maxLatencyText = 64 << 10 // bytes; about 1 KiB is usual
)

// Latency is how long messages took in the last five minutes, the oldest of
// which may be missing in part. Its text is a histogram in HdrHistogram's V2
// format, in microseconds. The zero value holds nothing.
type Latency struct{ h *hdrhistogram.Histogram }

// IsZero tells whether nothing was done in that time.
func (l Latency) IsZero() bool { return l.h == nil || l.h.TotalCount() == 0 }

// Merge adds what another replica did: the percentiles are then those of all
// messages, which no mean of percentiles is.
func (l *Latency) Merge(other Latency) {
	if other.IsZero() {
		return
	}
	if l.h == nil {
		l.h = newHistogram()
	}
	l.h.Merge(other.h) // of the same shape: nothing is dropped
}

// Percentile is what p percent took at most, to 1 %; 0 when nothing was done.
func (l Latency) Percentile(p float64) time.Duration {
	if l.IsZero() {
		return 0
	}
	return time.Duration(l.h.ValueAtPercentile(p)) * shortest
}

// MarshalText writes it for the wire.
func (l Latency) MarshalText() ([]byte, error) {
	if l.h == nil {
		return nil, nil
	}
	return l.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}

// UnmarshalText reads it from the wire, where anyone may have written it.
func (l *Latency) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		l.h = nil
		return nil
	}
	if len(text) > maxLatencyText {
		return fmt.Errorf("read latency: it is %d bytes; allowed are %d", len(text), maxLatencyText)
	}
	h, err := hdrhistogram.Decode(text)
	if err != nil {
		return fmt.Errorf("read latency: %w", err)
	}
	if ours := newHistogram(); h.LowestTrackableValue() != ours.LowestTrackableValue() ||
		h.HighestTrackableValue() != ours.HighestTrackableValue() || h.SignificantFigures() != ours.SignificantFigures() {
		return errors.New("read latency: the histogram has another shape than this release's")
	}
	l.h = h
	return nil
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest/shortest), digits)
}

// window records latencies, by the minute. It is not safe for concurrent use.
type window struct {
	h      *hdrhistogram.WindowedHistogram // made by the first message: 150 KiB
	began  time.Time
	minute int64 // since then
}

// record notes what took so long until now.
func (w *window) record(now time.Time, took time.Duration) {
	if w.h == nil {
		w.h, w.began = hdrhistogram.NewWindowed(minutes, 1, int64(longest/shortest), digits), now
	}
	w.turn(now)
	// Refused would be only what is out of bounds.
	_ = w.h.Current.RecordValue(int64(min(max(took, 0), longest) / shortest))
}

// recent is what was recorded in the last minutes.
func (w *window) recent(now time.Time) Latency {
	if w.h == nil {
		return Latency{}
	}
	w.turn(now)
	return Latency{w.h.Merge().Clone()}
}

// turn forgets the minutes that have passed out of the window.
func (w *window) turn(now time.Time) {
	minute := int64(now.Sub(w.began) / time.Minute)
	for range min(minute-w.minute, minutes) {
		w.h.Rotate()
	}
	w.minute = max(w.minute, minute)
}
