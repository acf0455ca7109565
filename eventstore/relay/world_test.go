package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/eventstore/storetest"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestMain(m *testing.M) { pgtest.Main(m, natstest.Forgotten()...) }

const stream = storetest.Stream

func open(t testing.TB) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "events.db"))
	return storetest.Opened(t, s, err)
}

// start runs a relay; the answer ends it, and may be called twice.
func start(t testing.TB, s eventstore.Backend, nc *nats.Conn) (*relay.Relay, func()) {
	t.Helper()
	return startWith(t, s, nc, relay.Options{Floors: 50 * time.Millisecond})
}

func startWith(t testing.TB, s eventstore.Backend, nc *nats.Conn, o relay.Options) (*relay.Relay, func()) {
	t.Helper()
	o.Streams, o.Alone, o.Logger = []string{stream}, true, slog.New(slog.DiscardHandler)
	r, err := relay.New(s, nc, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return r, stop
}

func add(t testing.TB, s eventstore.Store, n int) {
	t.Helper()
	for n > 0 {
		events := make([]eventstore.Event, min(n, 50))
		for i := range events {
			events[i] = storetest.Event("happened", fmt.Sprint(i))
		}
		if _, err := s.Append(t.Context(), storetest.To(fmt.Sprintf("a%d", n%7), eventstore.Any, events...)); err != nil {
			t.Fatal(err)
		}
		n -= len(events)
	}
}

// eventually waits for a condition, at most 20 s.
func eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func js(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	j, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// caughtUp waits until the stream holds everything from first on, and checks
// that sequence n is the event at position n.
func caughtUp(t testing.TB, s eventstore.Backend, nc *nats.Conn, first uint64) {
	t.Helper()
	want := storetest.Consistent(t, t.Context(), s, stream)
	eventually(t, "relay everything", func() error {
		st, err := js(t, nc).Stream(t.Context(), stream)
		if err != nil {
			return err
		}
		if last := st.CachedInfo().State.LastSeq; last != uint64(len(want)) || st.CachedInfo().Config.Metadata[envelope.MetadataReady] != "yes" {
			return fmt.Errorf("at %d of %d", last, len(want))
		}
		return nil
	})
	cons, err := js(t, nc).OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	at := first
	for at <= uint64(len(want)) {
		batch, err := cons.Fetch(min(500, len(want)-int(at)+1), jetstream.FetchMaxWait(2*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			e, err := envelope.Parse(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream)
			if err != nil {
				t.Fatal(err)
			}
			w := want[at-1]
			if e.Position != at || e.ID != w.ID || string(e.Data) != string(w.Data) || e.Aggregate != w.Aggregate || e.Version != w.Version || !e.Time.Equal(w.Time) {
				t.Fatalf("sequence %d is %+v, position %d is %+v", meta.Sequence.Stream, e, at, w)
			}
			at++
			got++
		}
		if got == 0 {
			t.Fatalf("no message at %d of %d", at, len(want))
		}
	}
}
