package host

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

// codeDone is what a request that was answered is counted under.
const codeDone function.Code = 200

// waitingPerSlot is how many requests may wait for each that runs: a longer queue
// would have more of them answered late, and no more of them answered. Who comes
// when all places are taken is told at once.
const waitingPerSlot = 1

// slotsPerTurn is how many slots there are for each request that may wait for its
// turn at one aggregate: else those of a single one would take all places, and the
// endpoint from all others. At least one may wait.
const slotsPerTurn = 4

// TimeoutHeader is how long the caller waits for the answer, a duration like 2s.
// NATS itself does not tell. Who has given up is not begun, and a handler's
// context ends when its caller gives up.
const TimeoutHeader = "Request-Timeout"

// requestDoor answers the requests of one subject.
type requestDoor struct {
	h      *Host
	door   *function.Request
	stats  *discovery.Endpoint
	jobs   *keyed
	sub    *nats.Subscription
	closed chan struct{}
}

// asked is a request in hand.
type asked struct {
	msg      *nats.Msg
	began    time.Time
	observed Observation
}

func (h *Host) openRequest(d *function.Request, stats *discovery.Endpoint) (*requestDoor, error) {
	r := &requestDoor{
		h: h, door: d, stats: stats,
		jobs:   newKeyed(h.f.Concurrency, h.f.Concurrency*(1+waitingPerSlot), max(1, h.f.Concurrency/slotsPerTurn)),
		closed: make(chan struct{}),
	}
	sub, err := h.opts.Conn.QueueSubscribe(d.Subject(), h.f.Name, r.take)
	if err != nil {
		return nil, fmt.Errorf("listen to %q: %w", d.Subject(), err)
	}
	sub.SetClosedHandler(func(string) { close(r.closed) })
	r.sub = sub
	return r, nil
}

// take decodes a request and finds it a place; it must not wait.
func (r *requestDoor) take(m *nats.Msg) {
	a := asked{msg: m, began: time.Now()}
	a.observed = r.h.opts.Observer.Observe(Taken{
		Function: r.h.f.Name, Door: r.door.Subject(), Subject: m.Subject, Header: m.Header, Size: len(m.Data), At: a.began,
	})
	if r.jobs.full() { // before it costs anything
		r.answer(a, nil, errTooMany)
		return
	}
	patience, err := r.patience(m)
	var prepared function.Prepared
	if err == nil {
		prepared, err = r.prepare(m.Data)
	}
	if err != nil {
		r.answer(a, nil, err)
		return
	}
	err = r.jobs.add(prepared.Aggregate, func() {
		waited := time.Since(a.began)
		within := min(r.h.f.Deadline, patience-waited)
		if waited > r.h.f.Deadline || within <= 0 { // nobody waits for the answer any more
			r.answer(a, nil, &function.Refusal{
				Code: function.CodeOverloaded, Reason: fmt.Sprintf("waited %v for its turn, and was not begun; try again later", waited.Round(time.Millisecond)),
			})
			return
		}
		reply, err := r.run(a, prepared, within)
		r.answer(a, reply, err)
	})
	switch {
	case errors.Is(err, errFull):
		r.answer(a, nil, errTooMany)
	case errors.Is(err, errKeyFull):
		r.answer(a, nil, errTooManyOfOne)
	}
}

var (
	errTooMany      = &function.Refusal{Code: function.CodeOverloaded, Reason: "too many requests wait already; try again later"}
	errTooManyOfOne = &function.Refusal{Code: function.CodeOverloaded, Reason: "too many requests for this one wait already; try again later"}
)

// patience is how long the caller waits at the most. One that does not tell has
// the deadline for its turn, and then the deadline for the handler.
func (r *requestDoor) patience(m *nats.Msg) (time.Duration, error) {
	said := m.Header.Get(TimeoutHeader)
	if said == "" {
		return 2 * r.h.f.Deadline, nil
	}
	d, err := time.ParseDuration(said)
	if err != nil || d <= 0 {
		return 0, function.Invalid(TimeoutHeader, "is %.40q; a header with a duration like 2s is meant", said)
	}
	return d, nil
}

func (r *requestDoor) prepare(data []byte) (p function.Prepared, err error) {
	defer recovered(&err)
	return r.door.Prepare(data)
}

// run calls the handler. The reply is JSON.
func (r *requestDoor) run(a asked, p function.Prepared, within time.Duration) (reply []byte, err error) {
	defer recovered(&err)
	a.observed.Begin()
	id := a.msg.Header.Get(nats.MsgIdHdr)
	if id == "" {
		id = nuid.Next()
	}
	ctx := function.WithCause(a.observed.Context(r.h.work), function.Cause{
		ID: printable(id), Traceparent: printable(a.msg.Header.Get("traceparent")), Time: time.Now(),
	})
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	answer, err := p.Answer(ctx, r.h.runner)
	if err != nil {
		return nil, err
	}
	reply, err = json.Marshal(answer, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	if most := r.h.opts.Conn.MaxPayload(); most > 0 && int64(len(reply)) > most {
		return nil, function.Reject("the answer would be %d bytes, and NATS carries %d; ask for less", len(reply), most)
	}
	return reply, nil
}

// answer sends the reply, or the refusal, and counts it.
func (r *requestDoor) answer(a asked, reply []byte, err error) {
	defer a.observed.End()
	ctx := a.observed.Context(r.h.work)
	out := &nats.Msg{Subject: a.msg.Reply, Data: reply}
	failure, code := "", codeDone
	if err != nil {
		no := r.h.refusal(ctx, r.door.Subject(), err)
		code = no.Code
		failure = fmt.Sprintf("%d:%s", no.Code, no)
		out.Header, out.Data = refuse(no)
	}
	took := time.Since(a.began)
	r.stats.Done(took, failure)
	a.observed.Settle(strconv.Itoa(int(code)), took, err)
	if a.msg.Reply == "" {
		return
	}
	if err := r.h.opts.Conn.PublishMsg(out); err != nil {
		// The caller times out and asks again; all requests are safe to repeat.
		r.h.log.WarnContext(ctx, "reply was not sent", "subject", a.msg.Subject, "error", err)
	}
}

// refusal is what the caller may see of an error. What they may not is in the
// log, under the id that they see.
func (h *Host) refusal(ctx context.Context, subject string, err error) *function.Refusal {
	if no := function.RefusalOf(err, h.work.Err() != nil); no != nil {
		if no.Code == function.CodeUnavailable {
			h.log.WarnContext(ctx, "request was not handled", "subject", subject, "error", err)
		}
		return no
	}
	id := nuid.Next()
	h.log.ErrorContext(ctx, "request failed", "subject", subject, "error_id", id, "error", err)
	return &function.Refusal{Code: function.CodeInternal, Reason: "internal error " + id}
}

// drain lets go of the subject, then waits for what had come before.
func (r *requestDoor) drain(ctx context.Context) {
	if !r.h.opts.Conn.IsConnected() {
		_ = r.sub.Unsubscribe() // nothing can come, and what came can't be answered
	} else if err := r.sub.Drain(); err == nil {
		select {
		case <-r.closed:
		case <-ctx.Done():
		}
	}
	// ctx ends the wait; Stop then ends the handlers' contexts.
	_ = r.jobs.wait(ctx)
	r.jobs.rest()
}

// panicError is a panic in a handler, as an error.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &panicError{p, debug.Stack()}
	}
}

// headerText makes one line of at most 512 bytes, so that it can be a header.
func headerText(s string) string {
	const most = 512
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}

// printable keeps an outside value out of the store's metadata when it does
// not fit there.
func printable(s string) string {
	if len(s) > 200 {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}
