package deadletter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-go/waybill/runtime/function"
)

const (
	// maxRetries is how often a letter that was crowded out is replayed by the
	// office. One that fails as often is left to people, like any other.
	maxRetries = 3
	// maxRefusals is how often the replay of a letter may be refused until that is
	// recorded as one that failed: with the default Retry about an hour, for what
	// is away to be back. So no letter is tried for ever.
	maxRefusals = 100
	// refusalsInARow is after how many of them a function is left alone until the
	// next time: it is not the letters, then.
	refusalsInARow = 3
	// roundsAtOnce is how many functions get their letters at the same time.
	roundsAtOnce = 16
)

// crowdedOut are the letters that the office replays by itself.
var crowdedOut = filter{reason: ReasonCrowded, status: StatusUnresolved, fresh: maxRetries}

// retry replays the letters that were crowded out, again and again until ctx
// ends: what failed for a cause that has passed needs nobody then.
//
// Several offices may replay the same letter at once, which handles it once.
func (o *Office) retry(ctx context.Context) {
	ticker := time.NewTicker(o.opts.Retry)
	defer ticker.Stop()
	var rounds errgroup.Group
	rounds.SetLimit(roundsAtOnce)
	defer func() { _ = rounds.Wait() }() // no round has an error
	all := map[string]*retries{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		waiting := o.index.functions(crowdedOut)
		maps.DeleteFunc(all, func(name string, r *retries) bool { return !waiting[name] && !r.running.Load() })
		for name := range waiting { // in no order: who finds no place finds one another time
			r := all[name]
			if r == nil {
				r = &retries{office: o, function: name, refused: map[string]int{}}
				all[name] = r
			}
			if r.running.Swap(true) {
				continue // the round before goes on
			}
			if !rounds.TryGo(func() error { defer r.running.Store(false); r.round(ctx); return nil }) {
				r.running.Store(false)
			}
		}
	}
}

// retries are those of one function. They are made one after the other, so they
// take little from what is new.
type retries struct {
	office   *Office
	function string
	running  atomic.Bool
	// Only the round that runs touches these.
	after   uint64         // where the last letter that was tried was buried
	refused map[string]int // how often each letter was
}

// round goes through the letters, from behind the last one that was tried to the
// newest: so those that are refused each time stop no others for ever.
func (r *retries) round(ctx context.Context) {
	f := crowdedOut
	f.function = r.function
	for inARow := 0; inARow < refusalsInARow && ctx.Err() == nil; {
		id, buried, ok := r.office.index.next(f, r.after)
		if !ok {
			r.after = 0
			return
		}
		r.after = buried
		err := r.office.retryOne(ctx, id)
		if err == nil {
			delete(r.refused, id)
			inARow = 0
			continue
		}
		r.office.opts.Logger.Debug("a letter that was crowded out waits", "function", r.function, "letter", id, "error", err)
		if errors.Is(err, ErrNotRunning) {
			return
		}
		no, refused := errors.AsType[*function.Refusal](err)
		if !refused || no.Code != function.CodeConflict { // a conflict is the letter's own: resolved meanwhile, or in need of people
			inARow++
		}
		if refused {
			r.refuse(ctx, id, no)
		}
	}
}

// refuse counts a letter that was not handled.
func (r *retries) refuse(ctx context.Context, id string, no *function.Refusal) {
	if r.refused[id]++; r.refused[id] < maxRefusals {
		return
	}
	if _, err := r.office.record(ctx, id, Name, fmt.Sprintf("not handled, %d times: %v", maxRefusals, no)); err != nil {
		return // the next refusal records it
	}
	delete(r.refused, id)
}

// retryOne replays one letter, if it still is to be: the index may be behind.
func (o *Office) retryOne(ctx context.Context, id string) error {
	s, err := o.load(ctx, id)
	if err != nil || s.Status.Resolved() || s.Replays >= maxRetries {
		return err
	}
	_, err = o.replayOne(ctx, id, Name)
	return err
}
