package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/runtime/deadletter"
)

// follower reads a stream as it grows, and goes on where it was after each
// break.
type follower struct {
	store  eventstore.Store
	stream string

	mu   sync.Mutex
	ids  []string
	ends atomic.Int64 // orders that came to an end
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		from := uint64(f.seen()) + 1 //nolint:gosec // a count
		for e, err := range f.store.ReadStream(ctx, eventstore.StreamRead{Stream: f.stream, From: from, Follow: true}) {
			if err != nil {
				break
			}
			f.mu.Lock()
			f.ids = append(f.ids, e.ID)
			f.mu.Unlock()
			switch e.Type {
			case (order.WasShipped{}).EventType(), (order.PaymentVoided{}).EventType():
				f.ends.Add(1)
			}
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

func (f *follower) seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ids)
}

func (f *follower) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[:len(f.ids):len(f.ids)]
}

// gather reads everything that is there, once nothing moves any more.
func gather(ctx context.Context, l *load, js jetstream.JetStream, followers []*follower) (*evidence, error) {
	e := &evidence{
		events: map[string][]eventstore.Event{}, followed: map[string][]string{}, messages: map[string][]message{},
		orders: l.orders, paidIn: l.paidIn, ops: l.ops, wrong: l.wrong,
	}
	var err error
	for i, stream := range streams {
		if e.events[stream], err = collect(ctx, l.store, stream); err != nil {
			return nil, err
		}
		if e.messages[stream], err = readMessages(ctx, js, stream); err != nil {
			return nil, err
		}
		for deadline := time.Now().Add(askTimeout); followers[i].seen() < len(e.events[stream]) && time.Now().Before(deadline); {
			sleep(ctx, 5*time.Millisecond)
		}
		e.followed[stream] = followers[i].all()
	}
	if e.letters, err = collect(ctx, l.store, deadletter.Stream); err != nil {
		return nil, err
	}
	if e.rows, err = readRows(ctx, l.nc); err != nil {
		return nil, err
	}
	e.balances, err = readBalances(ctx, l, e.events[accountsStream])
	return e, err
}

// readBalances asks for each account.
func readBalances(ctx context.Context, l *load, entries []eventstore.Event) (map[string]order.Money, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	balances := map[string]order.Money{}
	for _, ev := range entries {
		if _, known := balances[ev.Aggregate]; known {
			continue
		}
		data, code, ok := l.ask(ctx, "accounts.get", fmt.Sprintf(`{"customer_id":%q}`, ev.Aggregate))
		var account struct{ Balances map[string]order.Money }
		if err := json.Unmarshal(data, &account); err != nil || !ok || code != 0 {
			return nil, fmt.Errorf("read the account of %s: %d %s", ev.Aggregate, code, data)
		}
		balances[ev.Aggregate] = account.Balances[order.DefaultCurrency]
	}
	return balances, nil
}

func collect(ctx context.Context, store eventstore.Store, stream string) ([]eventstore.Event, error) {
	events, err := eventstore.Collect(store.ReadStream(ctx, eventstore.StreamRead{Stream: stream}))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	if stream == rawStream {
		for i := range events {
			events[i].Data = nil // what it says is in its id
		}
	}
	return events, nil
}

// messageWait is how long a message may take to come, of those that are there.
const messageWait = 30 * time.Second

// readMessages reads what JetStream holds of a stream.
func readMessages(ctx context.Context, js jetstream.JetStream, stream string) ([]message, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("find stream %s: %w", stream, err)
	}
	state := s.CachedInfo().State
	all := make([]message, 0, state.Msgs)
	if state.Msgs == 0 {
		return all, nil
	}
	c, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{HeadersOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(2000))
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	defer messages.Stop()
	for len(all) == 0 || all[len(all)-1].sequence < state.LastSeq {
		m, err := messages.Next(jetstream.NextMaxWait(messageWait))
		if errors.Is(err, nats.ErrTimeout) {
			break // there is no more, whatever the stream says: the check finds it
		}
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", stream, err)
		}
		all = append(all, message{meta.Sequence.Stream, m.Headers().Get("ce-id")})
	}
	return all, nil
}

// readRows reads the view, as its users do.
func readRows(ctx context.Context, nc *nats.Conn) (map[string]order.Order, error) {
	rows := map[string]order.Order{}
	for cursor := ""; ; {
		m, err := nc.RequestWithContext(ctx, "orders.list", fmt.Appendf(nil, `{"limit":500,"cursor":%q}`, cursor))
		if err != nil {
			return nil, fmt.Errorf("list orders: %w", err)
		}
		if text := m.Header.Get(micro.ErrorHeader); text != "" {
			return nil, fmt.Errorf("list orders: %s", text)
		}
		var page struct {
			Orders []order.Order
			Cursor string
		}
		if err := json.Unmarshal(m.Data, &page); err != nil {
			return nil, fmt.Errorf("list orders: %w", err)
		}
		for _, o := range page.Orders {
			rows[o.ID] = o
		}
		if cursor = page.Cursor; cursor == "" {
			return rows, nil
		}
	}
}

// settled waits until everything that was accepted came to its end, and reached
// JetStream and the view. What keeps it from that after so long is told,
// and is for the checks to judge.
func settled(ctx context.Context, l *load, js jetstream.JetStream, orders *follower, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := isSettled(ctx, l, js, orders)
		if err == nil {
			return nil
		}
		sleep(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("it did not settle in %v: %w", limit, err)
		}
	}
}

func isSettled(ctx context.Context, l *load, js jetstream.JetStream, orders *follower) error {
	if ended, accepted := orders.ends.Load(), l.accepted.Load(); ended < accepted {
		return fmt.Errorf("%d of %d orders came to an end", ended, accepted)
	}
	for _, stream := range streams {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return fmt.Errorf("find stream %s: %w", stream, err)
		}
		next := eventstore.StreamRead{Stream: stream, From: s.CachedInfo().State.LastSeq + 1, Limit: 1}
		if more, err := eventstore.Collect(l.store.ReadStream(ctx, next)); err != nil || len(more) > 0 {
			return errors.Join(fmt.Errorf("%s is not relayed to its end", stream), err)
		}
	}
	c, err := js.Consumer(ctx, ordersStream, "orderview")
	if err != nil {
		return fmt.Errorf("find durable orderview: %w", err)
	}
	if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
		return fmt.Errorf("the view lacks %d events", info.NumPending+uint64(info.NumAckPending)) //nolint:gosec // a count
	}
	return nil
}
