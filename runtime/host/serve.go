package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/function"
)

// openServer has a function serve its own protocol.
func (h *Host) openServer(d *function.Server) error {
	serving, err := d.Open(&port{h: h, protocol: d.Subject(), running: make(chan struct{}, h.f.Concurrency)})
	if err != nil {
		return fmt.Errorf("serve %s: %w", d.Subject(), err)
	}
	h.servers = append(h.servers, serving)
	return nil
}

// Serves tells whether the function asks others for its answers: those must run
// for as long as it finishes.
func (h *Host) Serves() bool { return len(h.servers) > 0 }

// port implements function.Port.
type port struct {
	h        *Host
	protocol string
	running  chan struct{} // one place for each call
}

const traceHeader = "traceparent"

// codeGone is what a call is counted under whose caller did not wait for the
// answer; some servers of HTTP have it.
const codeGone function.Code = 499

func (p *port) Operation(name, subject string) function.Operation {
	stats := p.h.service.Endpoint(name, subject, ofKind(p.protocol))
	p.h.opts.Observer.Door(p.h.f.Name, subject)
	return func(ctx context.Context, handle func(context.Context) error) *function.Refusal {
		cause := function.CauseOf(ctx)
		began := time.Now()
		observed := p.h.opts.Observer.Observe(Taken{
			Function: p.h.f.Name, Door: subject, Subject: subject, Header: nats.Header{traceHeader: {cause.Traceparent}}, At: began,
		})
		defer observed.End()
		if own := observed.Traceparent(); own != "" {
			cause.Traceparent = own
			ctx = function.WithCause(ctx, cause)
		}
		ctx = observed.Context(ctx)
		err := p.run(ctx, observed, handle)
		took, failure, code := time.Since(began), "", codeDone
		var no *function.Refusal
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.Canceled) && p.h.work.Err() == nil:
			no = &function.Refusal{Code: codeGone, Reason: "the caller went away"} // which nobody reads
		default:
			no = p.h.refusal(ctx, subject, err)
		}
		if no != nil {
			code = strconv.Itoa(int(no.Code))
			failure = code + ":" + no.Error()
		}
		stats.Done(took, failure)
		observed.Settle(code, took, err)
		return no
	}
}

// run calls handle as soon as it came, or not at all.
func (p *port) run(ctx context.Context, observed Observation, handle func(context.Context) error) (err error) {
	select {
	case p.running <- struct{}{}:
		defer func() { <-p.running }()
	default:
		return errTooMany
	}
	defer recovered(&err)
	observed.Begin()
	ctx, cancel := context.WithTimeout(ctx, p.h.f.Deadline)
	defer cancel()
	defer context.AfterFunc(p.h.work, cancel)()
	return handle(ctx)
}

func (p *port) Ask(ctx context.Context, subject string, request []byte) ([]byte, error) {
	m := &nats.Msg{Subject: subject, Data: request, Header: nats.Header{}}
	cause := function.CauseOf(ctx)
	for name, value := range map[string]string{nats.MsgIdHdr: printable(cause.ID), traceHeader: printable(cause.Traceparent)} {
		if value != "" {
			m.Header.Set(name, value)
		}
	}
	if until, ok := ctx.Deadline(); ok {
		m.Header.Set(TimeoutHeader, max(time.Until(until), time.Millisecond).String())
	}
	if !p.h.opts.Conn.IsConnected() { // a request would wait for the connection, and its caller with it
		return nil, fmt.Errorf("ask %s: %w: %w", subject, function.ErrUnavailable, errNotConnected)
	}
	reply, err := p.h.opts.Conn.RequestMsgWithContext(ctx, m)
	switch {
	case err == nil:
		return answered(subject, reply)
	case errors.Is(err, nats.ErrNoResponders):
		return nil, &function.Refusal{Code: function.CodeUnavailable, Reason: "nobody answers " + subject + "; try again later"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, &function.Refusal{Code: function.CodeUnavailable, Reason: subject + " did not answer in time; try again later"}
	case errors.Is(err, context.Canceled):
		return nil, err
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, function.Invalid("body", "is larger than the %d bytes that NATS carries", p.h.opts.Conn.MaxPayload())
	default:
		return nil, fmt.Errorf("ask %s: %w: %w", subject, function.ErrUnavailable, err)
	}
}

// codes are those that an endpoint refuses with.
var codes = map[function.Code]bool{
	function.CodeInvalid: true, function.CodeNotFound: true, function.CodeConflict: true, function.CodeRejected: true,
	function.CodeOverloaded: true, function.CodeInternal: true, function.CodeUnavailable: true,
}

// answered is what an endpoint's message says: the reply, or its refusal.
func answered(subject string, m *nats.Msg) ([]byte, error) {
	no := Refused(m)
	switch {
	case no == nil:
		return m.Data, nil
	case !codes[no.Code]:
		return nil, fmt.Errorf("ask %s: refused with the code %.20q: %.500s", subject, m.Header.Get(micro.ErrorCodeHeader), no.Error())
	}
	return nil, no
}

func (p *port) Follow(stream string, changed func(aggregate string)) (stop func(), err error) {
	conn := p.h.opts.Conn
	sub, err := conn.Subscribe(stream+".>", func(m *nats.Msg) {
		// Anyone may publish there; what is no event is passed over.
		if e, err := envelope.Parse(m.Subject, m.Header, m.Data, 0); err == nil {
			changed(e.Aggregate)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w: %w", stream, function.ErrUnavailable, err)
	}
	back := conn.StatusChanged(nats.CONNECTED)
	go func() {
		for range back {
			changed("") // what came in between is lost
		}
	}()
	return func() {
		conn.RemoveStatusListener(back)
		_ = sub.Unsubscribe() // only a closed connection refuses
	}, nil
}

func (p *port) Logger() *slog.Logger { return p.h.log }
