package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/function"
)

// Durable is the durable consumer that a function takes its events from.
type Durable struct {
	Stream string
	// Config is how it is made. One that is there may differ.
	Config jetstream.ConsumerConfig
}

// DurableOf is the durable that a function takes its events from; false when it
// takes none.
func DurableOf(f function.Function) (Durable, bool) {
	f = f.WithDefaults()
	var found *Durable
	for _, d := range f.Doors {
		subject, stream, capacity := "", "", eventCapacity(f)
		switch d := d.(type) {
		case *function.Event:
			subject, stream = d.Subject(), d.Stream
		case *function.Projection:
			subject, stream, capacity = d.Subject(), d.Stream, batchCapacity
		case *function.Timed:
			subject, stream = all(d.Stream), d.Stream
		default:
			continue
		}
		if found != nil {
			// One filter of all, and not several: those are slow on a backlog.
			subject = all(stream)
		}
		found = new(newDurable(f, stream, subject, capacity))
	}
	if found == nil {
		return Durable{}, false
	}
	if hasTimer(f) {
		found.Config.MaxAckPending += maxParked * f.Scale.Max // see parking
	}
	return *found, true
}

// DurablesOf are all durables of a function: that of its events, and that of its
// timers.
func DurablesOf(f function.Function) (durables []Durable) {
	f = f.WithDefaults()
	if d, ok := DurableOf(f); ok {
		durables = append(durables, d)
	}
	if hasTimer(f) {
		f.Start = function.FromBeginning // a timer is no history
		durables = append(durables, newDurable(f, function.TimersStream, timerSubject(f.Name), eventCapacity(f)))
	}
	return durables
}

// all is the filter for every event of a stream.
func all(stream string) string { return stream + ".>" }

func newDurable(f function.Function, stream, subject string, capacity int) Durable {
	cfg := jetstream.ConsumerConfig{
		Durable: f.Name, Description: f.Description,
		FilterSubject: subject,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       max(leastLease, f.Deadline+f.Deadline/2),
		MaxDeliver:    -1, // nothing is dropped in silence: see fate
		MaxAckPending: unacknowledged(f, capacity),
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	if f.Start == function.FromNow {
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	return Durable{Stream: stream, Config: cfg}
}

// unacknowledged is how many events there may be that replicas have in hand, all
// together, and that are in backoff.
func unacknowledged(f function.Function, capacity int) int {
	return max(1000, capacity*max(10, 2*f.Scale.Max))
}

// FindStream finds a stream in which durables may be made.
func FindStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("find stream %s: %w", name, err)
	}
	if !envelope.Ready(stream.CachedInfo().Config.Metadata) {
		return nil, fmt.Errorf("find stream %s: the event store is still making it anew", name)
	}
	return stream, nil
}

// Ensure finds the durable, or makes it; made says which.
func (d Durable) Ensure(ctx context.Context, stream jetstream.Stream) (c jetstream.Consumer, made bool, err error) {
	if c, err = d.find(ctx, stream); errors.Is(err, jetstream.ErrConsumerNotFound) {
		c, err = d.make(ctx, stream)
		made = err == nil
	}
	return c, made, err
}

// find looks the durable up. One that is there is taken as it is: where it
// starts can't be changed, and its settings may be those of a newer release.
// Only its filter must be the function's, or all: see wide.go.
func (d Durable) find(ctx context.Context, stream jetstream.Stream) (jetstream.Consumer, error) {
	found, err := stream.Consumer(ctx, d.Config.Durable)
	if err != nil {
		return nil, fmt.Errorf("find durable %s of %s: %w", d.Config.Durable, d.Stream, err)
	}
	has := found.CachedInfo().Config.FilterSubject
	switch {
	case has == d.Config.FilterSubject, has == all(d.Stream):
		return found, nil
	case d.Config.FilterSubject == all(d.Stream):
		return d.widen(ctx, stream, found.CachedInfo())
	}
	return nil, fmt.Errorf("find durable %s of %s: it filters %q and this function handles %q; rename the function, or stop it everywhere and have the old one forgotten, with the command forget %s %s",
		d.Config.Durable, d.Stream, has, d.Config.FilterSubject, d.Stream, d.Config.Durable)
}

// widen has a durable bring all events of its stream, from where it stands, as a
// function needs it that got another door. Replicas of the release before must
// not pull any more: what is new would come to them. What they gave back when
// they stopped, or still have in hand, is unacknowledged, and no reason to wait.
func (d Durable) widen(ctx context.Context, stream jetstream.Stream, has *jetstream.ConsumerInfo) (jetstream.Consumer, error) {
	if has.NumWaiting > 0 {
		return nil, fmt.Errorf("widen durable %s of %s from %q to %q: a replica of the release before still uses it; it is widened when all of those are stopped",
			d.Config.Durable, d.Stream, has.Config.FilterSubject, d.Config.FilterSubject)
	}
	cfg := has.Config
	cfg.FilterSubject = d.Config.FilterSubject
	wide, err := stream.UpdateConsumer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("widen durable %s of %s from %q to %q: %w; if this process has no right to, the command provision does it",
			d.Config.Durable, d.Stream, has.Config.FilterSubject, d.Config.FilterSubject, err)
	}
	return wide, nil
}

// make makes the durable. When somebody was faster it finds that one.
func (d Durable) make(ctx context.Context, stream jetstream.Stream) (jetstream.Consumer, error) {
	cfg := d.Config
	if cfg.DeliverPolicy == jetstream.DeliverNewPolicy {
		// Said as a sequence it can be told later where it began.
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, stream.CachedInfo().State.LastSeq+1
	}
	made, err := stream.CreateConsumer(ctx, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return d.find(ctx, stream)
	}
	if err != nil {
		// A server that refuses does not answer: it looks like a timeout.
		return nil, fmt.Errorf("make durable %s of %s: %w; if this process has no right to make it, the command provision does", d.Config.Durable, d.Stream, err)
	}
	return made, nil
}

// Differences says in which settings a durable that is there is not as it
// would be made: "ack_wait is 1m0s and would be 15s". Where it starts is none.
func (d Durable) Differences(has jetstream.ConsumerConfig) []string {
	var all []string
	add := func(name string, is, would any) {
		if is != would {
			all = append(all, fmt.Sprintf("%s is %v and would be %v", name, is, would))
		}
	}
	want := d.Config
	add("ack_policy", has.AckPolicy, want.AckPolicy)
	add("ack_wait", has.AckWait, want.AckWait)
	add("max_deliver", has.MaxDeliver, want.MaxDeliver)
	add("max_ack_pending", has.MaxAckPending, want.MaxAckPending)
	add("backoff", fmt.Sprint(has.BackOff), fmt.Sprint([]time.Duration(nil)))
	return all
}
