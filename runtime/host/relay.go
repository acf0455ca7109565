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
// bucket that counts failures.
func RelayOptions(replicas int, functions ...function.Function) relay.Options {
	o := relay.Options{Replicas: replicas, Buckets: []jetstream.KeyValueConfig{failuresConfig(replicas)}}
	for _, f := range functions {
		if d, ok := DurableOf(f); ok && !slices.Contains(o.Streams, d.Stream) {
			o.Streams = append(o.Streams, d.Stream)
		}
	}
	o.Streams = append(o.Streams, deadletter.Stream)
	if timers, durables := Timers(replicas, functions...); len(durables) > 0 {
		o.Others = append(o.Others, relay.Other{Config: timers, Durables: durables})
	}
	return o
}
