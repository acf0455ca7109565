package transfer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/waybill-go/waybill/eventstore"
)

// format is the number of the file's format.
const format = 1

// maxLine bounds a line: an event whose data is a string takes twice its data's
// bytes at the most.
const maxLine = 2*eventstore.MaxEventBytes + 8<<10

type header struct {
	Format   int                  `json:"waybill_export"`
	Stream   string               `json:"stream"`
	Head     uint64               `json:"head"`
	Durables []eventstore.Durable `json:"durables"`
}

type footer struct {
	Events   uint64 `json:"events"`
	Checksum string `json:"checksum"`
}

// writer writes lines.
type writer struct {
	to   *bufio.Writer
	line bytes.Buffer
	json *json.Encoder
}

func newWriter(w io.Writer) *writer {
	l := &writer{to: bufio.NewWriterSize(w, 64<<10)}
	l.json = json.NewEncoder(&l.line)
	l.json.SetEscapeHTML(false)
	return l
}

func (w *writer) write(v any) error {
	w.line.Reset()
	if err := w.json.Encode(v); err != nil {
		return err
	}
	_, err := w.to.Write(w.line.Bytes())
	return err
}

// writeEvent writes the event's JSON, but its data as they are: encoding/json
// would leave out their white space.
func (w *writer) writeEvent(e eventstore.Event) error {
	data := e.Data
	e.Data = nil
	w.line.Reset()
	if err := w.json.Encode(e); err != nil {
		return err
	}
	const without = `"data":null}` + "\n"
	if !bytes.HasSuffix(w.line.Bytes(), []byte(without)) {
		return errors.New("an event's JSON does not end with its data")
	}
	w.line.Truncate(w.line.Len() - len(without))
	if fits(data) {
		w.line.WriteString(`"data":`)
		w.line.Write(data)
	} else {
		w.line.WriteString(`"data_text":`)
		if err := w.json.Encode(string(data)); err != nil {
			return err
		}
		w.line.Truncate(w.line.Len() - 1) // the encoder's line break
	}
	w.line.WriteString("}\n")
	_, err := w.to.Write(w.line.Bytes())
	return err
}

// fits tells whether a JSON value can stand in a line and be found in it again
// as it is.
func fits(data []byte) bool {
	return !bytes.ContainsAny(data, "\r\n") && len(bytes.Trim(data, " \t")) == len(data)
}

// reader reads lines. Its errors name the line.
type reader struct {
	from *bufio.Scanner
	n    int // of the line that was read last
}

func newReader(r io.Reader) *reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	return &reader{from: s}
}

// fail says what is wrong with the line that was read last.
func (r *reader) fail(format string, args ...any) error {
	return fmt.Errorf("line %d: %w", r.n, fmt.Errorf(format, args...))
}

// next brings the next line; io.EOF when there is none.
func (r *reader) next() ([]byte, error) {
	r.n++
	if r.from.Scan() {
		return r.from.Bytes(), nil
	}
	switch err := r.from.Err(); {
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return nil, r.fail("is longer than %d bytes", maxLine)
	default:
		return nil, r.fail("read: %w", err)
	}
}

// read decodes the next line. A field that it does not know is an error: it
// would be lost.
func (r *reader) read(v any) error {
	line, err := r.next()
	if errors.Is(err, io.EOF) {
		return r.fail("is missing: the file was cut short")
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return r.fail("is none of an export, or was cut short: %w", err)
	}
	if rest := line[d.InputOffset():]; len(bytes.TrimSpace(rest)) > 0 {
		return r.fail("has more than one JSON value")
	}
	return nil
}

func (r *reader) header() (header, error) {
	var h header
	if err := r.read(&h); err != nil {
		return h, err
	}
	if h.Format != format {
		return h, r.fail("the file has format %d, and this release reads %d", h.Format, format)
	}
	if err := eventstore.CheckStream(h.Stream); err != nil {
		return h, r.fail("%w", err)
	}
	if h.Head > eventstore.MaxPosition {
		return h, r.fail("head: is %d; allowed are 0 to %d", h.Head, uint64(eventstore.MaxPosition))
	}
	for _, d := range h.Durables {
		if d.Name == "" || len(d.Config) == 0 || d.Floor > h.Head {
			return h, r.fail("durable %q: has floor %d and configuration %.80q; the stream ends at %d", d.Name, d.Floor, d.Config, h.Head)
		}
	}
	return h, nil
}

// event reads the event at a position of the stream.
func (r *reader) event(stream string, position uint64) (eventstore.Event, error) {
	var line struct {
		eventstore.Event
		Text *string `json:"data_text"`
		footer
	}
	if err := r.read(&line); err != nil {
		return line.Event, err
	}
	if line.Checksum != "" {
		return line.Event, r.fail("the file ends with %d events where position %d comes", line.Events, position)
	}
	e := line.Event
	if line.Text != nil {
		e.Data = json.RawMessage(*line.Text)
	}
	if e.Stream != stream {
		return e, r.fail("stream: is %.40q; the file is of %s", e.Stream, stream)
	}
	if e.Position != position {
		return e, r.fail("position: is %d where %d comes", e.Position, position)
	}
	if err := eventstore.CheckStored(e); err != nil {
		return e, r.fail("%w", err)
	}
	return e, nil
}

// footer reads the last line, and that it is the last one.
func (r *reader) footer(want footer) error {
	var f footer
	if err := r.read(&f); err != nil {
		return err
	}
	if f != want {
		return r.fail("the file says that it has %d events with checksum %.80s, and has %d with %s: it is damaged",
			f.Events, f.Checksum, want.Events, want.Checksum)
	}
	switch _, err := r.next(); {
	case err == nil:
		return r.fail("comes after the end; a file is of one export")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}
