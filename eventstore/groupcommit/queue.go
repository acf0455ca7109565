package groupcommit

// scanFactor bounds how far into the queue a batch is looked for, past appends
// that must wait for a later one: this many times the size of a batch. A queue
// full of appends to one hot aggregate is then no work for every commit.
const scanFactor = 4

// waiting is a request in the queue, or taken from it. The committer's mutex
// guards queued and the links.
type waiting struct {
	Request
	size    int
	outcome chan Outcome // holds one, so that nobody waits for a caller that left

	queued     bool
	prev, next *waiting
}

// queue is a list, so that whoever gives up leaves it at once, and whoever must
// wait keeps his place without being moved.
type queue struct {
	first, last *waiting
	len, bytes  int
}

func (q *queue) push(w *waiting) {
	w.queued, w.prev = true, q.last
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.len++
	q.bytes += w.size
}

func (q *queue) remove(w *waiting) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
	q.len--
	q.bytes -= w.size
}

// take moves the next batch from the queue to batch. A request of an aggregate,
// or with an id, that one before it in the queue has too stays for a later
// batch: so each is decided on what those before it left.
func (q *queue) take(batch []*waiting, limits Limits, claimed claims) []*waiting {
	bytes := 0
	w := q.first
	for scanned := 0; w != nil && scanned < scanFactor*limits.Batch; scanned++ {
		if len(batch) == limits.Batch || len(batch) > 0 && bytes+w.size > limits.BatchBytes {
			break
		}
		next := w.next
		if claimed.claim(&w.Request) {
			q.remove(w)
			batch = append(batch, w)
			bytes += w.size
		}
		w = next
	}
	return batch
}

// claims are the aggregates and ids that requests before this one have.
type claims map[claimKey]struct{}

type claimKey struct {
	id           bool // of an event, else of an aggregate
	stream, name string
}

// claim notes a request's aggregate and ids, and tells whether none was noted
// before. It notes them in any case: whoever comes later must wait for this
// request too.
func (c claims) claim(r *Request) bool {
	before := len(c)
	c[claimKey{stream: r.Stream, name: r.Aggregate}] = struct{}{}
	for i := range r.Events {
		c[claimKey{id: true, stream: r.Stream, name: r.Events[i].ID}] = struct{}{}
	}
	// Ids of one append differ, so every key is new or was another request's.
	return len(c)-before == 1+len(r.Events)
}
