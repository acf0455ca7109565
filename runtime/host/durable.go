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

// DurableOf is the durable of a function; false when it takes no events.
func DurableOf(f function.Function) (Durable, bool) {
	f = f.WithDefaults()
	for _, d := range f.Doors {
		switch d := d.(type) {
		case *function.Event:
			return newDurable(f, d.Stream, d.Subject(), eventCapacity(f)), true
		case *function.Projection:
			return newDurable(f, d.Stream, d.Subject(), batchCapacity), true
		}
	}
	return Durable{}, false
}

func newDurable(f function.Function, stream, subject string, capacity int) Durable {
	cfg := jetstream.ConsumerConfig{
		Durable: f.Name, Description: f.Description,
		FilterSubject: subject,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       max(leastLease, f.Deadline+f.Deadline/2),
		MaxDeliver:    -1, // nothing is dropped in silence: see fate
		// All replicas have room in it, and what is in backoff.
		MaxAckPending: max(1000, capacity*max(10, 2*f.Scale.Max)),
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	if f.Start == function.FromNow {
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	return Durable{Stream: stream, Config: cfg}
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
// Only its filter must be the function's.
func (d Durable) find(ctx context.Context, stream jetstream.Stream) (jetstream.Consumer, error) {
	found, err := stream.Consumer(ctx, d.Config.Durable)
	if err != nil {
		return nil, fmt.Errorf("find durable %s of %s: %w", d.Config.Durable, d.Stream, err)
	}
	if has := found.CachedInfo().Config.FilterSubject; has != d.Config.FilterSubject {
		return nil, fmt.Errorf("find durable %s of %s: it filters %q and this function handles %q; rename the function, or stop it everywhere and have the old one forgotten: waybill forget %s %s",
			d.Config.Durable, d.Stream, has, d.Config.FilterSubject, d.Stream, d.Config.Durable)
	}
	return found, nil
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
		return nil, fmt.Errorf("make durable %s of %s: %w; if this process has no right to make it: waybill provision", d.Config.Durable, d.Stream, err)
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
