package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
)

// keepFloors saves every while how far each durable has come, until ctx ends
// or the stream is not what it should be.
func (w *worker) keepFloors(ctx context.Context) error {
	ticker := time.NewTicker(w.r.opts.Floors)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := w.saveFloors(ctx); err != nil {
			return err
		}
	}
}

// saveFloors reads the durables and saves what changed. A durable that was
// saved and is gone, or is another one now, was lost with its server's storage:
// it is made anew from its floor. That is safe at any time, because a floor is
// saved only after everything up to it was acknowledged, and nothing is
// acknowledged before its effect is in SQL. If a function makes the durable at
// the same moment, from where the function begins the first time, the next round
// finds it and puts it right.
func (w *worker) saveFloors(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := w.find(ctx)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if !envelope.Ready(info.Config.Metadata) {
		return fmt.Errorf("save floors of %s: %w", w.stream, errBehind)
	}
	w.floors.Lock()
	defer w.floors.Unlock()
	rows, err := w.r.backend.Durables(ctx, w.stream)
	if err != nil {
		return err
	}
	saved, err := fromRows(rows)
	if err != nil {
		return err
	}
	head, err := w.r.backend.Head(ctx, w.stream)
	if err != nil {
		return err
	}
	found, err := readDurables(ctx, s, head)
	if err != nil {
		return fmt.Errorf("list durables of %s: %w", w.stream, err)
	}
	for name, was := range saved {
		if was.floor > head {
			return w.mismatch("%s has handled position %d and SQL ends at %d", name, was.floor, head)
		}
		now, there := found[name]
		if there && now.FilterSubject != was.FilterSubject {
			continue // a new one in its own right
		}
		if there && now.is(was) {
			now.floor = max(now.floor, was.floor)
			found[name] = now
			continue
		}
		if there {
			was.ConsumerConfig = now.ConsumerConfig // a newer release may have changed it
		}
		w.log.Warn("durable was lost; making it anew from its floor", "durable", name, "floor", was.floor)
		if found[name], err = w.remake(ctx, s, was); err != nil {
			return err
		}
	}
	w.tellLag(ctx, s, found)
	if info.State.Msgs > 0 {
		// Of a history that SQL does not have nothing may be saved in it.
		if _, err := w.compareLast(ctx, s); err != nil {
			return err
		}
	}
	for name, d := range found {
		d.floor = w.extend(ctx, d, head)
		found[name] = d
	}
	now, err := toRows(found)
	if err != nil || slices.EqualFunc(now, rows, func(a, b eventstore.Durable) bool {
		return a.Name == b.Name && a.Floor == b.Floor && bytes.Equal(a.Config, b.Config)
	}) {
		return err
	}
	return w.r.backend.SaveDurables(ctx, w.stream, now)
}

// durable is a durable consumer as it was when somebody looked. All but the
// floor is kept in SQL as JSON.
type durable struct {
	jetstream.ConsumerConfig

	Created time.Time `json:"created,omitzero"` // tells it from another of the same name
	floor   uint64
	lag     uint64 // events that wait for it, and those it delivered
}

// is tells whether this is the durable that it was, and none that somebody made
// since.
func (d durable) is(was durable) bool { return was.Created.IsZero() || was.Created.Equal(d.Created) }

// One round looks so far into SQL for each durable, and for so long.
const (
	extendMost = 10_000
	extendFor  = time.Second
)

// extend raises a floor towards the event before the next one that the durable
// has to handle: what it does not filter it has handled. SQL is asked, and not
// JetStream: of a cluster a server that was behind may say that nothing is
// pending. What one round does not reach the next one does. head was read before.
func (w *worker) extend(ctx context.Context, d durable, head uint64) uint64 {
	floor := min(d.floor, head)
	typ, one := strings.CutPrefix(d.FilterSubject, w.stream+".")
	if !one || typ == ">" || typ == "*" || floor == head {
		return floor
	}
	ctx, cancel := context.WithTimeout(ctx, extendFor)
	defer cancel()
	for e, err := range w.r.backend.ReadStream(ctx, eventstore.StreamRead{Stream: w.stream, From: floor + 1, Limit: extendMost}) {
		if err != nil || e.Type == typ || e.Position > head {
			break
		}
		floor = e.Position
	}
	return floor
}

func fromRows(rows []eventstore.Durable) (map[string]durable, error) {
	all := make(map[string]durable, len(rows))
	for _, row := range rows {
		d := durable{floor: row.Floor}
		if err := json.Unmarshal(row.Config, &d); err != nil {
			return nil, fmt.Errorf("read saved configuration of durable %s: %w", row.Name, err)
		}
		all[row.Name] = d
	}
	return all, nil
}

func toRows(all map[string]durable) ([]eventstore.Durable, error) {
	rows := make([]eventstore.Durable, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		config, err := json.Marshal(all[name])
		if err != nil {
			return nil, err
		}
		rows = append(rows, eventstore.Durable{Name: name, Config: config, Floor: all[name].floor})
	}
	return rows, nil
}

// readDurables reads the durables, each with what it says of its floor. Of one
// with nothing pending that is what it has looked at, for its own part.
func readDurables(ctx context.Context, s jetstream.Stream, head uint64) (map[string]durable, error) {
	durables := map[string]durable{}
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.Durable == "" {
			continue
		}
		floor := info.AckFloor.Stream
		idle := info.NumPending == 0 && info.NumAckPending == 0
		switch {
		case idle && floor == 0 && info.Config.DeliverPolicy == jetstream.DeliverNewPolicy:
			floor = head // somebody's own; ours say where they begin
		case idle:
			floor = max(floor, info.Delivered.Stream)
		}
		if info.Config.DeliverPolicy == jetstream.DeliverByStartSequencePolicy {
			floor = max(floor, info.Config.OptStartSeq-1)
		}
		durables[info.Config.Durable] = durable{ConsumerConfig: info.Config, Created: info.Created, floor: floor, lag: lagOf(info)}
	}
	return durables, list.Err()
}

func lagOf(info *jetstream.ConsumerInfo) uint64 {
	return info.NumPending + uint64(max(0, info.NumAckPending))
}

// tellLag notes what waits for each durable, and for those that nobody made yet.
func (w *worker) tellLag(ctx context.Context, s jetstream.Stream, found map[string]durable) {
	lag := make(map[string]uint64, len(found))
	for name, d := range found {
		lag[name] = d.lag
	}
	for _, d := range w.r.opts.Durables[w.stream] {
		if _, there := found[d.Durable]; there {
			continue
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(d.FilterSubject))
		if err != nil {
			continue // the next round asks again
		}
		waits := uint64(0)
		for _, n := range info.State.Subjects {
			waits += n
		}
		lag[d.Durable] = waits
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Lag = lag
}

// Forget deletes a function's durable and where it stood, so that a function of
// that name begins as a new one does.
//
// Errors: an eventstore.InvalidError for a stream or a durable that is not
// there, or is in use; ErrNotLeading.
func (r *Relay) Forget(ctx context.Context, stream, name string) error {
	w, err := r.leads(stream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	w.floors.Lock()
	defer w.floors.Unlock()
	rows, err := r.backend.Durables(ctx, stream)
	if err != nil {
		return err
	}
	s, err := w.find(ctx)
	if err != nil {
		return err
	}
	known := slices.IndexFunc(rows, func(d eventstore.Durable) bool { return d.Name == name })
	c, err := s.Consumer(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		if known < 0 {
			return &eventstore.InvalidError{Field: "durable", Reason: fmt.Sprintf("is %.40q, and %s has no such durable", name, stream)}
		}
	case err != nil:
		return fmt.Errorf("find durable %s of %s: %w", name, stream, err)
	case c.CachedInfo().NumWaiting > 0:
		return &eventstore.InvalidError{Field: "durable", Reason: fmt.Sprintf("is %.40q, and its function is running: stop that first", name)}
	}
	if known >= 0 {
		if err := r.backend.SaveDurables(ctx, stream, slices.Delete(rows, known, known+1)); err != nil {
			return err
		}
	}
	if err := s.DeleteConsumer(ctx, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete durable %s of %s: %w", name, stream, err)
	}
	return nil
}

// remake makes a durable that begins right after its floor. One that is there
// goes first: where it begins can't be changed.
func (w *worker) remake(ctx context.Context, s jetstream.Stream, d durable) (durable, error) {
	cfg := d.ConsumerConfig
	cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartSequencePolicy, d.floor+1, nil
	if err := s.DeleteConsumer(ctx, cfg.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return d, fmt.Errorf("make durable %s of %s: %w", cfg.Durable, w.stream, err)
	}
	made, err := s.CreateConsumer(ctx, cfg)
	if err != nil {
		return d, fmt.Errorf("make durable %s of %s: %w", cfg.Durable, w.stream, err)
	}
	info := made.CachedInfo()
	return durable{ConsumerConfig: info.Config, Created: info.Created, floor: d.floor, lag: lagOf(info)}, nil
}
