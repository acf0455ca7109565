package function

import (
	"context"
	"iter"

	"github.com/waybill-go/waybill/eventstore"
)

// History is a log that can be read as a whole.
type History interface {
	Log
	// ReadStream yields the stream's events from a position on, to its end at that
	// moment, in the order of their positions.
	ReadStream(ctx context.Context, from uint64) iter.Seq2[Message, error]
}

// HistoryOf is a stream of a store's.
func HistoryOf(store eventstore.Store, stream string) History { return log{store, stream} }

func (l log) ReadStream(ctx context.Context, from uint64) iter.Seq2[Message, error] {
	return l.store.ReadStream(ctx, eventstore.StreamRead{Stream: l.stream, From: from})
}

// Rebuild makes a view anew of a stream's whole history, and puts it in
// the place of the one that is in use. Meanwhile events are applied and
// questions answered. One that was broken off goes on when it is called again; of
// two at once one is refused.
//
// What is wrong with an event that the new view is without, leave is told.
type Rebuild func(ctx context.Context, log History, leave func(m Message, why error)) error
