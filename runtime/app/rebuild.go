package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sort"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

type rebuildCommand struct {
	Function string `arg:"" help:"The function that keeps the view, like orderview."`
}

// Help is shown by rebuild --help.
func (rebuildCommand) Help() string {
	return "Reads a stream's whole history from the event store, makes a new view of it beside the one that is in use, and puts " +
		"it in its place. Functions run meanwhile. One that was interrupted goes on where it was when it is started again." +
		"\n\nExample:\n\n  $ " + commandName() + " rebuild orderview"
}

// Run rebuilds, and prints of how many events.
func (c rebuildCommand) Run(ctx context.Context, s *session, client *Client) (err error) {
	f, door, err := s.program.rebuildable(c.Function)
	if err != nil {
		return err
	}
	store, err := client.store(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, r := range s.program.resources([]function.Function{f}) {
		if err := s.open(ctx, r); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
	}
	h := &watched{History: function.HistoryOf(store, door.Stream), log: s.log, name: f.Name, began: time.Now(), said: time.Now()}
	if h.end, err = head(ctx, store, door.Stream); err != nil {
		return fmt.Errorf("rebuild %s: %w", f.Name, err)
	}
	h.bar = Progress(int64(h.end), "rebuilding "+f.Name, //nolint:gosec // a position
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"))
	left := 0
	err = door.Rebuild(ctx, h, func(m function.Message, why error) {
		if left++; left <= sayLeft {
			s.log.Warn("event left out", "function", f.Name, "aggregate", m.Aggregate, "position", m.Position, "error", why)
		}
	})
	_ = h.bar.Finish() // it is for the eye only
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("rebuild %s: interrupted; the same command goes on where it was", f.Name)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is made anew of %s up to position %d: %s read now, %.0f/s", f.Name, door.Stream, h.last, events(h.read), h.rate())
	if left > 0 {
		fmt.Fprintf(s.stdout, "; %d could not be applied: %s deadletters ls --function %s", left, commandName(), f.Name)
	}
	fmt.Fprintln(s.stdout)
	return nil
}

// sayLeft is how many events that are left out the log names.
const sayLeft = 10

// rebuildable finds the function of that name, and its door that can be rebuilt.
func (p Program) rebuildable(name string) (function.Function, *function.Projection, error) {
	var can []string
	for _, f := range p.Functions {
		for _, d := range f.Doors {
			d, ok := d.(*function.Projection)
			if !ok || d.Rebuild == nil {
				continue
			}
			if f.Name == name {
				return f, d, nil
			}
			can = append(can, f.Name)
		}
	}
	if len(can) == 0 {
		return function.Function{}, nil, fmt.Errorf("rebuild %q: no function has a view that can be rebuilt", name)
	}
	return function.Function{}, nil, fmt.Errorf("rebuild %q: it has no view that can be rebuilt; there are %s", name, strings.Join(can, ", "))
}

// open loads a resource's settings, and opens it.
func (s *session) open(ctx context.Context, r function.Resource) error {
	if c := r.Config(); c != nil {
		if err := config.Load(ctx, s.lookup, c); err != nil {
			return err
		}
	}
	return r.Open(ctx)
}

// head is the position of a stream's last event. The façade is not asked for it
// otherwise: since positions have no gap, some forty short reads find it.
func head(ctx context.Context, store eventstore.Store, stream string) (uint64, error) {
	var failed error
	beyond := func(position uint64) bool {
		if failed != nil {
			return true
		}
		found, err := eventstore.Collect(store.ReadStream(ctx, eventstore.StreamRead{Stream: stream, From: position, Limit: 1}))
		failed = err
		return len(found) == 0
	}
	end := uint64(1)
	for !beyond(end) {
		end *= 2
	}
	n := sort.Search(int(end), func(i int) bool { return beyond(uint64(i) + 1) }) //nolint:gosec // positions
	return uint64(n), failed                                                      //nolint:gosec // a position
}

// watched is a history that shows how far it is read.
type watched struct {
	function.History
	log             *slog.Logger
	name            string
	bar             *progressbar.ProgressBar
	began, said     time.Time
	end, last, read uint64 // positions, and a count
}

const (
	// showEvery is how many events pass between two looks at the clock.
	showEvery = 512
	sayEvery  = 10 * time.Second
)

// ReadStream implements function.History.
func (h *watched) ReadStream(ctx context.Context, from uint64) iter.Seq2[function.Message, error] {
	return func(yield func(function.Message, error) bool) {
		for e, err := range h.History.ReadStream(ctx, from) {
			if err == nil {
				h.saw(e.Position)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (h *watched) saw(position uint64) {
	h.read++
	if h.last = position; h.last > h.end { // it grows meanwhile
		h.end = h.last
		h.bar.ChangeMax64(int64(h.end)) //nolint:gosec // a position
	}
	if h.read%showEvery != 0 && h.last != h.end {
		return
	}
	_ = h.bar.Set64(int64(h.last)) //nolint:gosec // a position; it is for the eye only
	if time.Since(h.said) > sayEvery {
		h.said = time.Now()
		h.log.Info("rebuilding", "function", h.name, "position", h.last, "head", h.end, "events_per_second", int(h.rate()))
	}
}

func (h *watched) rate() float64 { return float64(h.read) / time.Since(h.began).Seconds() }
