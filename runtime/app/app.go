// Package app makes a program of functions: its command line, its settings,
// and the order in which its parts start and stop.
//
//	func main() {
//		app.Main(placebooking.New(), confirm.New())
//	}
//
// The program runs all of them in one process with a NATS server and an event
// store of its own (up), or some of them against a NATS server that is there
// (run NAME...).
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/deadletter"
	"github.com/waybill-go/waybill/runtime/fleet"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/telemetry"
)

// EventStore is the name under which the event store runs and is found.
const EventStore = fleet.EventStore

// Program is what Main runs.
type Program struct {
	// Name is the command's; default is what it was started as.
	Name string
	// Description is one line for --help.
	Description string
	// Release is the program's semantic version. Default 0.0.0.
	Release string
	// NATSConfig is the text of the nats.conf that the embedded server loads;
	// may be empty.
	NATSConfig []byte
	// Functions are all that the program has, in the order of its work.
	Functions []function.Function
	// Commands are the program's own, beside up, run, ls, trace, deadletters,
	// refill, forget, rebuild, provision, nkeys, export, import and manifests.
	Commands []Command
}

// Command is a command of the program's own: a kong command whose Run may take
// a context.Context and a *Client.
type Command struct {
	Name, Help string
	Cmd        any
	// Hidden keeps it out of --help.
	Hidden bool
}

// Settings of every program.
type Settings struct {
	DataDir string `env:"DATA_DIR, default=./data" help:"where data is kept unless a setting says otherwise"`

	NATSListen  string `env:"NATS_LISTEN, default=127.0.0.1:4222" help:"where the embedded NATS server listens"`
	NATSURL     string `env:"NATS_URL" help:"use the NATS servers there, and start none"`
	NATSContext string `env:"NATS_CONTEXT" help:"use the NATS servers of this context of the nats command"`
	NATSCreds   string `env:"NATS_CREDS" help:"credentials file for NATS"`
	NATSNkey    string `env:"NATS_NKEY" help:"nkey seed file for NATS"`
	NATSCA      string `env:"NATS_CA" help:"certificate authority of the NATS servers"`
	NATSCert    string `env:"NATS_CERT" help:"client certificate for NATS"`
	NATSKey     string `env:"NATS_KEY" help:"key of the client certificate"`
	// What the server answers goes to subjects under it. One of its own for
	// each key keeps the others from reading it.
	NATSInboxPrefix string `env:"NATS_INBOX_PREFIX" help:"what the subjects of answers begin with, like _INBOX_payment, where the server's permissions ask for one"`

	// JetStream may be in an account of its own, which functions see a part of.
	NATSJSAPIPrefix string `env:"NATS_JS_API_PREFIX" help:"where a function finds JetStream, like STORE.JS, when it is in another account"`

	GRPCListen     string `env:"GRPC_LISTEN, default=127.0.0.1:50051" help:"where the event store listens"`
	GRPCAdvertise  string `env:"GRPC_ADVERTISE" help:"the address that others reach the event store at, if it is not GRPC_LISTEN"`
	GRPCCert       string `env:"GRPC_CERT" help:"certificate of this process for gRPC; an event store with one takes TLS only"`
	GRPCKey        string `env:"GRPC_KEY" help:"key of GRPC_CERT"`
	GRPCCA         string `env:"GRPC_CA" help:"authority that signed the others' certificates: functions then call with TLS, and an event store with GRPC_CERT lets in only who has one"`
	GRPCServerName string `env:"GRPC_SERVER_NAME" help:"the name that the event stores' certificates have"`
	GRPCToken      string `env:"GRPC_TOKEN" secret:"true" help:"what callers of the event store must show; needs TLS"`
	GRPCReadToken  string `env:"GRPC_READ_TOKEN" secret:"true" help:"what callers may show who only read"`
	GRPCPlaintext  bool   `env:"GRPC_PLAINTEXT, default=false" help:"take calls in plaintext from other machines"`
	EventStoreDB   string `env:"EVENTSTORE_DB, default=sqlite:$DATA_DIR/events.db" secret:"true" help:"where the events are, sqlite:PATH or postgres://..."`
	EventStoreAddr string `env:"EVENTSTORE_ADDR, default=nats:///eventstore" help:"where functions find the event store: host:port, or by discovery"`

	FeedMaxAge   time.Duration `env:"FEED_MAX_AGE, default=0s" min:"0s" max:"87600h" help:"how long JetStream keeps an event, 0s is for ever; SQL keeps all"`
	FeedReplicas int           `env:"FEED_REPLICAS, default=1" min:"1" max:"5" help:"replicas of each JetStream stream"`
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT, default=25s" min:"100ms" max:"10m" help:"how long a stop may take"`

	ScaleCoolDown time.Duration `env:"SCALE_COOL_DOWN, default=30s" min:"1s" max:"1h" help:"how long fewer replicas of a function must have been enough before one is stopped"`
	MetricsListen string        `env:"METRICS_LISTEN" help:"where the process answers /metrics, /healthz and /readyz over HTTP; nowhere if empty"`

	LogLevel  string `env:"LOG_LEVEL, default=info" oneof:"debug,info,warn,error" help:"least level that is logged"`
	LogFormat string `env:"LOG_FORMAT, default=text" oneof:"text,json" help:"how it is logged"`
}

// Main runs a program of the functions, and ends the process.
func Main(functions ...function.Function) { Program{Functions: functions}.Main() }

// Main runs the program, and ends the process: with 0 when it was asked to.
func (p Program) Main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// The first signal asks to stop; a second one ends the process at once, as
	// signals do. Two at the same moment are one: a terminal's and a script's.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(sameMoment, stop) })
	os.Exit(p.Run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// gcPercent is Go's GOGC where none is set. Most of what a step of an order
// allocates is garbage soon after, and what lives is little: at Go's own 100 the
// collector takes a tenth of the processor.
const gcPercent = 300

// sameMoment is how close two signals are that mean one thing.
const sameMoment = 100 * time.Millisecond

// exit is how kong asks for the end of the process.
type exit int

// Run runs a command line until it is done or ctx ends, and answers the exit
// code: 0, 1 for an error, 2 for a command line or a setting that is wrong.
func (p Program) Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (code int) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = int(e)
		default:
			panic(e)
		}
	}()
	if p.Name == "" {
		p.Name = filepath.Base(os.Args[0])
	}
	if p.Release == "" {
		p.Release = "0.0.0"
	}
	if err := p.check(); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return 2
	}
	flags, given := config.Flags(config.Variables(p.configs(&Settings{})...))
	parser, err := kong.New(&commands{}, p.options(flags, stdout, stderr)...)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return 2
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n  see %s --help\n", p.Name, err, p.Name)
		return 2
	}
	s := &session{program: p, stdout: stdout, stderr: stderr, lookup: config.First(
		given,
		func(name string) (string, bool) { v := getenv(name); return v, v != "" },
		func(name string) (string, bool) { return "./data", name == "DATA_DIR" },
	)}
	if err := config.Load(ctx, s.lookup, &s.settings); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return 2
	}
	s.log = newLogger(s.settings, stderr)
	command.BindTo(ctx, (*context.Context)(nil))
	client := &Client{s: s}
	defer client.close()
	if err := command.Run(s, client); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		var bad *config.Error
		if errors.As(err, &bad) {
			return 2
		}
		return 1
	}
	return 0
}

// options of the command line.
func (p Program) options(flags any, stdout, stderr io.Writer) []kong.Option {
	options := []kong.Option{
		kong.Name(p.Name), kong.Description(p.Description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{{
			Key: "settings", Title: "Settings, for every command; each is an environment variable too:",
		}}),
		kong.Vars{"name": p.Name, "names": strings.Join(p.names(), ", "), "release": p.Release, "version": p.Release},
		kong.Embed(flags),
	}
	for _, c := range p.Commands {
		var tags []string
		if c.Hidden {
			tags = append(tags, `hidden:""`)
		}
		options = append(options, kong.DynamicCommand(c.Name, c.Help, "", c.Cmd, tags...))
	}
	return options
}

func (p Program) check() error {
	seen := map[string]bool{EventStore: true, SupervisorName: true, deadletter.Name: true}
	for _, f := range p.Functions {
		if err := f.Check(); err != nil {
			return err
		}
		if seen[f.Name] {
			return fmt.Errorf("declare function %q: there are two of that name", f.Name)
		}
		seen[f.Name] = true
	}
	return p.checkSubjects()
}

// checkSubjects refuses a subject that two functions answer to, each of which
// would handle every request, and one that is the runtime's own.
func (p Program) checkSubjects() error {
	own := []string{"deadletters", EventStore, "feed", function.TimersStream, SupervisorName}
	own = append(own, p.streams()...)
	whose := map[string]string{}
	for _, f := range p.Functions {
		for _, d := range f.Doors {
			r, ok := d.(*function.Request)
			if !ok {
				continue
			}
			first, _, _ := strings.Cut(r.Subject(), ".")
			if slices.Contains(own, first) {
				return fmt.Errorf("declare function %q: the subject %q is the runtime's own; begin it with another word than %q", f.Name, r.Subject(), first)
			}
			if other, taken := whose[r.Subject()]; taken {
				return fmt.Errorf("declare function %q: the subject %q is that of function %q too; both would handle each request", f.Name, r.Subject(), other)
			}
			whose[r.Subject()] = f.Name
		}
	}
	return nil
}

// configs are the settings' structs of the program and of all resources.
func (p Program) configs(own any) []any {
	all := []any{own}
	for _, r := range p.resources(p.Functions) {
		if c := r.Config(); c != nil {
			all = append(all, c)
		}
	}
	return all
}

// resources are what the functions need, each once, in the order of need.
func (p Program) resources(functions []function.Function) []function.Resource {
	var all []function.Resource
	for _, f := range functions {
		for _, r := range f.Needs {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all
}

// streams are those that the functions read or append to, and that of dead letters.
func (p Program) streams() []string {
	return append(function.Streams(p.Functions), deadletter.Stream)
}

// names are what run takes: the event store and the functions.
func (p Program) names() []string { return append([]string{EventStore}, names(p.Functions)...) }

// deadlines are how long each function may take for a message.
func (p Program) deadlines() map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, f := range p.Functions {
		all[f.Name] = f.WithDefaults().Deadline
	}
	return all
}

// session is one run of a command.
type session struct {
	program  Program
	settings Settings
	lookup   config.Lookup
	log      *slog.Logger
	// connection is what happened to the connection to NATS so far.
	connection telemetry.Connection
	stdout     io.Writer
	stderr     io.Writer
}
