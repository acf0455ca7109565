package gateway

import (
	"sync"

	"github.com/waybill-go/waybill/runtime/function"
)

// hub wakes the watchers of an order when something happened to it. It follows
// the stream while there are any, once for all of them, and hands on no events:
// each watcher reads what it has not seen. So a slow one holds up nobody and
// misses nothing, however many events it is behind.
type hub struct {
	follow      func(changed func(aggregate string)) (stop func(), err error)
	maxWatchers int
	closed      chan struct{} // when watchers are to end

	mu       sync.Mutex
	draining bool
	watchers map[string]map[*watcher]struct{} // by order
	count    int
	stop     func() // following
}

// watcher is one who waits for an order.
type watcher struct {
	id   string
	wake chan struct{} // holds one
}

func newHub(maxWatchers int, follow func(changed func(string)) (func(), error)) *hub {
	return &hub{follow: follow, maxWatchers: maxWatchers, closed: make(chan struct{}), watchers: map[string]map[*watcher]struct{}{}}
}

// add begins to listen for an order; remove ends it. What happens to the order
// from now on wakes the watcher.
func (h *hub) add(id string) (*watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.draining:
		return nil, &function.Refusal{Code: function.CodeUnavailable, Reason: "this process is stopping; try again"}
	case h.count >= h.maxWatchers:
		return nil, &function.Refusal{Code: function.CodeUnavailable, Reason: "too many watch already; try again later"}
	case h.count == 0:
		stop, err := h.follow(h.changed)
		if err != nil {
			return nil, err
		}
		h.stop = stop
	}
	w := &watcher{id: id, wake: make(chan struct{}, 1)}
	if h.watchers[id] == nil {
		h.watchers[id] = map[*watcher]struct{}{}
	}
	h.watchers[id][w] = struct{}{}
	h.count++
	return w, nil
}

func (h *hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers[w.id], w)
	if len(h.watchers[w.id]) == 0 {
		delete(h.watchers, w.id)
	}
	if h.count--; h.count == 0 {
		h.stop()
	}
}

// changed is told that something happened to an order; without one, that it may
// have to any.
func (h *hub) changed(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id != "" {
		wake(h.watchers[id])
		return
	}
	for _, all := range h.watchers {
		wake(all)
	}
}

func wake(watchers map[*watcher]struct{}) {
	for w := range watchers {
		select {
		case w.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// drain ends all watchers, and takes no more.
func (h *hub) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.draining {
		h.draining = true
		close(h.closed)
	}
}
