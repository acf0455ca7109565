package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

type lsCommand struct {
	JSON  bool `help:"Print JSON." name:"json"`
	Watch bool `help:"Print it again every two seconds, until Ctrl-C."`
}

// Help is shown by ls --help.
func (lsCommand) Help() string {
	return "Example:\n\n  $ " + commandName() + " ls\n\nDONE counts requests and deliveries since each replica started, and of the event store the events that are in JetStream, of a supervisor the processes it started; WANTED is how many replicas a supervisor wants; LAG is what waits in JetStream, IN HAND what was delivered and is not yet done, DEAD LETTERS what the function gave up on and nobody has seen to: " + commandName() + " deadletters ls. Functions that do not run have a line too. What keeps events from moving is said below, and then the exit code is 1."
}

// line is one function as ls shows it.
type line struct {
	Name     string   `json:"name"`
	Replicas int      `json:"replicas"`
	Hosts    []string `json:"hosts"`
	Releases []string `json:"releases"`
	Done     int      `json:"done"`
	Errors   int      `json:"errors"`
	// Average is the mean time of one, in nanoseconds in JSON.
	Average time.Duration `json:"average_ns"`
	// Lag and InHand are nil for a function that consumes nothing.
	Lag    *uint64 `json:"lag,omitempty"`
	InHand *int    `json:"in_hand,omitempty"`
	// DeadLetters are the open ones; nil for a function that consumes nothing,
	// and when nobody answers for them.
	DeadLetters *int `json:"dead_letters,omitempty"`
	// Wanted is how many replicas a supervisor wants, and Starts how many
	// processes it has started for them; nil where there is none.
	Wanted *int `json:"wanted,omitempty"`
	Starts *int `json:"starts,omitempty"`
	// Problems are what keeps events from moving: from JetStream, and from the
	// function.
	Problems []string `json:"problems,omitempty"`

	consumes bool
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
	instances, err := discovery.Find(ctx, nc, "")
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	lines := addMissing(ctx, js, summarise(ctx, js, instances), s.program.Functions)
	if letters, err := listLetters(ctx, nc, deadletter.ListRequest{Limit: new(1)}, lagTimeout); err == nil {
		lines = countLetters(lines, letters.Open)
	}
	if c.JSON {
		err = printJSON(out, lines)
	} else {
		err = printLines(out, lines)
	}
	if err == nil && slices.ContainsFunc(lines, func(l *line) bool { return len(l.Problems) > 0 }) {
		err = errors.New("events do not move")
	}
	return err
}

// printLines prints the table, and below it what keeps events from moving.
func printLines(out io.Writer, lines []*line) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tREPLICAS\tWANTED\tHOSTS\tRELEASE\tDONE\tERRORS\tAVERAGE\tLAG\tIN HAND\tDEAD LETTERS")
	for _, l := range lines {
		lag, inHand, wanted, letters := "-", "-", "-", "-"
		if l.Wanted != nil {
			wanted = fmt.Sprint(*l.Wanted)
		}
		if l.Lag != nil {
			lag, inHand = fmt.Sprint(*l.Lag), fmt.Sprint(*l.InHand)
		}
		if l.DeadLetters != nil {
			letters = fmt.Sprint(*l.DeadLetters)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d\t%d\t%v\t%s\t%s\t%s\n", l.Name, l.Replicas, wanted, strings.Join(l.Hosts, ","),
			strings.Join(l.Releases, ","), l.Done, l.Errors, l.Average.Round(time.Microsecond), lag, inHand, letters)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range lines {
		for _, problem := range l.Problems {
			fmt.Fprintf(out, "\n%s %s\n", l.Name, problem)
		}
	}
	return nil
}

// addMissing adds a line for each function of the program that does not run,
// and tells what waits for it.
func addMissing(ctx context.Context, js jetstream.JetStream, lines []*line, functions []function.Function) []*line {
	find := func(name string) (int, bool) {
		return slices.BinarySearchFunc(lines, name, func(l *line, name string) int { return strings.Compare(l.Name, name) })
	}
	if i, runs := find(EventStore); !runs {
		lines = slices.Insert(lines, i, &line{
			Name: EventStore, Hosts: []string{}, Releases: []string{},
			Problems: []string{"does not run, or this key may not ask: nothing is stored or relayed"},
		})
	}
	for _, f := range functions {
		i, there := find(f.Name)
		if there {
			continue
		}
		l := &line{Name: f.Name, Hosts: []string{}, Releases: []string{}}
		if d, ok := host.DurableOf(f); ok {
			l.consumes = true
			if l.lag(ctx, js, d.Stream, f.Name); l.Lag != nil && *l.Lag > 0 {
				l.Problems = []string{fmt.Sprintf("does not run, and %d events wait for it", *l.Lag)}
			}
		}
		lines = slices.Insert(lines, i, l)
	}
	return lines
}

// summarise makes a line of all instances of a name.
func summarise(ctx context.Context, js jetstream.JetStream, instances []discovery.Instance) []*line {
	lines := []*line{}
	spent := map[string]time.Duration{}
	add := func(list []string, s string) []string {
		if s == "" || slices.Contains(list, s) {
			return list
		}
		return append(list, s)
	}
	for _, i := range instances {
		if len(lines) == 0 || lines[len(lines)-1].Name != i.Name {
			lines = append(lines, &line{Name: i.Name, Hosts: []string{}, Releases: []string{}})
		}
		l := lines[len(lines)-1]
		first := l.Replicas == 0
		l.Replicas++
		l.Hosts, l.Releases = add(l.Hosts, i.Metadata[discovery.MetadataHost]), add(l.Releases, i.Version)
		for n, s := range i.Stats {
			switch i.Endpoints[n].Metadata["door"] {
			case "relay":
				if s.LastError != "" {
					l.Problems = add(l.Problems, "does not relay: "+s.LastError)
				}
			case "consumer":
				var health discovery.Health
				if json.Unmarshal(s.Data, &health) == nil && health.Problem != "" {
					l.Problems = add(l.Problems, "waits: "+health.Problem)
				}
			}
			l.Done, l.Errors = l.Done+s.NumRequests, l.Errors+s.NumErrors
			spent[l.Name] += s.ProcessingTime
		}
		for _, e := range i.Endpoints {
			if durable := e.Metadata["durable"]; durable != "" && first && e.Metadata["door"] != supervisorDoor {
				l.consumes = true
				l.lag(ctx, js, e.Metadata["stream"], durable)
			}
		}
		if l.Done > 0 {
			l.Average = spent[l.Name] / time.Duration(l.Done)
		}
	}
	lines = addSupervised(lines, supervision(instances), func(l *line, stream, durable string) { l.lag(ctx, js, stream, durable) })
	slices.SortFunc(lines, func(a, b *line) int { return strings.Compare(a.Name, b.Name) })
	return lines
}

// countLetters fills in the open dead letters. A function that has some gets a
// line when no replica of it runs, too.
func countLetters(lines []*line, open map[string]int) []*line {
	for _, name := range slices.Sorted(maps.Keys(open)) {
		i, found := slices.BinarySearchFunc(lines, name, func(l *line, name string) int { return strings.Compare(l.Name, name) })
		if !found {
			lines = slices.Insert(lines, i, &line{Name: name, Hosts: []string{}, Releases: []string{}, consumes: true})
		}
		lines[i].consumes = true
	}
	for _, l := range lines {
		if l.consumes {
			l.DeadLetters = new(open[l.Name])
		}
	}
	return lines
}

// lagTimeout is how long ls waits for one number.
const lagTimeout = 2 * time.Second

// lag asks JetStream; what it does not answer stays a dash.
func (l *line) lag(ctx context.Context, js jetstream.JetStream, stream, durable string) {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	consumer, err := js.Consumer(ctx, stream, durable)
	if err != nil {
		return
	}
	info := consumer.CachedInfo()
	l.Lag, l.InHand = &info.NumPending, &info.NumAckPending
}
