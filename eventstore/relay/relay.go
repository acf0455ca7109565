// Package relay carries events from the event store to JetStream, so that the
// event at position n is sequence n.
//
//	commit → buffer ─┐
//	         SQL ────┴→ feed.ORDERS.created → stream ORDERS: ORDERS.created
//
// There is no outbox and no cursor of its own: the stream's last sequence says
// how far it has come, and each message expects the one before it, so that two
// relays fence each other. Everything in JetStream may be lost: a stream that
// is gone is made anew from the lowest saved floor, and its durables with it.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
)

// Options of a relay.
type Options struct {
	// Streams are made at once, before their first event. Others are made
	// with it.
	Streams []string
	// Buckets are made when they are not there, so that they too come again when
	// JetStream lost everything. One that is there is left as it is.
	Buckets []jetstream.KeyValueConfig
	// Others are streams that are no copies of what is in SQL. They are made like
	// Buckets, with their durables.
	Others []Other
	// Durables are, by stream, those that functions make from its beginning: what
	// waits for one that nobody made yet is told too.
	Durables map[string][]jetstream.ConsumerConfig
	// MaxAge bounds how long JetStream keeps an event; zero for ever. SQL
	// keeps all.
	MaxAge time.Duration
	// Replicas of each stream. Default 1.
	Replicas int
	// Floors is how often the durables' floors are saved. Default 2 s.
	Floors time.Duration
	// Alone says that no other relay can be at work on this database, so that
	// none has to be asked for the lead.
	Alone bool
	// Name is this relay's in the lease; for people.
	Name string
	// Relayed is told of each event that JetStream has stored, and when it was
	// sent; may be nil. It must not wait.
	Relayed func(e eventstore.Event, sent time.Time)
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Other is a stream that others publish to.
type Other struct {
	Config   jetstream.StreamConfig
	Durables []jetstream.ConsumerConfig
}

const (
	maxStreams = 64
	// lookEvery is how often SQL is asked whether something was missed.
	lookEvery = time.Second
	// JetStream remembers ids for this long; the expected sequence is what
	// keeps an event from being stored twice.
	duplicates = 10 * time.Second
	apiTimeout = 5 * time.Second
)

// Relay carries the streams of one event store.
type Relay struct {
	backend eventstore.Backend
	nc      *nats.Conn
	js      jetstream.JetStream
	opts    Options
	log     *slog.Logger

	mu      sync.Mutex
	workers map[string]*worker
	leading bool
	wg      sync.WaitGroup
	ctx     context.Context //nolint:containedctx // that of Run, for workers that begin later
}

// New makes a relay; Run runs it. Make it before the first append.
func New(backend eventstore.Backend, nc *nats.Conn, o Options) (*Relay, error) {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Floors == 0 {
		o.Floors = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	// A publish that the server never answers must not stop the relay for good.
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2*window), jetstream.WithPublishAsyncTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("make relay: %w", err)
	}
	r := &Relay{backend: backend, nc: nc, js: js, opts: o, log: o.Logger, workers: map[string]*worker{}}
	for _, stream := range o.Streams {
		if err := eventstore.CheckStream(stream); err != nil {
			return nil, fmt.Errorf("make relay: %w", err)
		}
		r.worker(stream)
	}
	backend.OnCommit(r.committed)
	return r, nil
}

// committed takes the events of a commit of this process. It never waits.
func (r *Relay) committed(stream string, events []eventstore.Event) {
	w := r.worker(stream)
	if w == nil {
		return
	}
	r.mu.Lock()
	leading := r.leading || r.opts.Alone
	r.mu.Unlock()
	if leading {
		w.buffer.add(events)
		return
	}
	r.tell(stream, events[len(events)-1].Position)
}

// Run carries events until ctx ends; of several relays on one database, only
// while this one leads.
func (r *Relay) Run(ctx context.Context) error {
	if r.opts.Alone {
		r.lead(ctx)
		return nil
	}
	if err := r.listen(ctx); err != nil {
		return err
	}
	return r.takeTurns(ctx)
}

// lead carries events until ctx ends.
func (r *Relay) lead(ctx context.Context) {
	r.mu.Lock()
	r.leading, r.ctx = true, ctx
	for _, w := range r.workers {
		r.wg.Go(func() { w.run(ctx) })
	}
	r.mu.Unlock()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		r.discover(ctx)
		if n%bucketLooks == 0 {
			r.makeBuckets(ctx)
			r.makeOthers(ctx)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	r.mu.Lock()
	r.leading = false
	r.mu.Unlock()
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		w.standBy()
	}
}

// discover finds streams that got their first event elsewhere, or before this
// process began.
func (r *Relay) discover(ctx context.Context) {
	streams, err := r.backend.Streams(ctx)
	if err != nil {
		return // the database is away: the next look finds them
	}
	for _, s := range streams {
		r.worker(s)
	}
}

// bucketLooks is how many looks at SQL go by until the next one at the buckets.
const bucketLooks = 5

// makeBuckets makes the buckets that are gone. Events do not wait for them, and
// one that could not be made is tried again.
func (r *Relay) makeBuckets(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, b := range r.opts.Buckets {
		if _, err := r.js.KeyValue(ctx, b.Bucket); !errors.Is(err, jetstream.ErrBucketNotFound) {
			continue
		}
		if _, err := r.js.CreateKeyValue(ctx, b); err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
			r.log.Warn("bucket was not made", "bucket", b.Bucket, "error", err)
		}
	}
}

// makeOthers makes the other streams that are gone, and the durables of those.
func (r *Relay) makeOthers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, o := range r.opts.Others {
		if _, err := r.js.Stream(ctx, o.Config.Name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err := r.makeOther(ctx, o); err != nil {
			r.log.Warn("stream was not made", "stream", o.Config.Name, "error", err)
		}
	}
}

func (r *Relay) makeOther(ctx context.Context, o Other) error {
	// By the clock, so that no message is ever at a sequence that another had in a
	// stream that was lost: failures and dead letters are kept by sequence.
	o.Config.FirstSeq = uint64(time.Now().UnixMicro())
	s, err := r.js.CreateStream(ctx, o.Config)
	if err != nil {
		return fmt.Errorf("make stream %s: %w", o.Config.Name, err)
	}
	r.log.Info("made JetStream stream", "stream", o.Config.Name)
	for _, d := range o.Durables {
		if _, err := s.CreateConsumer(ctx, d); err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
			return fmt.Errorf("make durable %s of %s: %w", d.Durable, o.Config.Name, err)
		}
	}
	return nil
}

// worker is the worker of a stream, which begins when it is asked for first;
// nil when there are too many streams.
func (r *Relay) worker(stream string) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w, ok := r.workers[stream]; ok {
		return w
	}
	if len(r.workers) >= maxStreams {
		r.log.Error("too many streams; this one is not relayed", "stream", stream, "most", maxStreams)
		return nil
	}
	w := &worker{r: r, stream: stream, log: r.log.With("stream", stream), state: Status{Stream: stream, Problem: "starting"}}
	w.buffer.ready = make(chan struct{}, 1)
	r.workers[stream] = w
	if r.leading {
		r.wg.Go(func() { w.run(r.ctx) })
	}
	return w
}

// Status is where the relay of one stream stands.
type Status struct {
	Stream string
	// Relayed is the last position that is in JetStream.
	Relayed uint64
	// Head is the newest position that this relay has heard of.
	Head uint64
	// Lag is how many events wait in JetStream for each durable, with those that it
	// delivered and that are not acknowledged. It is looked at as often as the floors.
	Lag map[string]uint64
	// Problem says why nothing is relayed; empty when all is well.
	Problem string
}

// Leads tells whether this relay relays, and no other.
func (r *Relay) Leads() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leading
}

// Status tells of every stream, by name; of none while another relay leads.
func (r *Relay) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leading {
		return nil
	}
	all := make([]Status, 0, len(r.workers))
	for _, w := range r.workers {
		all = append(all, w.status())
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Stream, b.Stream) })
	return all
}

// minServer is the oldest server that has what the relay needs.
var minServer = [2]int{2, 12}

// CheckServer refuses a server that is too old, or takes too small messages.
func CheckServer(nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	if version == "" {
		return nil // not connected yet
	}
	var has [2]int
	for i, part := range strings.SplitN(version, ".", 3) {
		if i < len(has) {
			n, err := strconv.Atoi(part)
			if err != nil {
				return fmt.Errorf("use NATS server %q at %s: version %q can't be read", nc.ConnectedServerName(), nc.ConnectedUrlRedacted(), version)
			}
			has[i] = n
		}
	}
	if slices.Compare(has[:], minServer[:]) < 0 {
		return fmt.Errorf("use NATS server %q at %s: it is %s, and %d.%d or newer is needed",
			nc.ConnectedServerName(), nc.ConnectedUrlRedacted(), version, minServer[0], minServer[1])
	}
	if needs := int64(eventstore.MaxEventBytes + envelope.MaxHeaderBytes); nc.MaxPayload() < needs {
		return fmt.Errorf("use NATS server %q at %s: its max_payload is %d and an event may take %d: raise max_payload in nats.conf",
			nc.ConnectedServerName(), nc.ConnectedUrlRedacted(), nc.MaxPayload(), needs)
	}
	return nil
}
