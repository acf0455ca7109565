package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/envelope"
)

// MismatchError says that a JetStream stream is not the copy of what is in
// SQL: another database, a restored backup, or a message of somebody else's.
// Nothing is relayed to it.
type MismatchError struct{ Stream, Reason string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("JetStream stream %s is not a copy of the event store's: %s; nothing is relayed. "+
		"Is this the right event store (EVENTSTORE_DB, DATA_DIR), and the right NATS (NATS_URL)? "+
		"If so, have the stream made anew from SQL, with the command refill %s",
		e.Stream, e.Reason, e.Stream)
}

// prepare makes the stream if it is gone, compares it with SQL, and answers
// its last sequence.
func (w *worker) prepare(ctx context.Context) (uint64, error) {
	if !w.r.nc.IsConnected() {
		return 0, errors.New("not connected to NATS")
	}
	if err := CheckServer(w.r.nc); err != nil {
		return 0, err
	}
	s, err := w.find(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := w.awaitDeletion(ctx); err != nil {
			return 0, err
		}
		s, err = w.create(ctx)
	}
	if err != nil {
		return 0, err
	}
	w.seen = true
	if err := w.compare(ctx, s); err != nil {
		return 0, err
	}
	info := s.CachedInfo()
	if !envelope.Ready(info.Config.Metadata) {
		if err := w.remakeDurables(ctx, s); err != nil {
			return 0, err
		}
	}
	return info.State.LastSeq, nil
}

// deletion is how long a server may take to delete a stream's files after it
// said that the stream is gone. One that is made meanwhile would find them.
const deletion = 500 * time.Millisecond

// awaitDeletion waits, when the stream was there a moment ago, until its files are gone.
func (w *worker) awaitDeletion(ctx context.Context) error {
	if !w.seen {
		return nil
	}
	w.seen = false
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(deletion):
		return nil
	}
}

// config is the stream's: only the feed gets in, and what got in is told to
// all who listen.
func (w *worker) config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: w.stream, Description: "events of the event store, sequence = position",
		Subjects:         []string{envelope.FeedSubject(w.stream, "*")},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: envelope.FeedSubject(w.stream, "*"), Destination: w.stream + ".{{wildcard(1)}}"},
		RePublish:        &jetstream.RePublish{Source: w.stream + ".*", Destination: w.stream + ".{{wildcard(1)}}"},
		Storage:          jetstream.FileStorage, Replicas: w.r.opts.Replicas,
		MaxAge: w.r.opts.MaxAge, Duplicates: duplicates,
		DenyDelete: true, DenyPurge: true,
		Metadata: map[string]string{envelope.MetadataReady: "no"},
	}
}

// create makes the stream, beginning where begin says.
func (w *worker) create(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	first, head, err := w.begin(ctx)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	if w.from > 0 { // a person's wish
		first, w.from = min(first, w.from), 0
	}
	w.mu.Unlock()
	w.buffer.reset(head) // what was held may be of what SQL no longer has
	cfg := w.config()
	cfg.FirstSeq = first
	s, err := w.r.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, fmt.Errorf("make stream %s: %w: another was faster", w.stream, errBehind)
	}
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", w.stream, err)
	}
	w.log.Info("made JetStream stream", "from_position", first, "head", head)
	return s, nil
}

// compare says whether the stream is a copy of a part of what is in SQL.
func (w *worker) compare(ctx context.Context, s jetstream.Stream) error {
	want, info := w.config(), s.CachedInfo()
	t, r := info.Config.SubjectTransform, info.Config.RePublish
	if !slices.Equal(info.Config.Subjects, want.Subjects) || t == nil || *t != *want.SubjectTransform || r == nil || *r != *want.RePublish {
		return w.mismatch("it takes in %q", info.Config.Subjects)
	}
	head, err := w.r.backend.Head(ctx, w.stream)
	if err != nil {
		return err
	}
	w.buffer.heard(head)
	state := info.State
	w.last = ""
	if state.LastSeq > head {
		return w.mismatch("it goes to %d and SQL to %d", state.LastSeq, head)
	}
	if state.Msgs == 0 {
		return nil
	}
	if holes := state.LastSeq - state.FirstSeq + 1 - state.Msgs; holes != 0 || state.NumDeleted != 0 {
		return w.mismatch("%d messages are missing between %d and %d", holes, state.FirstSeq, state.LastSeq)
	}
	w.last, err = w.compareLast(ctx, s)
	return err
}

func (w *worker) mismatch(format string, args ...any) error {
	return &MismatchError{w.stream, fmt.Sprintf(format, args...)}
}

// compareLast compares the stream's last event with SQL, and answers its id.
func (w *worker) compareLast(ctx context.Context, s jetstream.Stream) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	last := s.CachedInfo().State.LastSeq
	m, err := s.GetMsg(ctx, last)
	if err != nil {
		return "", fmt.Errorf("read sequence %d of %s: %w", last, w.stream, err)
	}
	stored, err := eventstore.Collect(w.r.backend.ReadStream(ctx, eventstore.StreamRead{Stream: w.stream, From: last, Limit: 1}))
	if err != nil {
		return "", err
	}
	e, err := envelope.Parse(m.Subject, m.Header, m.Data, m.Sequence)
	switch {
	case err != nil:
		return "", w.mismatch("sequence %d is no event: %v", last, err)
	case len(stored) != 1 || stored[0].ID != e.ID:
		return "", w.mismatch("sequence %d is another event than position %d", last, last)
	}
	return e.ID, nil
}

// remakeDurables makes the durables anew, each from its saved floor, and then lets
// functions in. Nothing was published to the stream before.
func (w *worker) remakeDurables(ctx context.Context, s jetstream.Stream) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	w.floors.Lock()
	defer w.floors.Unlock()
	rows, err := w.r.backend.Durables(ctx, w.stream)
	if err != nil {
		return err
	}
	durables, err := fromRows(rows)
	if err != nil {
		return err
	}
	head, err := w.r.backend.Head(ctx, w.stream)
	if err != nil {
		return err
	}
	for name, d := range durables {
		d.floor = min(d.floor, head) // SQL may be back with less
		if durables[name], err = w.remake(ctx, s, d); err != nil {
			return err
		}
	}
	if rows, err = toRows(durables); err != nil {
		return err
	}
	if err := w.r.backend.SaveDurables(ctx, w.stream, rows); err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[envelope.MetadataReady] = "yes"
	if _, err := w.r.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("make stream %s ready: %w", w.stream, err)
	}
	return nil
}
