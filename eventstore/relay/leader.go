package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Of several relays on one database one leads, so that they don't fight over
// the streams; the sequence that every message expects is what keeps them from
// harm, and not the lease. The lease is a key that goes with its age.
const (
	leaseBucket = "RELAY"
	leaseKey    = "leader"
	leaseFor    = 2 * time.Second
	renewEvery  = 500 * time.Millisecond
	askEvery    = 250 * time.Millisecond

	// headSubject.STREAM is where those who don't lead tell of a commit: the
	// body is the position of its last event.
	headSubject = "head."
)

// lease is the right to lead, for as long as it is renewed.
type lease struct {
	kv       jetstream.KeyValue
	revision uint64
}

// takeTurns leads whenever this relay has the lease, until ctx ends.
func (r *Relay) takeTurns(ctx context.Context) error {
	told := ""
	for ctx.Err() == nil {
		l, err := r.acquire(ctx)
		switch {
		case err == nil:
			r.log.Info("leading: this event store relays")
			r.leadWhile(ctx, l)
			told = ""
			continue
		case errors.Is(err, jetstream.ErrKeyExists):
			told = "" // another leads
		case err.Error() != told:
			told = err.Error()
			r.log.Warn("no leader can be found", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(askEvery):
		}
	}
	return nil
}

// acquire takes the lease if nobody has it.
func (r *Relay) acquire(ctx context.Context) (*lease, error) {
	if err := CheckServer(r.nc); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	kv, err := r.js.KeyValue(ctx, leaseBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = r.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: leaseBucket, Description: "which event store relays",
			TTL: leaseFor, Storage: jetstream.MemoryStorage, Replicas: r.opts.Replicas,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("find lease: %w", err)
	}
	revision, err := kv.Create(ctx, leaseKey, []byte(r.opts.Name))
	if err != nil {
		return nil, fmt.Errorf("take lease: %w", err)
	}
	return &lease{kv, revision}, nil
}

// leadWhile leads until ctx ends or the lease is lost.
func (r *Relay) leadWhile(ctx context.Context, l *lease) {
	leading, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.lead(leading)
	}()
	err := l.keep(ctx)
	stop()
	<-done
	if ctx.Err() == nil {
		r.log.Warn("no longer leading", "error", err)
		return
	}
	// The next one need not wait for the lease's end.
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewEvery)
	defer cancel()
	_ = l.kv.Delete(release, leaseKey, jetstream.LastRevision(l.revision)) // else it ends by itself
}

// keep renews the lease until ctx ends or it is lost.
func (l *lease) keep(ctx context.Context) error {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for renewed := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		try, cancel := context.WithTimeout(ctx, renewEvery)
		revision, err := l.kv.Update(try, leaseKey, []byte("renewed"), l.revision)
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			l.revision, renewed = revision, time.Now()
		case errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
			return fmt.Errorf("renew lease: another has it: %w", err)
		case time.Since(renewed) > leaseFor-renewEvery:
			return fmt.Errorf("renew lease: %w", err)
		}
	}
}

// listen has the leader hear of commits elsewhere. Who tells may be anyone:
// what it says is no more than a reason to look.
func (r *Relay) listen(ctx context.Context) error {
	sub, err := r.nc.Subscribe(headSubject+"*", func(m *nats.Msg) {
		position, err := strconv.ParseUint(string(m.Data), 10, 64)
		if err != nil {
			return
		}
		r.mu.Lock()
		w := r.workers[strings.TrimPrefix(m.Subject, headSubject)]
		leading := r.leading
		r.mu.Unlock()
		if w != nil && leading {
			w.buffer.hear(position)
		}
	})
	if err != nil {
		return fmt.Errorf("listen to commits: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // fails only on a closed connection
	return nil
}

// tell tells the leader of a commit. It never waits, and a message that is lost
// is made good within a second, when the leader looks.
func (r *Relay) tell(stream string, position uint64) {
	_ = r.nc.Publish(headSubject+stream, strconv.AppendUint(nil, position, 10))
}
