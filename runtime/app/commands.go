package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
)

type commands struct {
	Up  upCommand  `cmd:"" default:"1" help:"Run everything in this process; what no command means."`
	Run runCommand `cmd:"" help:"Run some functions, or the event store, against the NATS server at NATS_URL."`
	Ls  lsCommand  `cmd:"" help:"List what runs: where, how many, how far behind."`

	Deadletters lettersCommand `cmd:"" help:"Look at what functions could not handle; have it handled again, or drop it."`

	Refill refillCommand `cmd:"" help:"Have a JetStream stream made anew from SQL."`
	Forget forgetCommand `cmd:"" help:"Forget how far a function has come, that no longer runs."`

	Provision provisionCommand `cmd:"" help:"Make what functions need in JetStream, so that they need no right to."`
	Nkeys     nkeysCommand     `cmd:"" help:"Make a key for each function, for a NATS server that asks for them."`
	Export    exportCommand    `cmd:"" help:"Write all events of a stream to a file: a backup, or what import takes."`
	Import    importCommand    `cmd:"" help:"Store the events of a file of export's in a database that does not have them."`
	Manifests manifestsCommand `cmd:"" help:"Print what runs the functions on Kubernetes, scaled by KEDA."`

	Version kong.VersionFlag `help:"Print the release." hidden:""`
}

// commandName is what the program was started as, for the examples.
func commandName() string { return filepath.Base(os.Args[0]) }

type upCommand struct {
	Processes bool `help:"Run each function as processes of its own, as many as its work needs: none where none is needed."`
}

// Help is shown by up --help.
func (upCommand) Help() string {
	return "Example: start everything, with its data under ./data:\n\n  $ " + commandName() + " up\n\nUse a NATS server that is there instead of the embedded one:\n\n  $ " + commandName() + " up --nats-url nats://127.0.0.1:4222\n\nEach function as processes of its own, which come and go with the work:\n\n  $ " + commandName() + " up --processes"
}

// Run runs all functions, the event store, and a NATS server unless one is
// named, until ctx ends.
func (c upCommand) Run(ctx context.Context, s *session) error {
	return s.run(ctx, work{
		functions: s.program.Functions, processes: c.Processes,
		store: true, server: s.settings.NATSURL == "" && s.settings.NATSContext == "",
	})
}

type runCommand struct {
	Names []string `arg:"" name:"name" help:"One or more of: ${names}."`
}

// Help is shown by run --help.
func (runCommand) Help() string {
	return "Example: a second payment beside what runs already:\n\n  $ " + commandName() + " run payment\n\nReplicas share the work. Stop one with SIGTERM: it finishes what it began."
}

// Run runs the named functions until ctx ends.
func (c runCommand) Run(ctx context.Context, s *session) error {
	var functions []function.Function
	store := false
	for _, name := range c.Names {
		i := slices.IndexFunc(s.program.Functions, func(f function.Function) bool { return f.Name == name })
		switch {
		case name == EventStore:
			store = true
		case i < 0:
			return fmt.Errorf("run %q: there is no such function; there are %s", name, strings.Join(s.names(), ", "))
		case !slices.ContainsFunc(functions, func(f function.Function) bool { return f.Name == name }):
			functions = append(functions, s.program.Functions[i])
		}
	}
	return s.run(ctx, work{functions: functions, store: store})
}

func (s *session) names() []string {
	names := []string{EventStore}
	for _, f := range s.program.Functions {
		names = append(names, f.Name)
	}
	return names
}

// run starts the parts in the order of their need, waits for ctx, and stops
// them the other way round.
func (s *session) run(ctx context.Context, w work) error {
	began := time.Now()
	p := &process{session: s}
	if w.server || w.store {
		if err := os.MkdirAll(s.settings.DataDir, 0o750); err != nil {
			return &config.Error{Variable: "DATA_DIR", Value: s.settings.DataDir, Reason: errors.Unwrap(err).Error()}
		}
	}
	for _, r := range s.program.resources(w.functions) {
		if c := r.Config(); c != nil {
			if err := config.Load(ctx, s.lookup, c); err != nil {
				return err
			}
		}
	}
	err := p.start(ctx, w)
	if err == nil {
		p.health.began()
		parts := names(w.functions)
		if w.store {
			parts = append([]string{EventStore}, parts...)
		}
		s.log.Info("ready", "took", time.Since(began).Round(time.Millisecond), "nats", p.natsURL, "runs", strings.Join(parts, ","))
		select {
		case <-ctx.Done():
			s.log.Info("stopping", "timeout", s.settings.DrainTimeout)
		case err = <-p.failed:
		}
	}
	// What asked for the stop is no reason to break off what is under way.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.DrainTimeout)
	defer cancel()
	stopped := p.stop(drain)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	if err = errors.Join(err, stopped); err == nil {
		s.log.Info("stopped")
	}
	return err
}

func names(functions []function.Function) []string {
	all := make([]string, len(functions))
	for i, f := range functions {
		all[i] = f.Name
	}
	return all
}

type lsCommand struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// Help is shown by ls --help.
func (lsCommand) Help() string {
	return "Example:\n\n  $ " + commandName() + " ls\n\nDONE counts requests and deliveries since each replica started, and of the event store the events that are in JetStream, of a supervisor the processes it started; WANTED is how many replicas a supervisor wants; LAG is what waits in JetStream, IN HAND what was delivered and is not yet done, DEAD LETTERS what the function gave up on and nobody has seen to: " + commandName() + " deadletters ls. What keeps events from JetStream is said below, and then the exit code is 1."
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
	// Ends says that a supervised process ends again and again.
	Ends string `json:"ends,omitempty"`
	// Problems are what keeps an event store from relaying.
	Problems []string `json:"problems,omitempty"`

	consumes bool
}

// Run prints what runs.
func (c lsCommand) Run(ctx context.Context, s *session, client *Client) error {
	nc, err := client.NATS(ctx)
	if err != nil {
		return err
	}
	instances, err := discovery.Find(ctx, nc, "")
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	lines := summarise(ctx, js, instances)
	if letters, err := listLetters(ctx, nc, deadletter.ListRequest{Limit: new(1)}, lagTimeout); err == nil {
		lines = countLetters(lines, letters.Open)
	}
	if c.JSON {
		e := json.NewEncoder(s.stdout)
		e.SetIndent("", "  ")
		return e.Encode(lines)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
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
	stuck := false
	for _, l := range lines {
		for _, problem := range l.Problems {
			stuck = true
			fmt.Fprintf(s.stdout, "\n%s does not relay: %s\n", l.Name, problem)
		}
		if l.Ends != "" {
			stuck = true
			fmt.Fprintf(s.stdout, "\n%s ends as soon as it begins: %s; its log says why\n", l.Name, l.Ends)
		}
	}
	if stuck {
		return errors.New("events do not move")
	}
	return nil
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
			if i.Endpoints[n].Metadata["door"] == "relay" && s.LastError != "" {
				l.Problems = add(l.Problems, s.LastError)
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
