package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/schollz/progressbar/v3"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/transfer"
)

type exportCommand struct {
	Stream string `arg:"" help:"The stream, like ORDERS."`
	Output string `help:"A file that is not there yet, in place of standard output." placeholder:"FILE"`
}

// Help is shown by export --help.
func (exportCommand) Help() string {
	return "Writes every event of a stream, and how far each function has come, from the database at EVENTSTORE_DB. " +
		"An event store may run meanwhile. The file ends with a checksum; one that was cut short has none, and import refuses it." +
		"\n\nExample:\n\n  $ " + commandName() + " export ORDERS > orders.jsonl"
}

// Run writes the file, and on standard error what is in it.
func (c exportCommand) Run(ctx context.Context, s *session) error {
	from, err := openSource(ctx, s.settings.EventStoreDB)
	if err != nil {
		return fmt.Errorf("EVENTSTORE_DB: %w", err)
	}
	defer func() { _ = from.Close() }() // it was only read
	if err := c.known(ctx, s, from); err != nil {
		return err
	}
	done, err := c.export(ctx, s, from)
	if ctx.Err() != nil {
		return fmt.Errorf("export %s: interrupted; the file is not whole", c.Stream)
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", c.Stream, err)
	}
	fmt.Fprintf(s.stderr, "%s of %s: %s, %s\n", done.Stream, redacted(s.settings.EventStoreDB), events(done.Events), done.Checksum)
	return nil
}

// known refuses a stream without events that the program has no use for: it is
// misspelt, or the database is another.
func (c exportCommand) known(ctx context.Context, s *session, from transfer.Source) error {
	if err := eventstore.CheckStream(c.Stream); err != nil {
		return fmt.Errorf("export %s: %w", c.Stream, err)
	}
	head, err := from.Head(ctx, c.Stream)
	streams := s.program.streams()
	if err != nil || head > 0 || slices.Contains(streams, c.Stream) {
		return err
	}
	return fmt.Errorf("export %s: there is no such stream in %s; the program's are %s", c.Stream, redacted(s.settings.EventStoreDB), strings.Join(streams, ", "))
}

// export writes to standard output, or to a new file, which is on disk then;
// none is left of an export that failed.
func (c exportCommand) export(ctx context.Context, s *session, from transfer.Source) (done transfer.Summary, err error) {
	progress, end := progressBar("exporting " + c.Stream)
	defer end()
	if c.Output == "" {
		return transfer.Export(ctx, from, c.Stream, s.stdout, progress)
	}
	file, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return done, err
	}
	if done, err = transfer.Export(ctx, from, c.Stream, file, progress); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		err = errors.Join(err, os.Remove(c.Output))
	}
	return done, err
}

type importCommand struct {
	File string `arg:"" optional:"" help:"A file of export's; standard input if left out."`
}

// Help is shown by import --help.
func (importCommand) Help() string {
	return "Stores the events of a file exactly as they were, in the database at EVENTSTORE_DB, reads them back and compares the checksum. " +
		"No event store may have that database open, and its stream must have no events. One that was interrupted goes on where it was " +
		"when it is started again.\n\nExample:\n\n  $ EVENTSTORE_DB=postgres://localhost/waybill " + commandName() + " import orders.jsonl"
}

// Run reads the file, and prints what is stored then.
func (c importCommand) Run(ctx context.Context, s *session) error {
	var file io.Reader = os.Stdin
	if c.File != "" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		file = f
	}
	to, _, err := openBackend(ctx, s.settings.EventStoreDB)
	if err != nil {
		return fmt.Errorf("EVENTSTORE_DB: %w", err)
	}
	progress, end := progressBar("importing")
	done, err := transfer.Import(ctx, to, file, progress)
	end()
	err = errors.Join(err, to.Close())
	if ctx.Err() != nil {
		return errors.New("import: interrupted; the same command goes on where it was")
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	before := ""
	if n := done.Events - done.Stored; n > 0 {
		before = fmt.Sprintf(" (%d were there)", n)
	}
	fmt.Fprintf(s.stdout, "%s of %s: %s%s, %s\n", done.Stream, redacted(s.settings.EventStoreDB), events(done.Events), before, done.Checksum)
	return nil
}

// progressBar shows how far a transfer is. end takes it away.
func progressBar(what string) (progress transfer.Progress, end func()) {
	var bar *progressbar.ProgressBar // from the first call on: only then is the total known
	progress = func(done, total uint64) {
		if bar == nil {
			bar = Progress(int64(total), what) //nolint:gosec // positions
		}
		_ = bar.Set64(int64(done)) //nolint:gosec // positions; it is for the eye only
	}
	return progress, func() {
		if bar != nil {
			_ = bar.Finish()
		}
	}
}
