package postgres

import (
	"context"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/internal/crash"
)

// Restore implements eventstore.Backend. It waits for the commit to the stream
// that runs, if one does.
func (s *Store) Restore(ctx context.Context, stream string, events []eventstore.Event) error {
	if err := eventstore.CheckRestore(stream, events); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Away(ctx, "restore "+stream, err)
	}
	w, err := s.writer(stream)
	if err != nil {
		return err
	}
	return w.restore(ctx, events)
}

// restore stores the events as commit does a group: a try that broke off is
// settled by the next one, which finds the events where it had put them or
// stores them.
func (w *writer) restore(ctx context.Context, events []eventstore.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var refused error
	group := groupcommit.Restoring(events)
	err := w.retry(ctx, func(again bool) error {
		return w.try(group, func(f groupcommit.Facts) groupcommit.Planned {
			if refused = nil; again && groupcommit.Restored(events, f) {
				return groupcommit.Planned{}
			}
			var planned groupcommit.Planned
			planned, refused = groupcommit.PlanRestore(events, f)
			return planned
		})
	})
	if err != nil {
		return eventstore.Away(ctx, "restore "+w.stream, err)
	}
	if refused != nil {
		return refused
	}
	crash.At(crash.AfterCommit)
	w.s.listeners.Tell(events)
	return nil
}
