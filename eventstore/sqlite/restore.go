package sqlite

import (
	"context"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/groupcommit"
	"github.com/waybill-go/waybill/internal/crash"
)

// Restore implements eventstore.Backend. It waits for the commit that runs, if
// one does.
func (s *Store) Restore(ctx context.Context, stream string, events []eventstore.Event) error {
	if err := eventstore.CheckRestore(stream, events); err != nil {
		return err
	}
	what := "restore " + stream
	if err := ctx.Err(); err != nil {
		return eventstore.Away(ctx, what, err)
	}
	s.committing.Lock()
	defer s.committing.Unlock()
	var refused error
	w := s.writer
	err := w.transact(func() (bool, error) {
		facts, err := w.facts(groupcommit.Restoring(events))
		if err != nil {
			return false, err
		}
		var planned groupcommit.Planned
		planned, refused = groupcommit.PlanRestore(events, facts)
		return refused == nil, w.store(planned)
	})
	if err != nil {
		return eventstore.Away(context.Background(), what, err) // it was tried, whatever became of ctx
	}
	if refused != nil {
		return refused
	}
	crash.At(crash.AfterCommit)
	s.listeners.Tell(events)
	return nil
}
