package discovery

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// TestLatenciesMergeExactly has two replicas of which one is slow: the
// percentiles of both are those of all that they did, and no mean.
func TestLatenciesMergeExactly(t *testing.T) {
	now := time.Now()
	var all Latency
	took := []time.Duration{}
	for replica, n := range []int{900, 100} {
		var w window
		for i := range n {
			d := time.Duration(1+i+replica*replica*100_000) * time.Microsecond
			w.record(now, d)
			took = append(took, d)
		}
		all.Merge(wired(t, w.recent(now)))
	}
	slices.Sort(took)
	for _, p := range []float64{50, 90, 99, 100} {
		want := took[int(p/100*float64(len(took)))-1]
		if got := all.Percentile(p); got < want*99/100 || got > want*101/100 {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	all.Merge(Latency{})
	if n := all.h.TotalCount(); n != 1000 {
		t.Errorf("holds %d", n)
	}
}

// wired is what arrives of a latency in an endpoint's data.
func wired(t *testing.T, l Latency) Latency {
	t.Helper()
	data, err := json.Marshal(Health{Latency: l})
	if err != nil || len(data) > 8<<10 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	var h Health
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatal(err)
	}
	return h.Latency
}

func TestLatencyForgets(t *testing.T) {
	var w window
	began := time.Now()
	if l := w.recent(began); !l.IsZero() || l.Percentile(50) != 0 || !wired(t, l).IsZero() {
		t.Fatal("nothing was done, and it holds something")
	}
	for _, c := range []struct {
		at    time.Duration
		took  time.Duration
		count int64 // with this one
		most  time.Duration
	}{
		{0, 3 * time.Second, 1, 3 * time.Second},
		{4 * time.Minute, time.Millisecond, 2, 3 * time.Second},
		{5 * time.Minute, time.Millisecond, 2, time.Millisecond},
		{4*time.Minute + 59*time.Second, time.Millisecond, 3, time.Millisecond}, // who counts late counts now
		{9 * time.Minute, 48 * time.Hour, 3, time.Hour},
		{time.Hour, -time.Second, 1, 0},
	} {
		now := began.Add(c.at)
		w.record(now, c.took)
		l := w.recent(now)
		if n, most := l.h.TotalCount(), l.Percentile(100); n != c.count || most < c.most*99/100 || most > c.most*101/100 {
			t.Errorf("after %v: %d up to %v, want %d up to %v", c.at, n, most, c.count, c.most)
		}
	}
	if l := w.recent(began.Add(2 * time.Hour)); !l.IsZero() {
		t.Error("an hour later it still holds something")
	}
}

func TestLatencyReadsNoNonsense(t *testing.T) {
	wide, err := hdrhistogram.New(1, int64(time.Hour), 5).Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no base64": "?", "no histogram": "aGVsbG8gd29ybGQ=", "of another shape": string(wide), "too long": string(make([]byte, maxLatencyText+1)),
	} {
		if err := new(Latency).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

func FuzzLatency(f *testing.F) {
	var w window
	w.record(time.Now(), time.Second)
	text, err := w.recent(time.Now()).MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var l, sum Latency
		if l.UnmarshalText(text) != nil {
			return
		}
		sum.Merge(l)
		if sum.IsZero() != l.IsZero() || sum.Percentile(99) != l.Percentile(99) {
			t.Errorf("%q holds %v, merged %v", text, l.Percentile(99), sum.Percentile(99))
		}
	})
}

// BenchmarkDone is what counting costs a message.
func BenchmarkDone(b *testing.B) {
	e := &Endpoint{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for took := time.Duration(0); pb.Next(); took += time.Microsecond {
			e.Done(took%time.Second, "")
		}
	})
}

// BenchmarkStats is what an answer about one endpoint costs.
func BenchmarkStats(b *testing.B) {
	e := &Endpoint{}
	for i := range 100_000 {
		e.Done(time.Duration(i)*time.Microsecond, "")
	}
	for b.Loop() {
		b.ReportMetric(float64(len(e.stats().Data)), "bytes")
	}
}
