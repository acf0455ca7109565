package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/function"
)

// pace is how long things may take, and how often they are done.
type pace struct {
	// read is how long a request may take to arrive.
	read time.Duration
	// beat is how often it says that it is there, and looks whether it missed
	// something.
	beat time.Duration
	// again is when it looks again after it could not.
	again time.Duration
	// write is how long a caller may take to accept what is sent.
	write time.Duration
}

// watch tells what happened to an order, and goes on telling until it ended. It
// begins to listen and then reads, and sends nothing but what it read, each version
// after the one before: so there is no gap and nothing twice.
func (a *api) watch(ctx context.Context, c *call) (*reply, error) {
	seen := uint64(0)
	if last := c.r.Header.Get(lastHeader); last != "" {
		var err error
		if seen, err = strconv.ParseUint(last, 10, 64); err != nil {
			return nil, function.Invalid(lastHeader, "is %.80q; it must be the id of an event, a whole number", last)
		}
	}
	w, err := a.watches.add(c.id())
	if err != nil {
		return nil, err
	}
	s := &story{api: a, id: w.id, seen: seen, next: 1}
	if err := s.read(ctx); err != nil {
		a.watches.remove(w)
		return nil, err
	}
	if s.ended() && len(s.fresh) == 0 { // a browser would come again and again
		a.watches.remove(w)
		return &reply{status: http.StatusNoContent}, nil
	}
	header := http.Header{
		"Content-Type": {"text/event-stream"}, "Cache-Control": {"no-store"},
		"X-Accel-Buffering": {"no"}, // else nginx keeps the events to itself
	}
	if c.r.Method == http.MethodHead {
		a.watches.remove(w)
		return &reply{status: http.StatusOK, header: header}, nil
	}
	return &reply{status: http.StatusOK, header: header, stream: func(out http.ResponseWriter) {
		defer a.watches.remove(w)
		s.tell(c.r.Context(), w, &eventStream{out, http.NewResponseController(out), a.pace.write})
	}}, nil
}

const lastHeader = "Last-Event-ID"

// story is an order's events as a watcher gets to know them.
type story struct {
	api   *api
	id    string
	seen  uint64 // what the caller has
	order order.Order
	next  uint64 // version; 0 when there is no more to read for now
	fresh []event
}

// event is one of orders.history.
type event struct {
	Version uint64
	Type    string
	Schema  int
	Data    json.RawMessage
	text    []byte // all of it, on one line
}

// ended tells whether nothing more is to come.
func (s *story) ended() bool { return s.next == 0 && s.order.Done() }

// read reads a page of what happened since, into fresh.
func (s *story) read(ctx context.Context) error {
	s.fresh = nil
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	request, err := json.Marshal(map[string]any{"order_id": s.id, "from_version": s.order.Version + 1})
	if err != nil {
		return fmt.Errorf("ask for the history: %w", err)
	}
	select {
	case s.api.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	body, err := s.api.port.Ask(ctx, "orders.history", request)
	<-s.api.reading
	if err != nil {
		return err
	}
	var page struct {
		Events      []jsontext.Value `json:"events"`
		NextVersion uint64           `json:"next_version"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	for _, text := range page.Events {
		e := event{}
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		var line bytes.Buffer
		if err := json.Compact(&line, text); err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		e.text = line.Bytes()
		happened, err := s.order.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			happened = order.Unknown{Type: e.Type} // it counts a version, and can be shown
		}
		if s.order = s.order.Evolve(happened); e.Version > s.seen {
			s.fresh = append(s.fresh, e)
		}
	}
	s.next = page.NextVersion
	return nil
}

// tell sends what was read, and reads on whenever there may be more, until nothing
// more can happen to the order, the caller is gone or too slow, or this process
// stops.
func (s *story) tell(ctx context.Context, w *watcher, out *eventStream) {
	if out.write("retry: 1000\n\n") != nil {
		return
	}
	wait := time.NewTimer(s.api.pace.beat)
	defer wait.Stop()
	for failed := false; ; {
		for _, e := range s.fresh {
			if out.write("id: %d\nevent: %s\ndata: %s\n\n", e.Version, e.Type, e.text) != nil {
				return
			}
		}
		if s.ended() {
			_ = out.write("event: end\ndata: {\"status\":%q,\"version\":%d}\n\n", s.order.Status, s.order.Version) // the last word
			return
		}
		pause := s.api.pace.beat
		if s.next == 0 || failed {
			select {
			case <-w.wake:
			case <-wait.C:
				if out.write(": still here\n\n") != nil {
					return
				}
			case <-s.api.watches.closed:
				_ = out.write(": stopping; come again with Last-Event-ID\n\n") // the last word
				return
			case <-ctx.Done():
				return
			}
		}
		err := s.read(ctx)
		if failed = err != nil; failed {
			pause = s.api.pace.again // what is away comes back, and nothing is lost meanwhile
		}
		wait.Reset(pause)
	}
}

// eventStream sends server-sent events.
type eventStream struct {
	w    io.Writer
	rc   *http.ResponseController
	wait time.Duration
}

// write sends it at once; an error says that the caller is gone, or too slow.
func (s *eventStream) write(format string, args ...any) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(s.wait)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, format, args...); err != nil {
		return err
	}
	return s.rc.Flush()
}
