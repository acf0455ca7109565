package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
// saved and is gone, or has fallen behind what was saved, was lost with its
// server's storage: it is made anew from its floor. That is safe at any time,
// because a floor is saved only after everything up to it was acknowledged,
// and nothing is acknowledged before its effect is in SQL. If a function makes
// the durable at the same moment, from the start of the stream, the next round
// finds it behind and puts it right.
func (w *worker) saveFloors(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := w.r.js.Stream(ctx, w.stream)
	if err != nil {
		return fmt.Errorf("find stream %s: %w", w.stream, err)
	}
	info := s.CachedInfo()
	if !envelope.Ready(info.Config.Metadata) {
		return fmt.Errorf("save floors of %s: %w", w.stream, errBehind)
	}
	saved, err := w.r.backend.Durables(ctx, w.stream)
	if err != nil {
		return err
	}
	found, err := readDurables(ctx, s, info.State.LastSeq)
	if err != nil {
		return fmt.Errorf("list durables of %s: %w", w.stream, err)
	}
	for _, was := range saved {
		i := slices.IndexFunc(found, func(d eventstore.Durable) bool { return d.Name == was.Name })
		if i >= 0 && found[i].Floor >= was.Floor {
			continue
		}
		if i >= 0 {
			was.Config = found[i].Config // a newer release may have changed it
			found[i].Floor = was.Floor
		} else {
			found = append(found, was)
		}
		w.log.Warn("durable was lost; making it anew from its floor", "durable", was.Name, "floor", was.Floor)
		if err := w.remake(ctx, s, was); err != nil {
			return err
		}
	}
	slices.SortFunc(found, func(a, b eventstore.Durable) int { return strings.Compare(a.Name, b.Name) })
	same := func(a, b eventstore.Durable) bool {
		return a.Name == b.Name && a.Floor == b.Floor && bytes.Equal(a.Config, b.Config)
	}
	if slices.EqualFunc(found, saved, same) {
		return nil
	}
	return w.r.backend.SaveDurables(ctx, w.stream, found)
}

// readDurables reads each durable's floor. last is the stream's last sequence,
// read before: a durable with nothing pending has handled all of that, however
// long ago its last event was.
func readDurables(ctx context.Context, s jetstream.Stream, last uint64) ([]eventstore.Durable, error) {
	var durables []eventstore.Durable
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.Durable == "" {
			continue
		}
		config, err := json.Marshal(info.Config)
		if err != nil {
			return nil, err
		}
		floor := info.AckFloor.Stream
		if info.NumPending == 0 && info.NumAckPending == 0 {
			floor = max(floor, last)
		}
		durables = append(durables, eventstore.Durable{Name: info.Config.Durable, Config: config, Floor: floor})
	}
	return durables, list.Err()
}

// remake makes a durable that begins right after its floor. One that is there
// goes first: where it begins can't be changed.
func (w *worker) remake(ctx context.Context, s jetstream.Stream, d eventstore.Durable) error {
	var cfg jetstream.ConsumerConfig
	if err := json.Unmarshal(d.Config, &cfg); err != nil {
		return fmt.Errorf("make durable %s of %s: read its saved configuration: %w", d.Name, w.stream, err)
	}
	cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartSequencePolicy, d.Floor+1, nil
	if err := s.DeleteConsumer(ctx, d.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("make durable %s of %s: %w", d.Name, w.stream, err)
	}
	if _, err := s.CreateConsumer(ctx, cfg); err != nil {
		return fmt.Errorf("make durable %s of %s: %w", d.Name, w.stream, err)
	}
	return nil
}
