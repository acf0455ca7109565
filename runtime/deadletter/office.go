package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/function"
)

// Store is what an office needs of the event store: its stream's end too, so
// that a list has all that was there when it was asked for.
type Store interface {
	eventstore.Store
	Head(ctx context.Context, stream string) (uint64, error)
}

// Replayer hands a message to a function, and to no other.
//
// Errors: [ErrNotRunning]; a function.Refusal when the message was not handled
// for a reason that is not its own; the context's when no answer came.
type Replayer func(ctx context.Context, name string, r Replay) (Outcome, error)

// ErrNotRunning says that no replica of the function runs.
var ErrNotRunning = errors.New("no replica runs")

// Options of an office.
type Options struct {
	Store  Store
	Replay Replayer
	// Deadlines are how long each function may take for a message. Default
	// function.DefaultDeadline.
	Deadlines map[string]time.Duration
	// Retry is how often those that were crowded out are replayed. Default 30 s.
	Retry time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Office answers for the dead letters: it is the service deadletters. Several
// may run on one store. Make one with [New].
type Office struct {
	opts  Options
	index *index
}

// New makes an office. It answers as soon as Run has read the stream.
func New(opts Options) *Office {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Retry == 0 {
		opts.Retry = 30 * time.Second
	}
	return &Office{opts: opts, index: newIndex(maxListed)}
}

// Run keeps the office's list, and replays those that were crowded out, until
// ctx ends.
func (o *Office) Run(ctx context.Context) error {
	retrying, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { o.retry(retrying) })
	return o.index.run(ctx, o.opts.Store, o.opts.Logger.With("function", Name))
}

// Unresolved counts the unresolved letters of each function.
func (o *Office) Unresolved() map[string]int {
	counts, _ := o.index.unresolved()
	return counts
}

// Function is the service, as a function to be run.
func (o *Office) Function() function.Function {
	longest := ReplayTimeout(0)
	for _, d := range o.opts.Deadlines {
		longest = max(longest, ReplayTimeout(d))
	}
	return function.Function{
		Name: Name, Description: "The dead letters: what functions could not handle.",
		Deadline: min(longest+recordTime, function.MaxDeadline),
		Doors: []function.Door{
			function.Endpoint(SubjectList, o.list), function.Endpoint(SubjectShow, o.show), function.Endpoint(SubjectEdit, o.edit),
			function.Endpoint(SubjectReplay, o.replay), function.Endpoint(SubjectDrop, o.drop),
		},
	}
}

const (
	// indexWait is how long an answer waits for the index to have read what is
	// stored already.
	indexWait = 2 * time.Second
	// recordTime is what is left to record an outcome.
	recordTime = 5 * time.Second
	// changeTries is how often a change is decided on when others change the
	// letter too.
	changeTries = 5
	// maxScan is how many events are looked at for one page of resolved letters.
	maxScan = 1000
	// maxReplayError is how much is kept of a failed replay's error, in bytes.
	maxReplayError = 1 << 10
)

// ReplayTimeout is how long a replay may take that is handled within a deadline: one more
// of the same aggregate may be before it. Zero means the default deadline.
func ReplayTimeout(deadline time.Duration) time.Duration {
	if deadline == 0 {
		deadline = function.DefaultDeadline
	}
	return 2*deadline + 5*time.Second
}

// current waits until the index has what the store has now.
func (o *Office) current(ctx context.Context) error {
	head, err := o.opts.Store.Head(ctx, Stream)
	if err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	if err := o.index.await(ctx, head); err != nil {
		return &function.Refusal{Code: function.CodeUnavailable, Reason: "the dead letters are still being read; try again"}
	}
	return nil
}

func (o *Office) list(ctx context.Context, r ListRequest) (Listed, error) {
	if err := o.current(ctx); err != nil {
		return Listed{}, err
	}
	after, err := position(r.Cursor)
	if err != nil {
		return Listed{}, err
	}
	var answer Listed
	f := filter{function: r.Function, stream: r.Stream, reason: r.Reason, status: r.Status, since: r.Since}
	if next := uint64(0); !r.Status.Resolved() {
		answer.Letters, next = o.index.list(f, after, *r.Limit)
		answer.Cursor = cursor(next)
	} else {
		if answer.Letters, next, err = o.resolved(ctx, f, after, *r.Limit); err != nil {
			return Listed{}, err
		}
		answer.Cursor = cursor(next)
	}
	answer.Unresolved, answer.NotListed = o.index.unresolved()
	return answer, nil
}

// resolved looks for letters that were resolved behind a position. They are in the
// store alone, so a page reads a part of the stream.
func (o *Office) resolved(ctx context.Context, f filter, after uint64, limit int) (found []Summary, next uint64, err error) {
	found = []Summary{}
	read := eventstore.StreamRead{Stream: Stream, From: after + 1, Limit: maxScan, Types: []string{string(f.status)}}
	seen := 0
	for e, err := range o.opts.Store.ReadStream(ctx, read) {
		if err != nil {
			return nil, 0, fmt.Errorf("read dead letters: %w", err)
		}
		seen, next = seen+1, e.Position
		var c Change
		if json.Unmarshal(e.Data, &c) != nil || c.Error != "" || f.function != "" && c.Function != f.function {
			continue
		}
		s, err := o.load(ctx, e.Aggregate)
		if err != nil {
			return nil, 0, err
		}
		if !f.matches(s.Summary) {
			continue
		}
		if found = append(found, s.Summary); len(found) == limit {
			return found, next, nil
		}
	}
	if seen < maxScan {
		next = 0
	}
	return found, next, nil
}

func (o *Office) show(ctx context.Context, r ShowRequest) (State, error) {
	s, err := o.find(ctx, r.ID)
	if err != nil {
		return s, err
	}
	return o.whole(ctx, s)
}

// maxShown is the most of both bodies in one answer, in bytes.
const maxShown = 768 << 10

// whole fills in what was cut out of the letter, if it can be read, so that an
// answer has the message whole.
func (o *Office) whole(ctx context.Context, s State) (State, error) {
	if len(s.Letter.Data) == 0 && len(s.Letter.Raw) == 0 {
		switch e, found, err := o.stored(ctx, s.Letter); {
		case err != nil:
			return s, err
		case found:
			s.Letter.Data = e.Data
		}
	}
	if len(s.Letter.Data)+len(s.Letter.Raw)*4/3+len(s.Edited) > maxShown {
		s.Letter.Data, s.Letter.Raw = nil, nil
	}
	return s, nil
}

func (o *Office) edit(ctx context.Context, r EditRequest) (State, error) {
	s, err := o.find(ctx, r.ID)
	if err != nil {
		return s, err
	}
	s, err = o.change(ctx, s.ID, func(s State) (string, Change, error) {
		switch {
		case s.Status.Resolved():
			return "", Change{}, function.Conflict("id", "dead letter %s was %s", s.ID, s.Status)
		case r.Version != 0 && r.Version != s.Version:
			return "", Change{}, function.Conflict("version", "dead letter %s was changed by another: it is at version %d and not %d", s.ID, s.Version, r.Version)
		}
		return TypeEdited, Change{By: r.By, Reason: r.Reason, Data: r.Data}, nil
	})
	if err != nil {
		return s, err
	}
	return o.whole(ctx, s)
}

func (o *Office) drop(ctx context.Context, r DropRequest) (Summary, error) {
	s, err := o.find(ctx, r.ID)
	if err != nil {
		return Summary{}, err
	}
	s, err = o.change(ctx, s.ID, func(s State) (string, Change, error) {
		switch s.Status {
		case StatusDropped: // the same again
			return "", Change{}, nil
		case StatusReplayed:
			return "", Change{}, function.Conflict("id", "dead letter %s was replayed", s.ID)
		}
		return TypeDropped, Change{By: r.By, Reason: r.Reason}, nil
	})
	return s.Summary, err
}

// find loads the letter of an id, or of an unresolved one's first characters.
func (o *Office) find(ctx context.Context, id string) (State, error) {
	id = strings.ToLower(id)
	switch {
	case len(id) == wholeID:
	case len(id) < leastPrefix || len(id) > wholeID:
		return State{}, function.Invalid("id", "is %.40q; give an id, or at least the first %d characters of an unresolved letter's", id, leastPrefix)
	default:
		if err := o.current(ctx); err != nil {
			return State{}, err
		}
		switch ids := o.index.beginningWith(id); len(ids) {
		case 0:
			return State{}, function.NotFound("id", "no unresolved dead letter begins with %q; of a resolved one give the whole id, which deadletters ls --status replayed or dropped has", id)
		case 1:
			id = ids[0]
		default:
			return State{}, function.Invalid("id", "is %q, which several dead letters begin with; give more of it", id)
		}
	}
	if err := eventstore.CheckID("id", id); err != nil {
		return State{}, err
	}
	return o.load(ctx, id)
}

func (o *Office) load(ctx context.Context, id string) (State, error) {
	s, err := fold(o.opts.Store.ReadAggregate(ctx, eventstore.AggregateRead{Stream: Stream, Aggregate: id}))
	if errors.Is(err, errNotThere) {
		return s, function.NotFound("id", "there is no dead letter %q", id)
	}
	if err != nil {
		return s, fmt.Errorf("load dead letter %s: %w", id, err)
	}
	return s, nil
}

// change loads the letter, decides, and appends at the version seen, until
// nobody was faster. A decision without a type changes nothing.
func (o *Office) change(ctx context.Context, id string, decide func(State) (typ string, c Change, err error)) (State, error) {
	for range changeTries {
		s, err := o.load(ctx, id)
		if err != nil {
			return s, err
		}
		typ, c, err := decide(s)
		if err != nil || typ == "" {
			return s, err
		}
		c.Function = s.Function
		data, err := marshal(c)
		if err != nil {
			return s, fmt.Errorf("change dead letter %s: %w", id, err)
		}
		done, err := o.opts.Store.Append(ctx, eventstore.Append{
			Stream: Stream, Aggregate: id, Expected: eventstore.Exactly(s.Version),
			Events: []eventstore.Event{{
				ID: changeID(ctx, id, typ), Type: typ, Time: time.Now(), Source: Name,
				CausationID: id, CorrelationID: s.CorrelationID, Data: data,
			}},
		})
		if _, ok := errors.AsType[*eventstore.ConflictError](err); ok {
			continue
		}
		if err != nil {
			return s, fmt.Errorf("change dead letter %s: %w", id, err)
		}
		if done.Duplicate { // the same request again
			return o.load(ctx, id)
		}
		return s, s.evolve(done.Events[0])
	}
	return State{}, fmt.Errorf("change dead letter %s: %w", id, function.ErrConflicts)
}

// changeID is the same for the same request, so that one that is repeated under
// its Nats-Msg-Id changes nothing twice.
func changeID(ctx context.Context, id, typ string) string {
	if request := function.CauseOf(ctx).ID; request != "" {
		return function.DeriveID("deadletter", id, typ, request)
	}
	return uuid.NewString()
}
