package deadletter

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-go/waybill/eventstore"
)

// maxListed is how many unresolved letters the index keeps, the oldest: about 50 MiB
// of summaries. More are counted, and listed when others are resolved.
const maxListed = 50_000

// kept is an unresolved letter and where it was buried.
type kept struct {
	Summary
	at uint64
}

// letters are the unresolved letters, as far as the stream was read.
type letters struct {
	most    int
	byID    map[string]*kept
	order   []*kept // by where they were buried
	counts  map[string]int
	leftOut int // unresolved, counted and not kept

	leftFrom uint64 // where the first of those was buried; 0 if there are none
	partial  bool   // the stream was not read from its beginning
}

func newLetters(most int) *letters {
	return &letters{most: most, byID: map[string]*kept{}, counts: map[string]int{}}
}

// apply takes the stream's next event.
func (l *letters) apply(e eventstore.Event) error {
	if e.Type == TypeBuried {
		return l.bury(e)
	}
	var c Change
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return fmt.Errorf("read %s at position %d: %w", e.Type, e.Position, err)
	}
	k, ok := l.byID[e.Aggregate]
	if !ok {
		// One that was left out, or nobody's: anyone who may append may write here.
		var s Summary
		if s.evolve(e.Type, c); !l.partial && s.Status.Resolved() && l.leftOut > 0 && l.counts[c.Function] > 0 {
			l.count(c.Function, -1)
			if l.leftOut--; l.leftOut == 0 {
				l.leftFrom = 0
			}
		}
		return nil
	}
	if k.evolve(e.Type, c); k.Status.Resolved() {
		delete(l.byID, e.Aggregate)
		if i, ok := l.find(k.at); ok {
			l.order = slices.Delete(l.order, i, i+1)
		}
		l.count(k.Function, -1)
	}
	return nil
}

func (l *letters) bury(e eventstore.Event) error {
	if e.Version != 1 {
		return nil
	}
	var letter Letter
	if err := json.Unmarshal(e.Data, &letter); err != nil {
		return fmt.Errorf("read %s at position %d: %w", e.Type, e.Position, err)
	}
	l.count(letter.Function, 1)
	if len(l.order) >= l.most || l.leftFrom > 0 { // without gaps: what is listed are the oldest
		l.leftOut++
		if l.leftFrom == 0 {
			l.leftFrom = e.Position
		}
		return nil
	}
	k := &kept{summarise(e, letter), e.Position}
	l.byID[e.Aggregate] = k
	l.order = append(l.order, k)
	return nil
}

// count adds to the unresolved letters of a function.
func (l *letters) count(function string, by int) {
	if l.counts[function] += by; l.counts[function] == 0 {
		delete(l.counts, function)
	}
}

// find answers where in order the letter buried at a position is, or would be.
func (l *letters) find(at uint64) (int, bool) {
	return slices.BinarySearchFunc(l.order, at, func(k *kept, at uint64) int { return cmp.Compare(k.at, at) })
}

// hasRoom tells that the stream is worth reading again for what was left out.
func (l *letters) hasRoom() bool { return l.leftOut > 0 && len(l.order) <= l.most/2 }

// further reads what was left out, as far as there is room, up to a position.
func (l *letters) further(ctx context.Context, store eventstore.Store, to uint64) (*letters, error) {
	more := newLetters(l.most - len(l.order))
	more.partial = true
	for e, err := range store.ReadStream(ctx, eventstore.StreamRead{Stream: Stream, From: l.leftFrom}) {
		if err != nil {
			return nil, err
		}
		if e.Position > to {
			break
		}
		_ = more.apply(e) // it was told when it was read first
	}
	return more, nil
}

// add takes what further read.
func (l *letters) add(more *letters) {
	maps.Copy(l.byID, more.byID)
	l.order = append(l.order, more.order...)
	l.leftOut, l.leftFrom = l.leftOut-len(more.order), more.leftFrom
	if l.leftFrom == 0 {
		l.leftOut = 0
	}
}

// filter says which letters are asked for; what is empty asks for all.
type filter struct {
	function, stream, reason string
	status                   Status
	since                    time.Time
	fresh                    int // replayed less often than this; 0 asks for all
}

func (f filter) matches(s Summary) bool {
	return (f.function == "" || s.Function == f.function) && (f.stream == "" || s.Stream == f.stream) &&
		(f.reason == "" || s.Reason == f.reason) && !s.Buried.Before(f.since) &&
		(f.fresh == 0 || s.Replays < f.fresh) &&
		(s.Status == f.status || f.status == StatusUnresolved && !s.Status.Resolved())
}

// index follows the stream of dead letters, and knows the unresolved ones.
type index struct {
	mu       sync.Mutex
	letters  *letters
	position uint64
	built    bool
	moved    chan struct{} // closed when position or built changes
}

func newIndex(most int) *index {
	return &index{letters: newLetters(most), moved: make(chan struct{})}
}

const followAgain = 500 * time.Millisecond

// run follows the stream until ctx ends.
func (x *index) run(ctx context.Context, store eventstore.Store, log *slog.Logger) error {
	for {
		err := x.follow(ctx, store, log)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Warn("dead letters can't be read", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followAgain):
		}
	}
}

// follow reads the stream to its end, and then what comes. An error ends it; the
// next one goes on from there.
func (x *index) follow(ctx context.Context, store eventstore.Store, log *slog.Logger) error {
	for _, follow := range []bool{false, true} {
		// Nobody else writes position.
		for e, err := range store.ReadStream(ctx, eventstore.StreamRead{Stream: Stream, From: x.position + 1, Follow: follow}) {
			if err != nil {
				return err
			}
			if err := x.apply(e); err != nil {
				log.Warn("no dead letter", "position", e.Position, "error", err)
			}
			if follow {
				if err := x.fill(ctx, store); err != nil {
					return err
				}
			}
		}
		if err := x.fill(ctx, store); err != nil {
			return err
		}
		x.mu.Lock()
		x.built = true
		x.tell()
		x.mu.Unlock()
	}
	return nil
}

func (x *index) apply(e eventstore.Event) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.position = e.Position
	x.tell()
	return x.letters.apply(e)
}

// fill lists what was left out, once there is room. It reads with no lock held:
// nobody else changes the letters.
func (x *index) fill(ctx context.Context, store eventstore.Store) error {
	for x.letters.hasRoom() {
		more, err := x.letters.further(ctx, store, x.position)
		if err != nil {
			return err
		}
		x.mu.Lock()
		x.letters.add(more)
		x.mu.Unlock()
	}
	return nil
}

// tell wakes who waits; mu is held.
func (x *index) tell() {
	close(x.moved)
	x.moved = make(chan struct{})
}

// await waits until the stream was read up to a position.
func (x *index) await(ctx context.Context, position uint64) error {
	for {
		x.mu.Lock()
		done, moved := x.built && x.position >= position, x.moved
		x.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list answers at most limit letters that were buried behind a position, and
// where the last one was, or 0 if there are no more.
func (x *index) list(f filter, after uint64, limit int) (found []Summary, next uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	from, _ := x.letters.find(after + 1)
	found = []Summary{}
	for _, k := range x.letters.order[from:] {
		if !f.matches(k.Summary) {
			continue
		}
		if len(found) == limit {
			return found, next
		}
		found, next = append(found, k.Summary), k.at
	}
	return found, 0
}

// next answers the first letter that was buried behind a position, and where it
// was buried.
func (x *index) next(f filter, after uint64) (id string, at uint64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	from, _ := x.letters.find(after + 1)
	for _, k := range x.letters.order[from:] {
		if f.matches(k.Summary) {
			return k.ID, k.at, true
		}
	}
	return "", 0, false
}

// functions are those that have letters.
func (x *index) functions(f filter) map[string]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[string]bool{}
	for _, k := range x.letters.order {
		if f.matches(k.Summary) {
			found[k.Function] = true
		}
	}
	return found
}

// unresolved counts the unresolved letters of each function, and those not listed.
func (x *index) unresolved() (counts map[string]int, leftOut int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.letters.counts), x.letters.leftOut
}

// beginningWith answers the ids of at most two unresolved letters.
func (x *index) beginningWith(prefix string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []string
	for _, k := range x.letters.order {
		if strings.HasPrefix(k.ID, prefix) {
			if ids = append(ids, k.ID); len(ids) == 2 {
				break
			}
		}
	}
	return ids
}
