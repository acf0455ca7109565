package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/waybill-go/waybill/eventstore"
)

// Export writes a stream, up to the event that was its last when it began.
// Appends may go on meanwhile. A stream without events makes a file without
// events.
//
// What was written before an error is no whole file, and Import says so.
func Export(ctx context.Context, from Source, stream string, to io.Writer, progress Progress) (Summary, error) {
	if err := eventstore.CheckStream(stream); err != nil {
		return Summary{}, err
	}
	w := newWriter(to)
	h, err := readHeader(ctx, from, stream)
	if err != nil {
		return Summary{}, err
	}
	if err := w.write(h); err != nil {
		return Summary{}, fmt.Errorf("write: %w", err)
	}
	sum, err := exportEvents(ctx, from, h, w, progress)
	if err != nil {
		return Summary{}, err
	}
	if err := w.write(footer{Events: h.Head, Checksum: sum.String()}); err != nil {
		return Summary{}, fmt.Errorf("write: %w", err)
	}
	if err := w.to.Flush(); err != nil {
		return Summary{}, fmt.Errorf("write: %w", err)
	}
	return Summary{Stream: stream, Events: h.Head, Checksum: sum.String()}, nil
}

// readHeader reads the durables before the head, so that none has come further
// than the file. A floor beyond the head nevertheless is another history's, and
// would have events passed over that are yet to come.
func readHeader(ctx context.Context, from Source, stream string) (header, error) {
	h := header{Format: format, Stream: stream, Durables: []eventstore.Durable{}}
	saved, err := from.Durables(ctx, stream)
	if err != nil {
		return h, err
	}
	if h.Head, err = from.Head(ctx, stream); err != nil {
		return h, err
	}
	for _, d := range saved {
		d.Floor = min(d.Floor, h.Head)
		h.Durables = append(h.Durables, d)
	}
	return h, nil
}

// exportEvents writes the events up to the head. One that Import would refuse
// is an error now, while the database is still there.
func exportEvents(ctx context.Context, from Source, h header, w *writer, progress Progress) (checksum, error) {
	sum := newChecksum()
	done := uint64(0)
	for e, err := range upTo(ctx, from, h.Stream, h.Head) {
		if err != nil {
			return sum, err
		}
		if e.Position != done+1 {
			return sum, fmt.Errorf("%s has an event at position %d where %d comes", h.Stream, e.Position, done+1)
		}
		if err := eventstore.CheckStored(e); err != nil {
			return sum, fmt.Errorf("position %d of %s: %w", e.Position, h.Stream, err)
		}
		sum.add(&e)
		if err := w.writeEvent(e); err != nil {
			return sum, fmt.Errorf("write: %w", err)
		}
		done++
		progress.tell(done, h.Head)
	}
	if done < h.Head {
		return sum, fmt.Errorf("%s has %d events where it ends at position %d", h.Stream, done, h.Head)
	}
	return sum, nil
}
