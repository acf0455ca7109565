package relay_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/eventstore/relay"
	"github.com/waybill-go/waybill/eventstore/sqlite"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
)

func TestPositionIsSequence(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	add(t, s, 700) // before the relay began: from SQL
	start(t, s, nc)
	add(t, s, 700) // while it runs: from memory
	caughtUp(t, s, nc, 1)
}

// TestWhatIsRelayedIsTold in order, each event once, from SQL and from memory.
func TestWhatIsRelayedIsTold(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	add(t, s, 600)
	var told atomic.Uint64
	r, stop := startWith(t, s, nc, relay.Options{Relayed: func(e eventstore.Event, sent time.Time) {
		if e.Position != told.Add(1) || sent.IsZero() || time.Since(sent) < 0 {
			t.Errorf("told of position %d, sent at %v, as number %d", e.Position, sent, told.Load())
		}
	}})
	add(t, s, 600)
	caughtUp(t, s, nc, 1)
	eventually(t, "say so", func() error {
		if all := r.Status(); !r.Leads() || told.Load() != 1200 || len(all) == 0 || all[0].Relayed != 1200 || all[0].Head != 1200 {
			return fmt.Errorf("told of %d, leads %v: %+v", told.Load(), r.Leads(), all)
		}
		return nil
	})
	stop()
	if r.Leads() {
		t.Error("it leads after its end")
	}
}

func TestOnlyTheFeedGetsIn(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	sub, err := nc.SubscribeSync(stream + ".>")
	if err != nil {
		t.Fatal(err)
	}
	start(t, s, nc)
	add(t, s, 1)
	for range 100 {
		if err := nc.Publish(stream+".happened", []byte("stray")); err != nil {
			t.Fatal(err)
		}
		add(t, s, 1)
	}
	caughtUp(t, s, nc, 1)
	seen := 0 // who listens sees every event, with its headers
	for seen < 101 {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatalf("saw %d events: %v", seen, err)
		}
		if m.Header.Get("ce-id") != "" {
			seen++
		}
	}
}

func TestRelayStoppedAtAnyMoment(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	var wg sync.WaitGroup
	wg.Go(func() { add(t, s, 6000) })
	for i := range 12 {
		_, stop := start(t, s, nc)
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // the moment is what is tried
		stop()
	}
	start(t, s, nc)
	wg.Wait()
	caughtUp(t, s, nc, 1)
}

func TestTwoRelaysFenceEachOther(t *testing.T) {
	server, s := natstest.Start(t), open(t)
	start(t, s, server.Connect())
	start(t, s, server.Connect())
	add(t, s, 4000)
	caughtUp(t, s, server.Connect(), 1)
}

// durable makes a durable that acknowledges everything up to floor.
func durable(t *testing.T, nc *nats.Conn, name string, floor int) {
	t.Helper()
	var cons jetstream.Consumer
	eventually(t, "make durable", func() (err error) {
		cons, err = js(t, nc).CreateOrUpdateConsumer(t.Context(), stream, jetstream.ConsumerConfig{
			Durable: name, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000,
		})
		return err
	})
	if floor == 0 {
		return
	}
	batch, err := cons.Fetch(floor)
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWipedJetStreamGoesOnFromTheFloors(t *testing.T) {
	server, s := natstest.Start(t), open(t)
	nc := server.Connect()
	start(t, s, nc)
	add(t, s, 300)
	caughtUp(t, s, nc, 1)
	durable(t, nc, "fast", 250)
	durable(t, nc, "slow", 100)
	eventually(t, "save floors", func() error {
		d, err := s.Durables(t.Context(), stream)
		if err == nil && (len(d) != 2 || d[0].Floor != 250 || d[1].Floor != 100) {
			return fmt.Errorf("saved %+v", d)
		}
		return err
	})
	server.Stop()
	server.Wipe()
	add(t, s, 50) // appends go on while NATS is away
	server.Restart()
	add(t, s, 50)
	caughtUp(t, s, nc, 101)
	for name, floor := range map[string]uint64{"fast": 250, "slow": 100} {
		cons, err := js(t, nc).Consumer(t.Context(), stream, name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := cons.Next()
		if err != nil {
			t.Fatal(err)
		}
		if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream != floor+1 {
			t.Fatalf("%s goes on at %d, want %d (%v)", name, meta.Sequence.Stream, floor+1, err)
		}
	}
}

func TestLostDurableIsMadeAnew(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	start(t, s, nc)
	add(t, s, 100)
	caughtUp(t, s, nc, 1)
	durable(t, nc, "payment", 60)
	eventually(t, "save floor", func() error {
		d, err := s.Durables(t.Context(), stream)
		if err == nil && (len(d) != 1 || d[0].Floor != 60) {
			return fmt.Errorf("saved %+v", d)
		}
		return err
	})
	if err := js(t, nc).DeleteConsumer(t.Context(), stream, "payment"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "make it anew", func() error {
		cons, err := js(t, nc).Consumer(t.Context(), stream, "payment")
		if err == nil && cons.CachedInfo().Config.OptStartSeq != 61 {
			return fmt.Errorf("begins at %d", cons.CachedInfo().Config.OptStartSeq)
		}
		return err
	})
}

// TestRefillKeepsANewDurable refills before the next round would save what was
// made a moment ago. The bucket that went with JetStream is there again too.
func TestRefillKeepsANewDurable(t *testing.T) {
	s, nc := open(t), natstest.Start(t).Connect()
	r, _ := startWith(t, s, nc, relay.Options{Floors: time.Hour, Buckets: []jetstream.KeyValueConfig{{Bucket: "KEPT"}}})
	add(t, s, 10)
	caughtUp(t, s, nc, 1)
	durable(t, nc, "new", 3)
	if err := js(t, nc).DeleteKeyValue(t.Context(), "KEPT"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refill", func() error {
		_, _, err := r.Refill(t.Context(), stream, 0)
		return err
	})
	caughtUp(t, s, nc, 4)
	c, err := js(t, nc).Consumer(t.Context(), stream, "new")
	if err != nil || c.CachedInfo().Config.OptStartSeq != 4 {
		t.Fatalf("the durable: %+v, %v", c, err)
	}
	eventually(t, "have the bucket again", func() error {
		_, err := js(t, nc).KeyValue(t.Context(), "KEPT")
		return err
	})
}

// TestOthersAreMadeAnew, with their durables, and at sequences of their own.
func TestOthersAreMadeAnew(t *testing.T) {
	s, nc := open(t), natstest.Start(t).Connect()
	startWith(t, s, nc, relay.Options{Others: []relay.Other{{
		Config:   jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"OTHER.>"}, Retention: jetstream.WorkQueuePolicy},
		Durables: []jetstream.ConsumerConfig{{Durable: "d", FilterSubject: "OTHER.d", AckPolicy: jetstream.AckExplicitPolicy}},
	}}})
	last := uint64(0)
	for range 2 {
		eventually(t, "make it", func() error {
			_, err := js(t, nc).Consumer(t.Context(), "OTHER", "d")
			return err
		})
		ack, err := js(t, nc).Publish(t.Context(), "OTHER.d", nil)
		if err != nil || ack.Sequence <= last {
			t.Fatalf("stored at %+v after %d: %v", ack, last, err)
		}
		last = ack.Sequence
		if err := js(t, nc).DeleteStream(t.Context(), "OTHER"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForget has a durable that nobody uses forgotten: it is not made anew.
func TestForget(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), open(t)
	r, _ := start(t, s, nc)
	add(t, s, 100)
	caughtUp(t, s, nc, 1)
	durable(t, nc, "payment", 60)
	durable(t, nc, "review", 30)
	saved := func(names ...string) {
		t.Helper()
		eventually(t, "save floors", func() error {
			d, err := s.Durables(t.Context(), stream)
			if got := fmt.Sprint(slices.Collect(func(yield func(string) bool) {
				for _, one := range d {
					yield(one.Name)
				}
			})); err == nil && got != fmt.Sprint(names) {
				return fmt.Errorf("saved %s", got)
			}
			return err
		})
	}
	saved("payment", "review")
	var invalid *eventstore.InvalidError
	if err := r.Forget(t.Context(), stream, "nobody"); !errors.As(err, &invalid) || invalid.Field != "durable" {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), "NOBODY", "payment"); !errors.As(err, &invalid) || invalid.Field != "stream" {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), stream, "payment"); err != nil {
		t.Fatal(err)
	}
	durable(t, nc, "shipping", 0)
	saved("review", "shipping") // so the relay has looked since
	if _, err := js(t, nc).Consumer(t.Context(), stream, "payment"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Fatalf("it is there again: %v", err)
	}
	durable(t, nc, "payment", 0) // a new one begins as it likes
	saved("payment", "review", "shipping")
	cons, err := js(t, nc).Consumer(t.Context(), stream, "review")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := cons.Fetch(1000, jetstream.FetchMaxWait(2*time.Second)) // there are not so many
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "be in use", func() error {
		if info, err := cons.Info(t.Context()); err != nil || info.NumWaiting != 1 {
			return fmt.Errorf("%+v, %w", info, err)
		}
		return nil
	})
	if err := r.Forget(t.Context(), stream, "review"); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "running") {
		t.Fatal(err)
	}
	for range batch.Messages() { // until it ends
	}
}

// looked counts how often the relay had asked how far SQL goes when it read the
// last of it.
type looked struct {
	*sqlite.Store
	heads, before atomic.Int32
}

func (l *looked) Head(ctx context.Context, stream string) (uint64, error) {
	l.heads.Add(1)
	return l.Store.Head(ctx, stream)
}

func (l *looked) ReadStream(ctx context.Context, r eventstore.StreamRead) iter.Seq2[eventstore.Event, error] {
	if r.From > 10_000 && r.Stream == stream {
		l.before.CompareAndSwap(0, l.heads.Load())
	}
	return l.Store.ReadStream(ctx, r)
}

// TestCatchingUpDoesNotWait for the next look between batches from SQL.
func TestCatchingUpDoesNotWait(t *testing.T) {
	nc, s := natstest.Start(t).Connect(), &looked{Store: open(t)}
	add(t, s, 12_000)
	startWith(t, s, nc, relay.Options{Floors: time.Hour})
	caughtUp(t, s, nc, 1)
	if n := s.before.Load(); n != 3 { // where the stream begins, whether it is a copy, what durables may have handled
		t.Fatalf("it asked %d times how far SQL goes before it read the end", n)
	}
}

func TestMismatchStopsTheRelay(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *nats.Conn, *sqlite.Store) eventstore.Backend{
		"another database": func(t *testing.T, _ *nats.Conn, _ *sqlite.Store) eventstore.Backend {
			other := open(t)
			add(t, other, 200)
			return other
		},
		"a restored backup": func(t *testing.T, _ *nats.Conn, _ *sqlite.Store) eventstore.Backend {
			other := open(t)
			add(t, other, 10)
			return other
		},
		"a foreign message": func(t *testing.T, nc *nats.Conn, s *sqlite.Store) eventstore.Backend {
			if _, err := js(t, nc).Publish(t.Context(), envelope.FeedSubject(stream, "happened"), []byte("{}")); err != nil {
				t.Fatal(err)
			}
			add(t, s, 5)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			nc, s := natstest.Start(t).Connect(), open(t)
			_, stop := start(t, s, nc)
			add(t, s, 100)
			caughtUp(t, s, nc, 1)
			stop()
			wrong := spoil(t, nc, s)
			before, err := js(t, nc).Stream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			r, stop := start(t, wrong, nc)
			defer stop()
			eventually(t, "tell the mismatch", func() error {
				if st := r.Status(); len(st) != 1 || !strings.Contains(st[0].Problem, "the command refill "+stream) {
					return fmt.Errorf("status %+v", st)
				}
				return nil
			})
			after, err := js(t, nc).Stream(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := before.CachedInfo().State.LastSeq, after.CachedInfo().State.LastSeq; a != b {
				t.Fatalf("something was published: %d became %d", a, b)
			}
			// The operator does what the message says, and all is well.
			var invalid *eventstore.InvalidError
			if _, _, err := r.Refill(t.Context(), stream, 1<<40); !errors.As(err, &invalid) || invalid.Field != "from" {
				t.Fatalf("refilled from beyond: %v", err)
			}
			if _, _, err := r.Refill(t.Context(), "NOBODY", 0); !errors.As(err, &invalid) || invalid.Field != "stream" {
				t.Fatalf("refilled nothing: %v", err)
			}
			if first, _, err := r.Refill(t.Context(), stream, 1); err != nil || first != 1 {
				t.Fatalf("refilled from %d, %v", first, err)
			}
			caughtUp(t, wrong, nc, 1)
		})
	}
}
