package relay_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

// TestLagIsToldWithNobodyThere: of a durable that nobody pulls from, and of those
// that nobody made yet.
func TestLagIsToldWithNobodyThere(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	never := func(name, filter string) jetstream.ConsumerConfig {
		return jetstream.ConsumerConfig{Durable: name, FilterSubject: filter}
	}
	r, stop := startWith(t, s, nc, relay.Options{Floors: 50 * time.Millisecond, Durables: map[string][]jetstream.ConsumerConfig{
		stream: {never("payment", stream+".>"), never("view", stream+".>"), never("review", stream+".happened"), never("other", stream+".other")},
	}})
	told := func(want map[string]uint64) {
		t.Helper()
		eventually(t, "tell the lag", func() error {
			if all := r.Status(); len(all) != 1 || !maps.Equal(all[0].Lag, want) {
				return fmt.Errorf("told %+v, want %v", all, want)
			}
			return nil
		})
	}
	told(map[string]uint64{"payment": 0, "view": 0, "review": 0, "other": 0})
	add(t, s, 100)
	caughtUp(t, s, nc, 1)
	durable(t, nc, "payment", 60)
	c, err := js(t, nc).Consumer(t.Context(), stream, "payment")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(10) // which are not acknowledged
	if err != nil {
		t.Fatal(err)
	}
	for range batch.Messages() {
	}
	told(map[string]uint64{"payment": 40, "view": 100, "review": 100, "other": 0})
	stop()
	if all := r.Status(); len(all) != 0 {
		t.Errorf("told after its end: %+v", all)
	}
}
