package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/waybill-go/waybill/eventstore"
	"github.com/waybill-go/waybill/eventstore/rpc"
	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
)

type traceCommand struct {
	ID     string `arg:"" help:"The id of an aggregate: what the program's events happen to."`
	Stream string `help:"Look in this stream only; in all of the program's if left out."`
	Limit  int    `help:"How many events at most." default:"500"`
	JSON   bool   `help:"Print JSON, with the ids in full." name:"json"`
}

// maxTraced bounds the depth of the JSON, which readers bound too.
const maxTraced = 2000

// Help is shown by trace --help.
func (traceCommand) Help() string {
	return "Each event stands below the one that caused it, with the time since the first and the function that appended it. The time is when it was decided. An event that no other " +
		"one caused begins a branch: a request did, or a timer, which is known by its due time where the settings are those of the functions. Dead letters stand below their event, those of a timer below the event that it waits since. What happened in the same flow to other aggregates, like " +
		"a customer's account, is there where the program tells which they are. The event store alone is asked (EVENTSTORE_ADDR).\n\nExample:\n\n  $ " +
		commandName() + " trace o1"
}

// Run prints what happened to an aggregate, and why.
func (c traceCommand) Run(ctx context.Context, s *session, client *Client) (err error) {
	streams := function.Streams(s.program.Functions)
	if c.Stream != "" {
		streams = []string{c.Stream}
	}
	switch err := eventstore.CheckID("id", c.ID); {
	case err != nil:
		return err
	case c.Limit < 1 || c.Limit > maxTraced:
		return fmt.Errorf("limit: is %d; allowed are 1 to %d", c.Limit, maxTraced)
	case len(streams) == 0:
		return errors.New("stream: is missing; no function of this program reads any")
	}
	store, err := client.store(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	t := &tracer{store: store, functions: s.program.Functions, limit: c.Limit}
	t.load(ctx, s)
	tree, err := t.read(ctx, c.ID, streams)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.stdout, tree)
	}
	return printTrace(s.stdout, tree)
}

// load sets what the functions with timers are set to: how long things may wait is a
// setting, and a timer is known by when it is due.
func (t *tracer) load(ctx context.Context, s *session) {
	for _, f := range t.functions {
		if !slices.ContainsFunc(f.Doors, func(d function.Door) bool { _, is := d.(*function.Timed); return is }) {
			continue
		}
		for _, r := range f.Needs {
			if own := r.Config(); own == nil {
				continue
			} else if err := config.Load(ctx, s.lookup, own); err != nil {
				t.note("timers of %s may not be told from other causes: %v", f.Name, err)
			}
		}
	}
}

// store is a way to the event store; over NATS only if it is found there.
func (c *Client) store(ctx context.Context) (*rpc.Client, error) {
	options, err := c.s.dialOptions()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(c.s.settings.EventStoreAddr, "nats:") {
		nc, err := c.NATS(ctx)
		if err != nil {
			return nil, err
		}
		options = append(options, resolvers(nc)...)
	}
	return rpc.Dial(c.s.settings.EventStoreAddr, options...)
}

// printTrace prints the tree, and below it what is left out.
func printTrace(out io.Writer, t *traced) error {
	fmt.Fprintf(out, "%s: %s since %s\n\n", t.ID, events(t.Events), t.Began.Format(time.RFC3339Nano))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tEVENT\tOF\tVERSION\tBY\tID")
	for _, n := range t.Roots {
		cause := ""
		switch {
		case n.Timer != nil:
			cause = fmt.Sprintf(", caused by a timer of %s, due %s", oneLine(n.Timer.Function), n.Timer.Due.Format(time.RFC3339Nano))
		case n.CausationID != "":
			cause = ", caused by " + oneLine(n.CausationID)
		}
		n.print(w, t.Began, "", "", cause)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, note := range t.Notes {
		fmt.Fprintf(out, "\n%s\n", oneLine(note))
	}
	return nil
}

// maxIndent keeps the lines of a long chain of causes on the screen.
const maxIndent = 16 * len("   ")

// print prints a node after what leads to it, and those below it after rest.
func (n *node) print(w io.Writer, began time.Time, lead, rest, more string) {
	fmt.Fprintf(w, "+%v\t%s%s.%s\t%s\t%d\t%s\t%s%s\n", sinceStart(n.SinceStart), lead, n.Stream, n.Type, n.Aggregate, n.Version,
		oneLine(n.Source), short(n.ID), more)
	last := len(n.DeadLetters) + len(n.Children) - 1
	below := func(i int) (lead, next string) {
		switch {
		case len(rest) > maxIndent:
			return rest, rest
		case i == last:
			return rest + "└─ ", rest + "   "
		default:
			return rest + "├─ ", rest + "│  "
		}
	}
	for i, l := range n.DeadLetters {
		lead, _ := below(i)
		what := "dead letter"
		if l.Stream == function.TimersStream {
			what = "dead letter of a timer"
		}
		fmt.Fprintf(w, "+%v\t%s%s\t%s\t%s\t%s\t%s: %s\n", sinceStart(l.Buried.Sub(began)), lead, what, short(l.ID), l.Status,
			oneLine(l.Function), l.Reason, shorten(oneLine(l.Error)))
	}
	for i, child := range n.Children {
		lead, next := below(len(n.DeadLetters) + i)
		child.print(w, began, lead, next, "")
	}
}

// sinceStart is a time since the start, as exactly as it is of use.
func sinceStart(d time.Duration) time.Duration {
	switch d = max(d, 0); { // clocks differ
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	case d < time.Minute:
		return d.Round(10 * time.Millisecond)
	default:
		return d.Round(time.Second)
	}
}

// short is what tells an id from others of one trace.
func short(id string) string {
	const most = 8
	if len(id) <= most {
		return id
	}
	return id[:most]
}
