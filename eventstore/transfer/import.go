package transfer

import (
	"context"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"

	"github.com/waybill-go/waybill/eventstore"
)

// Import reads a file of Export's, and stores its events exactly as they are.
// Then it reads all of them back and compares the checksum, and saves how far
// each function had come. Progress counts each event twice: stored, read back.
//
// The stream must have no events yet, or the first ones of the file: then an
// import that was interrupted goes on behind them. With any others nothing is
// stored. Of what is wrong with the file the error names the line; the last
// events, MaxRestoreEvents at the most, are stored only after the end of the
// file was found right.
func Import(ctx context.Context, to eventstore.Backend, file io.Reader, progress Progress) (Summary, error) {
	i := &importing{to: to, lines: newReader(file), progress: progress}
	var err error
	if i.header, err = i.lines.header(); err != nil {
		return Summary{}, err
	}
	if i.has, err = to.Head(ctx, i.header.Stream); err != nil {
		return Summary{}, err
	}
	if i.has > i.header.Head {
		return Summary{}, fmt.Errorf("%s has %d events already, and the file has %d: import into a database without it",
			i.header.Stream, i.has, i.header.Head)
	}
	sum, err := i.events(ctx)
	if err != nil {
		return Summary{}, err
	}
	if err := i.verify(ctx, sum); err != nil {
		return Summary{}, err
	}
	if err := i.saveDurables(ctx); err != nil {
		return Summary{}, err
	}
	return Summary{Stream: i.header.Stream, Events: i.header.Head, Stored: i.header.Head - i.has, Checksum: sum}, nil
}

// importing is an import on its way.
type importing struct {
	to       eventstore.Backend
	lines    *reader
	header   header
	progress Progress

	has   uint64 // events that were there before
	batch []eventstore.Event
	bytes int
}

// events goes through the file, and stores what is not there. It answers the
// checksum, which is the file's.
func (i *importing) events(ctx context.Context) (string, error) {
	there, stop := iter.Pull2(upTo(ctx, i.to, i.header.Stream, i.has))
	defer stop()
	sum := newChecksum()
	for position := uint64(1); position <= i.header.Head; position++ {
		e, err := i.lines.event(i.header.Stream, position)
		if err != nil {
			return "", err
		}
		sum.add(&e)
		if position <= i.has {
			err = i.compare(e, there)
		} else {
			err = i.add(ctx, e)
		}
		if err != nil {
			return "", err
		}
		i.progress.tell(position, 2*i.header.Head)
	}
	if err := i.lines.footer(footer{Events: i.header.Head, Checksum: sum.String()}); err != nil {
		return "", err
	}
	return sum.String(), i.flush(ctx)
}

// compare holds an event of the file against the one that is there.
func (i *importing) compare(e eventstore.Event, there func() (eventstore.Event, error, bool)) error {
	stored, err, ok := there()
	if err != nil {
		return err
	}
	switch {
	case ok && reflect.DeepEqual(stored, e):
		return nil
	case ok:
		return i.lines.fail("position %d of %s is another event already, %q: import into a database without %s",
			e.Position, i.header.Stream, stored.ID, i.header.Stream)
	default:
		return fmt.Errorf("%s has no event at position %d, and %d in all", i.header.Stream, e.Position, i.has)
	}
}

// add stores the batch before an event that does not go with it.
func (i *importing) add(ctx context.Context, e eventstore.Event) error {
	if len(i.batch) == eventstore.MaxRestoreEvents || i.bytes+e.Size() > eventstore.MaxRestoreBytes {
		if err := i.flush(ctx); err != nil {
			return err
		}
	}
	i.batch = append(i.batch, e)
	i.bytes += e.Size()
	return nil
}

func (i *importing) flush(ctx context.Context) error {
	if len(i.batch) == 0 {
		return nil
	}
	first, last := i.batch[0].Position, i.batch[len(i.batch)-1].Position
	if err := i.to.Restore(ctx, i.header.Stream, i.batch); err != nil {
		return fmt.Errorf("store positions %d to %d (line %d and on): %w", first, last, first+1, err)
	}
	clear(i.batch) // keeps no data in memory until the next batch
	i.batch, i.bytes = i.batch[:0], 0
	return nil
}

// verify reads everything back.
func (i *importing) verify(ctx context.Context, want string) error {
	sum := newChecksum()
	done := i.header.Head
	for e, err := range upTo(ctx, i.to, i.header.Stream, i.header.Head) {
		if err != nil {
			return err
		}
		sum.add(&e)
		done++
		i.progress.tell(done, 2*i.header.Head)
	}
	if got := sum.String(); got != want {
		return fmt.Errorf("%s has checksum %s after the import, and the file %s", i.header.Stream, got, want)
	}
	return nil
}

// saveDurables has each function go on where it was. Of a durable that is there
// too the one counts that has come further: the file may have been imported
// before, and functions have run since.
func (i *importing) saveDurables(ctx context.Context) error {
	saved, err := i.to.Durables(ctx, i.header.Stream)
	if err != nil {
		return err
	}
	for _, d := range i.header.Durables {
		at := slices.IndexFunc(saved, func(s eventstore.Durable) bool { return s.Name == d.Name })
		switch {
		case at < 0:
			saved = append(saved, d)
		case saved[at].Floor < d.Floor:
			saved[at] = d
		}
	}
	return i.to.SaveDurables(ctx, i.header.Stream, saved)
}

// upTo reads a stream's events up to a position.
func upTo(ctx context.Context, from Source, stream string, last uint64) iter.Seq2[eventstore.Event, error] {
	if last == 0 { // to a read no limit means all
		return func(func(eventstore.Event, error) bool) {}
	}
	return from.ReadStream(ctx, eventstore.StreamRead{Stream: stream, Limit: int(last)}) //nolint:gosec // at most MaxPosition
}
