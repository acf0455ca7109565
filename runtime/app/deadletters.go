package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/deadletter"
)

type lettersCommand struct {
	Ls     lettersLs     `cmd:"" help:"List them, the oldest first."`
	Show   lettersShow   `cmd:"" help:"Show one whole: what, why, and what was done about it."`
	Edit   lettersEdit   `cmd:"" help:"Change the body that a replay hands over."`
	Replay lettersReplay `cmd:"" help:"Have the function that gave up handle it again, and no other."`
	Drop   lettersDrop   `cmd:"" help:"Resolve what nothing is to be done about."`
}

// who says who works on a dead letter.
type who struct {
	By string `help:"Who does it; the user's name if left out."`
}

func (w who) name() string {
	if w.By != "" {
		return w.By
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// which says which dead letters are meant.
type which struct {
	Function string `help:"Only those of this function."`
	Reason   string `help:"Only those buried for: rejected, decode, attempts, crashloop, crowded."`
	Since    string `help:"Only those buried since: a time like 2026-01-02T15:04:05Z, or for so long, like 24h."`
}

func (w which) request() (deadletter.ListRequest, error) {
	since, err := sinceWhen(w.Since)
	return deadletter.ListRequest{Function: w.Function, Reason: w.Reason, Since: since}, err
}

type lettersLs struct {
	which
	Status string `help:"unresolved (buried, edited, failed), buried, edited, failed, replayed or dropped." default:"unresolved"`
	Limit  int    `help:"How many at most." default:"50"`
	JSON   bool   `help:"Print JSON." name:"json"`
}

// Help is shown by deadletters ls --help.
func (lettersLs) Help() string {
	return "Example:\n\n  $ " + commandName() + " deadletters ls --function payment --since 24h"
}

// Run lists dead letters.
func (c lettersLs) Run(ctx context.Context, s *session, client *Client) error {
	request, err := c.request()
	if err != nil {
		return err
	}
	request.Status = deadletter.Status(c.Status)
	if c.Limit < 1 {
		return fmt.Errorf("limit: is %d, and must be 1 or more", c.Limit)
	}
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	letters, notListed, err := allLetters(ctx, nc, request, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.stdout, letters)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tFUNCTION\tMESSAGE\tBURIED\tREASON\tSTATUS\tERROR")
	for _, l := range letters {
		fmt.Fprintf(w, "%s\t%s\t%s %d\t%s\t%s\t%s\t%s\n", l.ID, oneLine(l.Function), oneLine(l.Subject), l.Position,
			l.Buried.UTC().Format(time.RFC3339), l.Reason, l.Status, shorten(oneLine(l.Error)))
	}
	if notListed > 0 {
		fmt.Fprintf(w, "and %d more, which are listed when these are resolved\n", notListed)
	}
	return w.Flush()
}

// sinceWhen reads a time, or how long ago.
func sinceWhen(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("since: is %q, and must be a time like 2026-01-02T15:04:05Z, or for how long, like 24h", text)
	}
	return t, nil
}

type lettersShow struct {
	ID   string `arg:"" help:"The letter's id, or at least 8 of its first characters."`
	JSON bool   `help:"Print JSON." name:"json"`
}

// Help is shown by deadletters show --help.
func (lettersShow) Help() string {
	return "Example:\n\n  $ " + commandName() + " deadletters show 1b4e28ba"
}

// Run shows one dead letter.
func (c lettersShow) Run(ctx context.Context, s *session, client *Client) error {
	_, l, err := showLetter(ctx, client, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.stdout, l)
	}
	return printLetter(s.stdout, l)
}

// showLetter asks for one dead letter.
func showLetter(ctx context.Context, client *Client, id string) (nc *nats.Conn, l deadletter.State, err error) {
	if nc, err = client.NATS(ctx); err == nil {
		err = ask(ctx, nc, deadletter.SubjectShow, deadletter.ShowRequest{ID: id}, &l, askTimeout)
	}
	return nc, l, err
}

func printLetter(out io.Writer, l deadletter.State) error {
	fmt.Fprintf(out, "dead letter %s: %s\n\n", l.ID, l.Status)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"function", l.Function},
		{"message", fmt.Sprintf("%s, position %d", l.Subject, l.Position)},
		{"event id", l.EventID},
		{"flow", l.CorrelationID},
		{"attempts", fmt.Sprintf("%d, of %d deliveries", l.Attempts, l.Letter.Deliveries)},
		{"error", l.Error},
	} {
		fmt.Fprintf(w, "  %s\t%s\n", row[0], oneLine(row[1]))
	}
	fmt.Fprintln(w)
	for _, h := range l.History {
		said := []string{}
		for _, part := range []string{h.Reason, h.Error} {
			if part != "" {
				said = append(said, oneLine(part))
			}
		}
		what := h.What
		if h.By != "" {
			what += " by " + oneLine(h.By)
		}
		if h.What == deadletter.TypeReplayed && h.Error != "" {
			what += ", and failed"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", h.Time.UTC().Format(time.RFC3339), what, strings.Join(said, ": "))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	body, what := bodyOf(l), "body"
	if len(l.Edited) > 0 {
		what = "body, edited"
	}
	fmt.Fprintf(out, "\n%s:\n%s\n", what, body)
	return nil
}

// bodyOf is what a replay would hand over, for people.
func bodyOf(l deadletter.State) string {
	body := l.Edited
	if len(body) == 0 {
		body = l.Letter.Data
	}
	var pretty bytes.Buffer
	switch {
	case len(body) > 0 && json.Indent(&pretty, body, "", "  ") == nil:
		return pretty.String()
	case len(l.Letter.Raw) > 0:
		return fmt.Sprintf("%q", l.Letter.Raw)
	default:
		return "(it could not be kept, and is not in the event store)"
	}
}

type lettersReplay struct {
	who
	which
	IDs []string `arg:"" optional:"" name:"id" help:"The letters' ids, or at least 8 of their first characters."`
	All bool     `help:"All unresolved ones of --function, the oldest first."`
}

// Help is shown by deadletters replay --help.
func (lettersReplay) Help() string {
	return "The function gets the message again, and no other does. What it appended for it before is not appended again. One that " +
		"fails again stays unresolved; the exit code is 1 then.\n\nExample:\n\n  $ " + commandName() + " deadletters replay 1b4e28ba\n  $ " +
		commandName() + " deadletters replay --all --function payment"
}

// Run replays dead letters, and prints a line for each.
func (c lettersReplay) Run(ctx context.Context, s *session, client *Client) error {
	switch {
	case c.All && c.Function == "":
		return errors.New("function: is missing; --all replays those of one function")
	case c.All && len(c.IDs) > 0:
		return errors.New("id: can't go with --all")
	case !c.All && c.which != which{}:
		return errors.New("all: is missing; --function, --reason and --since go with it")
	case !c.All && len(c.IDs) == 0:
		return errors.New("id: is missing; name letters, or --all --function NAME")
	}
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	ids := c.IDs
	if c.All {
		request, err := c.request()
		if err != nil {
			return err
		}
		letters, _, err := allLetters(ctx, nc, request, maxReplayed)
		if err != nil {
			return err
		}
		for _, l := range letters {
			ids = append(ids, l.ID)
		}
	}
	failed := 0
	for _, id := range ids {
		switch done, err := c.one(ctx, s, nc, id); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && c.All: // the others would meet the same
			return fmt.Errorf("%s: %w", id, err)
		case err != nil:
			failed++
			fmt.Fprintf(s.stdout, "%s: %v\n", id, err)
		case !done.Status.Resolved():
			failed++
			fmt.Fprintf(s.stdout, "%s %s: failed again: %s\n", done.ID, oneLine(done.Function), oneLine(done.Error))
		default:
			fmt.Fprintf(s.stdout, "%s %s: %s\n", done.ID, oneLine(done.Function), done.Status)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d were not handled", failed, len(ids))
	}
	return nil
}

// maxReplayed is how many letters one command replays: all that are listed.
const maxReplayed = 50_000

func (c lettersReplay) one(ctx context.Context, s *session, nc *nats.Conn, id string) (deadletter.Summary, error) {
	wait := deadletter.ReplayTimeout(0)
	for _, deadline := range s.program.deadlines() {
		wait = max(wait, deadletter.ReplayTimeout(deadline))
	}
	var done deadletter.Summary
	err := ask(ctx, nc, deadletter.SubjectReplay, deadletter.ReplayRequest{ID: id, By: c.name()}, &done, wait+askTimeout)
	return done, err
}

type lettersDrop struct {
	who
	IDs    []string `arg:"" name:"id" help:"The letters' ids, or at least 8 of their first characters."`
	Reason string   `required:"" help:"Why nothing is to be done about them."`
}

// Help is shown by deadletters drop --help.
func (lettersDrop) Help() string {
	return "What is dropped stays in the event store, with the reason.\n\nExample:\n\n  $ " + commandName() +
		` deadletters drop 1b4e28ba --reason "a test of mine"`
}

// Run drops dead letters, and prints a line for each.
func (c lettersDrop) Run(ctx context.Context, s *session, client *Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	failed := 0
	for _, id := range c.IDs {
		var done deadletter.Summary
		request := deadletter.DropRequest{ID: id, By: c.name(), Reason: c.Reason}
		if err := ask(ctx, nc, deadletter.SubjectDrop, request, &done, askTimeout); err != nil {
			failed++
			fmt.Fprintf(s.stdout, "%s: %v\n", id, err)
			continue
		}
		fmt.Fprintf(s.stdout, "%s %s: %s\n", done.ID, oneLine(done.Function), done.Status)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d were not dropped", failed, len(c.IDs))
	}
	return nil
}

// allLetters lists page by page.
func allLetters(ctx context.Context, nc *nats.Conn, r deadletter.ListRequest, most int) (all []deadletter.Summary, notListed int, err error) {
	const page = 500
	all = []deadletter.Summary{}
	for {
		r.Limit = new(min(page, most-len(all)))
		listed, err := listLetters(ctx, nc, r, askTimeout)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, listed.Letters...)
		if r.Cursor = listed.Cursor; r.Cursor == "" || len(all) >= most {
			return all, listed.NotListed, nil
		}
	}
}

func listLetters(ctx context.Context, nc *nats.Conn, r deadletter.ListRequest, wait time.Duration) (deadletter.Listed, error) {
	var listed deadletter.Listed
	err := ask(ctx, nc, deadletter.SubjectList, r, &listed, wait)
	return listed, err
}

// oneLine keeps what others wrote from breaking a line, or commanding a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

// shorten cuts a text for a table.
func shorten(text string) string {
	const most = 80
	if r := []rune(text); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return text
}
