package host

import (
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/function"
)

// RelayOptions are what functions need the relay to make in JetStream, before the
// first event: their streams and that of dead letters, their timers, and the
// bucket that counts failures; and the durables that it tells of before they are there.
func RelayOptions(replicas int, functions ...function.Function) relay.Options {
	o := relay.Options{
		Replicas: replicas, Buckets: []jetstream.KeyValueConfig{failuresConfig(replicas)}, Durables: map[string][]jetstream.ConsumerConfig{},
	}
	for _, f := range functions {
		d, ok := DurableOf(f)
		if !ok {
			continue
		}
		if !slices.Contains(o.Streams, d.Stream) {
			o.Streams = append(o.Streams, d.Stream)
		}
		if d.Config.DeliverPolicy == jetstream.DeliverAllPolicy {
			o.Durables[d.Stream] = append(o.Durables[d.Stream], d.Config)
		}
	}
	o.Streams = append(o.Streams, deadletter.Stream)
	if timers, durables := Timers(replicas, functions...); len(durables) > 0 {
		o.Others = append(o.Others, relay.Other{Config: timers, Durables: durables})
	}
	return o
}
