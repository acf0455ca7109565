package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
)

// watch has the book be told of every event; the answer ends it.
func (l *load) watch() (stop func(), err error) {
	var subs []*nats.Subscription
	stop = func() {
		for _, s := range subs {
			_ = s.Unsubscribe() // fails only on a closed connection
		}
	}
	for stream, note := range map[string]func(string, *nats.Msg){
		order.Stream:  func(typ string, m *nats.Msg) { l.book.happened(envelope.Aggregate(m.Header), typ) },
		ledger.Stream: l.noteEntry,
	} {
		sub, err := l.nc.Subscribe(stream+".*", func(m *nats.Msg) {
			sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
			if err != nil || !l.book.isNews(stream, sequence) {
				return
			}
			note(strings.TrimPrefix(m.Subject, stream+"."), m)
		})
		if err == nil {
			subs = append(subs, sub)
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("watch %s: %w", stream, err)
		}
	}
	if err := l.nc.FlushTimeout(askTimeout); err != nil { // the server has them now
		stop()
		return nil, fmt.Errorf("watch orders: %w", err)
	}
	return stop, nil
}

func (l *load) noteEntry(typ string, m *nats.Msg) {
	if !strings.HasPrefix(envelope.Aggregate(m.Header), l.book.prefix) {
		return // a customer of others
	}
	var e ledger.Entry
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return // the balance shows what it is about
	}
	e.Kind = typ
	l.book.entered(e)
}

// look asks what happened to an order, and tells the book.
func (l *load) look(ctx context.Context, n int64) {
	_, o := l.order(n)
	var history struct{ Events []struct{ Type string } }
	if _, err := request(ctx, l.nc, "orders.history", fmt.Sprintf(`{"order_id":%q}`, o.ID), &history); err != nil {
		return // it is asked again
	}
	for _, e := range history.Events {
		l.book.happened(o.ID, e.Type)
	}
}
