package deadletter

import (
	"context"
	"errors"
	"time"

	"github.com/waybill-go/waybill/runtime/function"
)

// maxRetries is how often a letter that was crowded out is replayed by the
// office. One that fails as often is left to people, like any other.
const maxRetries = 3

// retry replays the letters that were crowded out, again and again until ctx
// ends: what failed for a cause that has passed needs nobody then. They are
// replayed one after the other, so they take little from what is new.
//
// Several offices may replay the same letter at once, which handles it once.
func (o *Office) retry(ctx context.Context) {
	ticker := time.NewTicker(o.opts.Retry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		o.retryAll(ctx)
	}
}

// retryAll goes once through the letters. A function that can't take them now is
// left alone until the next time.
func (o *Office) retryAll(ctx context.Context) {
	away := map[string]bool{}
	f := filter{reason: ReasonCrowded, status: StatusOpen, fresh: maxRetries}
	for at := uint64(0); ctx.Err() == nil; {
		id, name, buried, ok := o.index.next(f, at)
		if !ok {
			return
		}
		at = buried
		if away[name] {
			continue
		}
		if err := o.retryOne(ctx, id); err != nil && !isConflict(err) {
			away[name] = true
			o.opts.Logger.Debug("letters that were crowded out wait", "function", name, "error", err)
		}
	}
}

// retryOne replays one letter, if it still is to be: the index may be behind.
func (o *Office) retryOne(ctx context.Context, id string) error {
	s, err := o.load(ctx, id)
	if err != nil || !s.Status.Open() || s.Replays >= maxRetries {
		return err
	}
	_, err = o.replayOne(ctx, id, Name)
	return err
}

// isConflict tells that a letter was closed meanwhile, or needs people.
func isConflict(err error) bool {
	no, ok := errors.AsType[*function.Refusal](err)
	return ok && no.Code == function.CodeConflict
}
