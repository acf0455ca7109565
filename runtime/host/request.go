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
const codeDone = "200"

// waitingPerSlot is how many requests may wait for each that runs: a longer queue
// would have more of them answered late, and no more of them answered. Who comes
// when all places are taken is told at once.
const waitingPerSlot = 1

// placesPerTurn is how many places there are, to run and to wait, for each request
// that may wait for its turn at one aggregate: else those of a single one would
// take all places, and the endpoint from all others. At least one may wait.
const placesPerTurn = 8

// unseenPerPlace is how many requests may lie unseen in the client for each place.
// To refuse one takes some microseconds.
const unseenPerPlace = 8

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
	limit  *limit
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
		closed: make(chan struct{}),
	}
	places := placesOf(h.f.Concurrency)
	r.jobs = newKeyed(h.f.Concurrency, places, turns(places))
	r.limit = newLimit(time.Now(), h.f.Concurrency, func(places int) { r.jobs.hold(places, turns(places)) })
	sub, err := h.opts.Conn.QueueSubscribe(d.Subject(), h.f.Name, r.take)
	if err != nil {
		return nil, fmt.Errorf("listen to %q: %w", d.Subject(), err)
	}
	sub.SetClosedHandler(func(string) { close(r.closed) })
	r.sub = sub
	return r, nil
}

// placesOf is how many requests an endpoint has places for, to run and to wait.
func placesOf(concurrency int) int { return concurrency * (1 + waitingPerSlot) }

// turns is how many of the places are for those that wait for their turn at one
// aggregate.
func turns(places int) int { return max(1, places/placesPerTurn) }

// take decodes a request and finds it a place; it must not wait.
func (r *requestDoor) take(m *nats.Msg) {
	a := asked{msg: m, began: time.Now()}
	a.observed = r.h.opts.Observer.Observe(Taken{
		Function: r.h.f.Name, Door: r.door.Subject(), Subject: m.Subject, Header: m.Header, Size: len(m.Data), At: a.began,
	})
	r.limit.arrive(a.began, r.jobs.holds())
	if r.jobs.full() || r.isBehind(m.Sub) { // before it costs anything
		r.refuse(a, tooMany)
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
	err = r.jobs.add(prepared.Aggregate, func(waited bool) {
		after := time.Since(a.began)
		within := min(r.h.f.Deadline, patience-after)
		if after > r.h.f.Deadline || within <= 0 { // nobody waits for the answer any more
			r.answer(a, nil, &function.Refusal{
				Code: function.CodeOverloaded, Reason: fmt.Sprintf("waited %v for its turn, and was not begun; try again later", after.Round(time.Millisecond)),
			})
			return
		}
		reply, err := r.run(a, prepared, within)
		r.answer(a, reply, err)
		if !waited { // for its turn at one aggregate, which says nothing of the others
			r.limit.done(time.Since(a.began), r.jobs.holds(), err != nil)
		}
	})
	switch {
	case errors.Is(err, errFull):
		r.refuse(a, tooMany)
	case errors.Is(err, errKeyFull):
		r.refuse(a, tooManyOfOne)
	}
}

// isBehind tells whether more have come that nobody has looked at yet than could
// be taken soon: then this one is late already, and so would be those behind it.
func (r *requestDoor) isBehind(sub *nats.Subscription) bool {
	unseen, _, err := sub.Pending()
	return err == nil && unseen > unseenPerPlace*placesOf(r.h.f.Concurrency)
}

var (
	errTooMany      = &function.Refusal{Code: function.CodeOverloaded, Reason: "too many requests wait already; try again later"}
	errTooManyOfOne = &function.Refusal{Code: function.CodeOverloaded, Reason: "too many requests for this one wait already; try again later"}

	// What is refused at once costs next to nothing: these are made before.
	tooMany, tooManyOfOne = newDenial(errTooMany), newDenial(errTooManyOfOne)
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
	ctx := function.WithCause(a.observed.Context(r.h.work), function.Cause{
		ID: requestID(a.msg.Header.Get(nats.MsgIdHdr)), Traceparent: printable(a.msg.Header.Get("traceparent")), Time: time.Now(),
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

// denial is a refusal as it goes out.
type denial struct {
	err           *function.Refusal
	code, failure string
	header        nats.Header
	body          []byte
}

func newDenial(no *function.Refusal) *denial {
	code := strconv.Itoa(int(no.Code))
	d := &denial{err: no, code: code, failure: code + ":" + no.Error()}
	d.header, d.body = refuse(no)
	return d
}

// refuse answers what is not held, and counts it.
func (r *requestDoor) refuse(a asked, d *denial) {
	defer a.observed.End()
	if d == tooMany {
		r.limit.refuse()
	}
	r.stats.Refused(d.failure)
	a.observed.Settle(d.code, time.Since(a.began), d.err)
	r.send(a, &nats.Msg{Subject: a.msg.Reply, Header: d.header, Data: d.body})
}

// answer sends the reply, or the refusal, and counts it.
func (r *requestDoor) answer(a asked, reply []byte, err error) {
	defer a.observed.End()
	out := &nats.Msg{Subject: a.msg.Reply, Data: reply}
	failure, code := "", codeDone
	if err != nil {
		d := newDenial(r.h.refusal(a.observed.Context(r.h.work), r.door.Subject(), err))
		failure, code, out.Header, out.Data = d.failure, d.code, d.header, d.body
	}
	took := time.Since(a.began)
	r.stats.Done(took, failure)
	a.observed.Settle(code, took, err)
	r.send(a, out)
}

func (r *requestDoor) send(a asked, out *nats.Msg) {
	if a.msg.Reply == "" {
		return
	}
	if err := r.h.opts.Conn.PublishMsg(out); err != nil {
		// The caller times out and asks again; all requests are safe to repeat.
		r.h.log.WarnContext(a.observed.Context(r.h.work), "reply was not sent", "subject", a.msg.Subject, "error", err)
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

// requestID is the id of a request: what the caller gave it, or, where that can't
// stand in an event, an id that is derived of it.
func requestID(given string) string {
	switch {
	case given == "":
		return nuid.Next()
	case printable(given) == "":
		return function.DeriveID("request", given)
	}
	return given
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
