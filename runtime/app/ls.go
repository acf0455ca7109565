package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/fleet"
)

type lsCommand struct {
	JSON  bool `help:"Print JSON, with every replica." name:"json"`
	Watch bool `help:"Print it again every two seconds, until Ctrl-C."`

	Schema string `help:"Print the JSON schemas of this function's requests, replies and events instead." placeholder:"NAME"`
}

// Help is shown by ls --help.
func (lsCommand) Help() string {
	return "Example:\n\n  $ " + commandName() + " ls\n\nUPTIME is how long the youngest and the oldest replica run. DONE counts requests and deliveries since each replica started, and of the event store the events that are in JetStream, of a supervisor the processes it started; P50 and P99 are what half of them and 99 % took at most in the last five minutes, over all replicas; WANTED is how many replicas a supervisor wants; LAG is what waits in JetStream, IN HAND what was delivered and is not yet done, DEAD LETTERS what the function gave up on and nobody has seen to: " + commandName() + " deadletters ls. Functions that do not run have a line too. What keeps events from moving, and requests nobody answers, is said below, and then the exit code is 1."
}

const (
	watchEvery  = 2 * time.Second
	clearScreen = "\x1b[H\x1b[2J"
)

// Run prints what runs.
func (c lsCommand) Run(ctx context.Context, s *session, client *Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	if c.Schema != "" {
		return c.schemas(ctx, s, nc)
	}
	for {
		var out bytes.Buffer
		err := c.list(ctx, s, nc, &out)
		if !c.Watch {
			_, printed := out.WriteTo(s.stdout)
			return errors.Join(err, printed)
		}
		if err != nil {
			fmt.Fprintf(&out, "\n%v\n", err)
		}
		if !c.JSON {
			fmt.Fprint(s.stdout, clearScreen)
		}
		if _, err := out.WriteTo(s.stdout); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// list writes what runs; the error says that events do not move.
func (c lsCommand) list(ctx context.Context, s *session, nc *nats.Conn, out io.Writer) error {
	services, err := fleet.List(ctx, nc, s.program.Functions...)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(out, services)
	} else {
		err = printServices(out, services, time.Now())
	}
	if err == nil && slices.ContainsFunc(services, func(s *fleet.Service) bool { return len(s.Problems) > 0 }) {
		err = errors.New("not all is well: see below the table")
	}
	return err
}

// printServices prints the table, and below it what keeps events from moving.
func printServices(out io.Writer, services []*fleet.Service, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tREPLICAS\tWANTED\tHOSTS\tRELEASE\tUPTIME\tDONE\tERRORS\tP50\tP99\tLAG\tIN HAND\tDEAD LETTERS")
	for _, s := range services {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", oneLine(s.Name), s.Replicas, number(s.Wanted),
			few(s.Hosts), few(s.Releases), uptime(s.Instances, now), s.Done, s.Errors, took(s.P50), took(s.P99),
			number(s.Lag), number(s.InHand), number(s.DeadLetters))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range services {
		for _, problem := range s.Problems {
			fmt.Fprintf(out, "\n%s %s\n", oneLine(s.Name), oneLine(problem))
		}
	}
	return nil
}

// number is a dash where there is none.
func number[N int | uint64](n *N) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// few keeps a line short: of three and more it names the first.
func few(names []string) string {
	switch len(names) {
	case 0:
		return "-"
	case 1, 2:
		return oneLine(strings.Join(names, ","))
	default:
		return oneLine(fmt.Sprintf("%s,+%d", names[0], len(names)-1))
	}
}

// took is a duration to two digits or three: more mean nothing.
func took(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

// uptime is how long the youngest replica runs, and how long the oldest: the
// first says that one was started anew, the second that one was left out. They
// are ordered by their start.
func uptime(replicas []fleet.Instance, now time.Time) string {
	if len(replicas) == 0 {
		return "-"
	}
	oldest, youngest := since(replicas[0].Started, now), since(replicas[len(replicas)-1].Started, now)
	if oldest == youngest {
		return oldest
	}
	return youngest + ".." + oldest
}

// since is how long ago something was, in the unit that fits.
func since(t, now time.Time) string {
	ago := max(now.Sub(t), 0) // clocks differ
	switch {
	case ago < 2*time.Minute:
		return fmt.Sprintf("%ds", ago/time.Second)
	case ago < 2*time.Hour:
		return fmt.Sprintf("%dm", ago/time.Minute)
	case ago < 48*time.Hour:
		return fmt.Sprintf("%dh", ago/time.Hour)
	default:
		return fmt.Sprintf("%dd", ago/(24*time.Hour))
	}
}
