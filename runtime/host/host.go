// Package host runs a function on NATS: it opens its doors, hands what comes
// in to its handlers, and does with the outcome what package function says.
//
//	request.go   a request: queue group, keyed, answered or refused
//	limit.go     how many requests are held, by how long they take
//	refusal.go   a refusal, as it goes over NATS
//	serve.go     a protocol of its own, and what it asks of other functions
//	relay.go     what the relay makes for functions
//	durable.go   a durable consumer: what it is to be, found, made
//	wide.go      one that a newer release widened
//	consumer.go  has it, and what came from it in hand
//	pull.go      pulls from it, and keeps the leases
//	problem.go   what keeps it from that, and who is told
//	event.go     one event at a time of an aggregate, many at once
//	timer.go     timers: armed, fired, armed again after a loss
//	park.go      what waits, before its timer is armed
//	batch.go     events in batches, for projections
//	settle.go    what becomes of an event: its fate
//	alone.go     who may end the process is handled alone
//	crowd.go     whether too many wait to be tried again
//	counter.go   how often an event failed, or was begun
//	replay.go    one event again, that had become a dead letter
//	keyed.go     so many at once, never two of one aggregate
//	observer.go  who is told of all this, for metrics and traces
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

// Options are what a host lends its function.
type Options struct {
	Conn *nats.Conn
	// APIPrefix is where JetStream's API is. Default $JS.API.
	APIPrefix string
	Store     eventstore.Store
	// Cache is shared by the functions of a process; may be nil.
	Cache *function.Cache
	// Alone is shared by the functions of a process: what may end the process is
	// handled while nothing else is. Nil gives the function one of its own.
	Alone *Alone
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Release is the program's semantic version, unless the function says its
	// own. Default 0.0.0.
	Release string
	// Metadata is told about the instance, beside host and pid.
	Metadata map[string]string
	// Reports are what else the instance tells in its stats.
	Reports []Report
	// Observer is told of every message; may be nil.
	Observer Observer
	// PullExpiry is how long one pull request stays open at most, and so how
	// long a drain waits for what may still come. Default 500 ms.
	PullExpiry time.Duration
	// StoreCheckInterval is how often, while an event is held for something that
	// is away, the event store is asked whether it can be reached from here.
	// Default 10 s.
	StoreCheckInterval time.Duration
	// ArmAgain is how often all timers are armed again. Default 1 h.
	ArmAgain time.Duration
	// Park is how long an event is held whose aggregate waits, before its timer is
	// armed. Default 2 s.
	Park time.Duration
}

// Report is an endpoint whose numbers come from elsewhere: what was done, and
// what the problem is now; empty if there is none.
type Report struct {
	Name, Subject string
	Metadata      map[string]string
	Now           func() (done int, problem string)
}

// Host is a running function.
type Host struct {
	f       function.Function
	opts    Options
	log     *slog.Logger
	runner  *function.Runner
	service *discovery.Service

	// work is the handlers' context: it ends when a drain runs out of time.
	work     context.Context //nolint:containedctx // the lifetime of the host
	endWork  context.CancelFunc
	requests []*requestDoor
	servers  []function.Serving
	// consumers are that of the events, and then that of the timers.
	consumers []*consumer
	timers    *timers
	stop      sync.Once
	stopErr   error
}

// Start opens the function's doors. Requests are taken when it returns; events
// as soon as their stream is there. Call Stop to end it.
func Start(f function.Function, opts Options) (*Host, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if f.Release != "" {
		opts.Release = f.Release
	}
	if opts.Release == "" {
		opts.Release = "0.0.0"
	}
	if opts.APIPrefix == "" {
		opts.APIPrefix = jetstream.DefaultAPIPrefix
	}
	if opts.PullExpiry == 0 {
		opts.PullExpiry = 500 * time.Millisecond
	}
	if opts.Observer == nil {
		opts.Observer = nobody{}
	}
	if opts.StoreCheckInterval == 0 {
		opts.StoreCheckInterval = 10 * time.Second
	}
	if opts.ArmAgain == 0 {
		opts.ArmAgain = time.Hour
	}
	if opts.Park == 0 {
		opts.Park = 2 * time.Second
	}
	if opts.Alone == nil {
		opts.Alone = NewAlone()
	}
	f = f.WithDefaults()
	opts.Alone.share(f.Deadline)
	h := &Host{f: f, opts: opts, log: opts.Logger.With("function", f.Name), runner: function.NewRunner(f.Name, opts.Store, opts.Cache)}
	h.work, h.endWork = context.WithCancel(context.Background())
	if err := h.open(); err != nil {
		// What was opened is closed again; the reason it failed is the answer.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = h.Stop(ctx)
		return nil, fmt.Errorf("start function %q: %w", f.Name, err)
	}
	return h, nil
}

func (h *Host) open() error {
	var err error
	h.service, err = discovery.Announce(h.opts.Conn, discovery.Identity{
		Name: h.f.Name, Release: h.opts.Release, Description: h.f.Description, Metadata: h.opts.Metadata,
	})
	if err != nil {
		return err
	}
	for _, r := range h.opts.Reports {
		h.service.Endpoint(r.Name, r.Subject, r.Metadata).Report(r.Now)
	}
	js, err := jetstream.NewWithAPIPrefix(h.opts.Conn, h.opts.APIPrefix)
	if err != nil {
		return err
	}
	for _, d := range h.f.Doors {
		switch d := d.(type) {
		case *function.Request:
			if err := h.listen(d, h.service.Endpoint(endpointName(d), d.Subject(), withSchemas(d, ofKind(discovery.KindRequest)))); err != nil {
				return err
			}
		case *function.Server:
			if err := h.openServer(d); err != nil {
				return err
			}
		}
	}
	if err := h.openConsumers(js); err != nil || len(h.consumers) == 0 {
		return err
	}
	replays := h.replayDoor()
	return h.listen(replays, h.service.Endpoint("replay", replays.Subject(), ofKind(discovery.KindReplay)))
}

// endpointName is a door's among the endpoints, whose names have no dots:
// orders.place is the endpoint place.
func endpointName(d function.Door) string {
	return d.Subject()[strings.LastIndexByte(d.Subject(), '.')+1:]
}

// withSchemas is an endpoint's metadata with the schemas of what goes through it:
// schema.request, schema.reply, schema.event.
func withSchemas(d function.Door, metadata map[string]string) map[string]string {
	metadata = maps.Clone(metadata)
	schemas, _ := function.Schemas(d) // the function's Check has refused what has none
	for of, schema := range schemas {
		metadata[discovery.MetadataSchema+of] = schema
	}
	return metadata
}

// openConsumers opens what takes events and timers.
func (h *Host) openConsumers(js jetstream.JetStream) error {
	durables := DurablesOf(h.f)
	if len(durables) == 0 {
		return nil
	}
	var (
		stream     = durables[0].Stream
		events     = map[string]*function.Event{}
		projection *function.Projection
		stats      = map[string]*discovery.Endpoint{}
		metadata   = consumes(discovery.KindEvent, durables[0])
	)
	for _, d := range h.f.Doors {
		switch d := d.(type) {
		case *function.Event:
			events[d.Subject()], stats[d.Subject()] = d, h.service.Endpoint(endpointName(d), d.Subject(), withSchemas(d, metadata))
		case *function.Projection:
			projection, stats[d.Subject()] = d, h.service.Endpoint("all", d.Subject(), metadata)
		case *function.Timed:
			var err error
			if h.timers, err = newTimers(h, d); err != nil {
				return err
			}
		}
	}
	if h.timers != nil {
		stats[all(stream)] = h.service.Endpoint("all", all(stream), metadata) // those that only arm a timer
	}
	c, jobs := h.newConsumer(js, durables[0], stats), newJobs(h.f)
	h.consumers = append(h.consumers, c)
	if projection != nil {
		c.begin(newBatchDoor(c, projection))
		return nil
	}
	if h.timers != nil {
		c.park = newParking(c, h.timers)
		h.timers.park = c.park
	}
	c.begin(newEventDoor(c, jobs, events, h.timers))
	if h.timers != nil {
		subject := timerSubject(h.f.Name)
		fired := h.newConsumer(js, durables[1], map[string]*discovery.Endpoint{
			subject: h.service.Endpoint("timer", subject, consumes(discovery.KindTimer, durables[1])),
		})
		h.consumers = append(h.consumers, fired)
		h.timers.begin(fired, jobs)
	}
	return nil
}

// listen takes the requests of a door.
func (h *Host) listen(d *function.Request, stats *discovery.Endpoint) error {
	r, err := h.openRequest(d, stats)
	if err != nil {
		return err
	}
	h.requests = append(h.requests, r)
	return nil
}

func ofKind(kind string) map[string]string {
	return map[string]string{discovery.MetadataKind: kind}
}

// consumes is the metadata of an endpoint that handles what a durable brings.
func consumes(kind string, d Durable) map[string]string {
	return map[string]string{
		discovery.MetadataKind: kind, discovery.MetadataStream: d.Stream, discovery.MetadataDurable: d.Config.Durable,
	}
}

var errNotConnected = errors.New("not connected to NATS")

// Ready says why the function can't do its work at present; nil if it can.
func (h *Host) Ready() error {
	if !h.opts.Conn.IsConnected() {
		return errNotConnected
	}
	for _, s := range h.servers {
		if err := s.Ready(); err != nil {
			return err
		}
	}
	for _, c := range h.consumers {
		if err := c.ready(); err != nil {
			return err
		}
	}
	return nil
}

// Stop takes nothing more, finishes what runs, hands back what has not begun,
// and returns when the last reply and acknowledgement are out. When ctx ends
// first, the handlers' contexts end, and the error says so; those that do not
// return then are left alone a second later.
func (h *Host) Stop(ctx context.Context) error {
	h.stop.Do(func() {
		stopped := make(chan struct{})
		defer close(stopped)
		context.AfterFunc(ctx, h.endWork)
		var wg sync.WaitGroup
		for _, s := range h.servers {
			wg.Go(func() { _ = s.Stop(ctx) }) // it only fails when ctx ends, which is told below
		}
		for _, r := range h.requests {
			wg.Go(func() { r.drain(ctx) })
		}
		for _, c := range h.consumers {
			wg.Go(c.drain)
		}
		returned := h.await(ctx, &wg)
		h.endWork()
		if h.service != nil {
			h.service.Stop()
		}
		switch {
		case !returned:
			h.stopErr = fmt.Errorf("drain function %q: a handler does not return: %w", h.f.Name, ctx.Err())
			return
		case ctx.Err() != nil:
			h.stopErr = fmt.Errorf("drain function %q: out of time: %w", h.f.Name, ctx.Err())
			return
		}
		if h.opts.Conn.IsConnected() {
			if err := h.opts.Conn.FlushWithContext(ctx); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				h.stopErr = fmt.Errorf("drain function %q: %w", h.f.Name, err)
			}
		}
	})
	return h.stopErr
}

// lastWord is how long a handler has, whose context has ended, to give back what
// it has in hand.
const lastWord = time.Second

// await waits for all doors, until ctx ends and a little longer. It answers false
// when a handler has not returned by then.
func (h *Host) await(ctx context.Context, doors *sync.WaitGroup) bool {
	drained := make(chan struct{})
	go func() { // as long as the handler that does not return
		defer close(drained)
		doors.Wait()
	}()
	select {
	case <-drained:
		return true
	case <-ctx.Done():
	}
	select {
	case <-drained:
		return true
	case <-time.After(lastWord):
		return false
	}
}
