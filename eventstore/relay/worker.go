package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/internal/crash"
)

// window is how many events are on their way to the server at once.
const window = 512

// worker carries one stream.
type worker struct {
	r      *Relay
	stream string
	log    *slog.Logger
	buffer buffer
	seen   bool   // the stream was there; only its own goroutine touches it
	last   string // id of the stream's last event, as far as it is known; as above

	floors sync.Mutex // held while durables are compared with what is saved

	mu    sync.Mutex
	state Status
	from  uint64 // where the stream is to begin when it is made anew; 0: as always
}

func (w *worker) status() Status {
	w.mu.Lock()
	state := w.state
	w.mu.Unlock()
	state.Head = max(state.Relayed, w.buffer.newest())
	return state
}

func (w *worker) relayed(position uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Relayed = position
}

// standBy is what a worker does while another relay leads.
func (w *worker) standBy() {
	w.buffer.forget()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Problem, w.state.Lag = "", nil
}

// became notes what keeps the worker from relaying, and logs it once.
func (w *worker) became(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	w.mu.Lock()
	before := w.state.Problem
	w.state.Problem = problem
	at := w.state.Relayed
	w.mu.Unlock()
	switch problem {
	case before:
	case "":
		w.log.Info("relaying", "position", at)
	default:
		w.log.Warn("not relaying", "error", err)
	}
}

// run compares, relays until something goes wrong, and begins again.
func (w *worker) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 10*time.Millisecond, 2*time.Second
	for ctx.Err() == nil {
		before := w.status().Relayed
		err := w.relay(ctx)
		if ctx.Err() != nil {
			return
		}
		if w.status().Relayed > before {
			wait.Reset()
		}
		if !errors.Is(err, errBehind) { // that one is mended by looking again
			w.became(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// errBehind says that the stream's last sequence is not what was thought:
// another relay is at work, or a message was lost on its way.
var errBehind = errors.New("the stream's last sequence has moved")

// relay makes sure that the stream matches SQL, and then carries what comes.
func (w *worker) relay(ctx context.Context) error {
	last, err := w.prepare(ctx)
	if err != nil {
		return err
	}
	w.relayed(last)
	if w.buffer.newest() <= last {
		w.became(nil)
	}
	stop, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() { failed <- w.keepFloors(stop) })
	defer func() { cancel(); wg.Wait() }()

	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if last, err = w.carry(ctx, last); err != nil {
			return err
		}
		w.became(nil) // not before something was stored, if there was something
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-w.buffer.ready:
		case <-ticker.C:
			// Somebody else's commit, or a buffer that overflowed.
			if err := w.look(ctx, last); err != nil {
				return err
			}
		}
	}
}

// look finds out, when all seems quiet, whether events are in SQL that nobody
// told of, and whether the stream is still what it was.
func (w *worker) look(ctx context.Context, last uint64) error {
	head, err := w.r.backend.Head(ctx, w.stream)
	if err != nil {
		return err
	}
	w.buffer.heard(head)
	if head < last {
		return w.cut(last)
	}
	if _, err := w.following(ctx, last, 0); err != nil {
		return err
	}
	s, err := w.find(ctx)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if info.State.LastSeq != last || !envelope.Ready(info.Config.Metadata) {
		return errBehind
	}
	return nil
}

// carry publishes everything from last on that there is, and answers the last
// position that is stored.
func (w *worker) carry(ctx context.Context, last uint64) (uint64, error) {
	for ctx.Err() == nil && w.buffer.newest() > last {
		var err error
		events, other := w.buffer.after(last, w.last, 4*window)
		switch {
		case other:
			return last, w.cut(last)
		case len(events) > 0:
			last, err = w.publish(ctx, last, events)
		default:
			last, err = w.carryFromSQL(ctx, last)
		}
		if err != nil {
			return last, err
		}
	}
	return last, ctx.Err()
}

// cut says that SQL does not go on from the stream's end: it has lost events
// that were relayed, as a database does that was restored under us.
func (w *worker) cut(last uint64) error {
	return w.mismatch("sequence %d is an event that SQL no longer has", last)
}

// following reads what follows the stream's last event, at most n events. It
// reads that one too, and compares it.
func (w *worker) following(ctx context.Context, last uint64, n int) ([]eventstore.Event, error) {
	batch, size := make([]eventstore.Event, 0, n), 0
	from := last + 1
	if w.last != "" {
		from, n = last, n+1
	}
	if n == 0 {
		return nil, nil
	}
	found := from > last // there is none to compare
	for e, err := range w.r.backend.ReadStream(ctx, eventstore.StreamRead{Stream: w.stream, From: from, Limit: n}) {
		if err != nil {
			return nil, err
		}
		if !found {
			if e.Position != last || e.ID != w.last {
				return nil, w.cut(last)
			}
			found = true
			continue
		}
		batch = append(batch, e)
		if size += e.Size(); size >= maxBufferedBytes {
			break // the rest comes with the next batch
		}
	}
	if !found {
		return nil, w.cut(last)
	}
	return batch, nil
}

// carryFromSQL publishes what memory does not have.
func (w *worker) carryFromSQL(ctx context.Context, last uint64) (uint64, error) {
	batch, err := w.following(ctx, last, 4*window)
	if err != nil {
		return last, err
	}
	if len(batch) == 0 {
		w.buffer.notThere(last) // whoever told of more was wrong
	}
	return w.publish(ctx, last, batch)
}

// publish sends events that follow last, at most window of them unanswered,
// and returns when all are stored, or at the first that is not.
func (w *worker) publish(ctx context.Context, last uint64, events []eventstore.Event) (uint64, error) {
	futures := make([]jetstream.PubAckFuture, 0, len(events))
	var at []time.Time // when each was sent, if somebody wants to know
	sent := 0
	for done := 0; done < len(events); {
		for sent < len(events) && sent-done < window {
			e := events[sent]
			if sent > 0 && e.Position != events[sent-1].Position+1 || sent == 0 && e.Position != last+1 {
				return last, fmt.Errorf("relay %s: events before position %d are missing", w.stream, e.Position)
			}
			if w.r.opts.Relayed != nil {
				at = append(at, time.Now())
			}
			future, err := w.r.js.PublishMsgAsync(&nats.Msg{
				Subject: envelope.FeedSubject(w.stream, e.Type), Header: envelope.Header(e), Data: e.Data,
			}, jetstream.WithMsgID(e.ID), jetstream.WithExpectLastSequence(e.Position-1), jetstream.WithStallWait(apiTimeout))
			if err != nil {
				return last, fmt.Errorf("relay %s: publish position %d: %w", w.stream, e.Position, err)
			}
			futures = append(futures, future)
			sent++
		}
		crash.At(crash.AfterPublish)
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case ack := <-futures[done].Ok():
			if ack.Sequence != last+1 {
				// The server knew the id under another sequence.
				return last, fmt.Errorf("relay %s: position %d is sequence %d", w.stream, last+1, ack.Sequence)
			}
			last, w.last = last+1, events[done].ID
			if w.r.opts.Relayed != nil {
				w.r.opts.Relayed(events[done], at[done])
			}
			done++
		case err := <-futures[done].Err():
			return last, w.publishError(last+1, err)
		}
	}
	w.relayed(last)
	return last, nil
}

// publishError tells a lost race, which looking again mends, from the rest.
func (w *worker) publishError(position uint64, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return fmt.Errorf("relay %s: publish position %d: %w: %w", w.stream, position, errBehind, err)
	}
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrAsyncPublishTimeout) {
		// A server whose disk was full stores nothing until it is started again.
		return fmt.Errorf("relay %s: publish position %d: %w: if NATS's disk was full or its files are gone, mend that and restart the server; or have the stream made anew, with the command refill %s",
			w.stream, position, err, w.stream)
	}
	return fmt.Errorf("relay %s: publish position %d: %w", w.stream, position, err)
}

// find looks the stream up.
func (w *worker) find(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := w.r.js.Stream(ctx, w.stream)
	if err != nil {
		return nil, fmt.Errorf("find stream %s: %w", w.stream, err)
	}
	return s, nil
}
