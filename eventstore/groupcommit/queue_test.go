package groupcommit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/eventstore"
)

// wait makes a queued request of "aggregate:id,id".
func wait(what string, size int) *waiting {
	aggregate, ids, _ := strings.Cut(what, ":")
	return &waiting{Request: request("ORDERS", aggregate, eventstore.Any, strings.Split(ids, ",")...), size: size}
}

func name(w *waiting) string {
	var ids []string
	for _, e := range w.Events {
		ids = append(ids, e.ID)
	}
	return w.Aggregate + ":" + strings.Join(ids, ",")
}

func TestTake(t *testing.T) {
	for _, c := range []struct {
		name    string
		limits  Limits
		queued  []string // ten bytes each
		batches []string
	}{
		{"all at once", Limits{}, []string{"a:1", "b:2", "c:3"}, []string{"a:1 b:2 c:3"}},
		{"one aggregate", Limits{}, []string{"a:1", "a:2", "b:3", "a:4"}, []string{"a:1 b:3", "a:2", "a:4"}},
		{"one id", Limits{}, []string{"a:1", "b:1", "c:3"}, []string{"a:1 c:3", "b:1"}},
		{"who waits blocks those that must come after him", Limits{}, []string{"a:1", "a:2,3", "b:3", "b:4", "c:5"}, []string{"a:1 c:5", "a:2,3", "b:3", "b:4"}},
		{"an aggregate's name is no id", Limits{}, []string{"a:b", "b:a"}, []string{"a:b b:a"}},
		{"so many", Limits{Batch: 2}, []string{"a:1", "b:2", "c:3", "d:4", "e:5"}, []string{"a:1 b:2", "c:3 d:4", "e:5"}},
		{"so many bytes", Limits{BatchBytes: 25}, []string{"a:1", "b:2", "c:3"}, []string{"a:1 b:2", "c:3"}},
		{"one always fits", Limits{BatchBytes: 5}, []string{"a:1", "b:2"}, []string{"a:1", "b:2"}},
		{"looks no further than that", Limits{Batch: 1}, []string{"a:1", "a:2", "a:3", "a:4", "b:5"}, []string{"a:1", "a:2", "a:3", "a:4", "b:5"}},
		{"nor for a full batch", Limits{Batch: 2}, []string{"a:1", "a:2", "a:3", "a:4", "a:5", "a:6", "a:7", "a:8", "b:9"}, []string{"a:1", "a:2 b:9", "a:3", "a:4", "a:5", "a:6", "a:7", "a:8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var q queue
			for _, what := range c.queued {
				q.push(wait(what, 10))
			}
			var batches []string
			for q.len > 0 {
				var names []string
				for _, w := range q.take(nil, c.limits.orDefault(), claims{}) {
					names = append(names, name(w))
				}
				batches = append(batches, strings.Join(names, " "))
			}
			if !slices.Equal(batches, c.batches) {
				t.Errorf("batches %q, want %q", batches, c.batches)
			}
			if q.bytes != 0 || q.first != nil || q.last != nil {
				t.Errorf("the empty queue has %d bytes, %v, %v", q.bytes, q.first, q.last)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	for _, leave := range []string{"0", "1", "2", "01", "12", "02", "10", "20", "21", "012", "210"} {
		var q queue
		all := []*waiting{wait("a:1", 1), wait("b:2", 1), wait("c:3", 1)}
		for _, w := range all {
			q.push(w)
		}
		for _, i := range leave {
			q.remove(all[i-'0'])
		}
		n := 0
		for w := q.first; w != nil; w = w.next {
			if n++; !w.queued || strings.ContainsRune(leave, rune('0'+slices.Index(all, w))) {
				t.Errorf("%s left, %s is there", leave, name(w))
			}
		}
		if n != q.len || n != q.bytes || n != 3-len(leave) {
			t.Errorf("%s left: %d there, len %d, %d bytes", leave, n, q.len, q.bytes)
		}
	}
}

// BenchmarkTake fills a queue and takes batches from it.
func BenchmarkTake(b *testing.B) {
	const n = 512
	all := make([]*waiting, n)
	for i := range all {
		all[i] = wait(fmt.Sprintf("aggregate-%d:id-%d", i, i), 500)
	}
	var q queue
	batch, claimed := make([]*waiting, 0, n), claims{}
	for b.Loop() {
		for _, w := range all {
			q.push(w)
		}
		batch = q.take(batch[:0], Limits{}.orDefault(), claimed)
		clear(claimed)
		if len(batch) != n {
			b.Fatal(len(batch))
		}
	}
}
