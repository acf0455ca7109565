package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
)

//go:embed manifests.yaml.tmpl
var manifestsTemplate string

type manifestsCommand struct {
	Image       string `help:"The image with this program; ${name}:${release} if left out."`
	Namespace   string `help:"The namespace, if not that of kubectl."`
	Secret      string `default:"${name}" help:"The Secret with the databases' URLs."`
	Monitoring  string `default:"nats:8222" help:"Where KEDA finds the monitoring of NATS, host:port."`
	Account     string `default:"$$G" help:"The account in which JetStream is; STORE with deploy/nats.conf."`
	EventStores int    `default:"2" help:"How many event stores run."`
}

// Help is shown by manifests --help.
func (manifestsCommand) Help() string {
	return "Prints a Deployment for every function, for the event store, a Job for " + commandName() + " provision, and for every " +
		"function that takes events a ScaledObject of KEDA, with the bounds that the function declares. Settings that are given are " +
		"taken over, whether as flags or as variables, but for where this machine listens and keeps its data; secrets are referred to, " +
		"and files are those of a Secret, in " + filesDir + ". Variables of one part alone, OTEL_ ones too, are in a Secret of that part." +
		"\n\nExample:\n\n  $ " + commandName() + " manifests --nats-url nats://nats:4222 --review-limit 1000 | kubectl apply -f -"
}

// What manifests puts into YAML as it is.
var (
	dnsLabel  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$`)
	account   = regexp.MustCompile(`^[A-Za-z0-9$_.-]{1,64}$`)
	natsURLs  = regexp.MustCompile(`^(nats|tls|ws|wss)://[A-Za-z0-9.\[\]:,/_-]+$`)
)

// check says which flag can't be used, and why.
func (c manifestsCommand) check(natsURL string) error {
	host, port, err := net.SplitHostPort(c.Monitoring)
	switch {
	case !imageName.MatchString(c.Image):
		return fmt.Errorf("--image is %q, which is no name of an image", c.Image)
	case c.Namespace != "" && !dnsLabel.MatchString(c.Namespace):
		return fmt.Errorf("--namespace is %q, which is no DNS label", c.Namespace)
	case !dnsLabel.MatchString(c.Secret):
		return fmt.Errorf("--secret is %q, which is no DNS label", c.Secret)
	case err != nil || host == "" || port == "":
		return fmt.Errorf("--monitoring is %q, and must be host:port", c.Monitoring)
	case !account.MatchString(c.Account):
		return fmt.Errorf("--account is %q, which is no name of an account", c.Account)
	case c.EventStores < 1 || c.EventStores > function.MaxReplicas:
		return fmt.Errorf("--event-stores is %d; allowed are 1 to %d", c.EventStores, function.MaxReplicas)
	case strings.Contains(natsURL, "@"):
		return &config.Error{Variable: "NATS_URL", Value: "...@...", Reason: "has a user in it, which would be there for all to read: use NATS_CREDS or NATS_NKEY with a Secret"}
	case !natsURLs.MatchString(natsURL):
		return &config.Error{Variable: "NATS_URL", Value: natsURL, Reason: "is not of the form nats://host:port,..."}
	}
	return nil
}

// manifests is what the template is filled with.
type manifests struct {
	manifestsCommand
	Program, Tag, Store string
	Files               string    // where the files of a Secret are
	Settings            []setting // of all
	Grace, CoolDown     int       // seconds
	StoreSecrets        []string  // the event store's variables that are in the Secret
	Secrets             []string  // all of these
	Functions           []manifest
}

// Hash is short, and another one when the spec or the settings change.
func (m manifests) Hash(spec string) string {
	sum := sha256.Sum256(fmt.Append(nil, m.Settings, spec))
	return hex.EncodeToString(sum[:4])
}

// manifest is one function.
type manifest struct {
	function.Function
	Stream, Durable string // empty if it takes no events
	Secrets         []string
	Ports           []port
	Answers         bool // requests, which wait for nobody
	// Widens says that its durable brings all events of a stream to several doors.
	// A release before may have filtered fewer: its replicas have to stop first.
	Widens bool
}

// port is what a function listens on, as its setting NAME_LISTEN says.
type port struct{ Variable, Name, Number string }

// answering is how many replicas answer requests, which wait nowhere.
const answering = 2

const eventStoreDB = "EVENTSTORE_DB"

// endGrace is how much longer than its drain a pod may take to end.
const endGrace = 5 * time.Second

// Run prints the manifests.
func (c manifestsCommand) Run(ctx context.Context, s *session) error {
	natsURL := s.settings.NATSURL
	if natsURL == "" {
		natsURL = "nats://nats:4222"
	}
	if c.Image == "" {
		c.Image = s.program.Name + ":" + s.program.Release
	}
	if err := c.check(natsURL); err != nil {
		return err
	}
	settings, given, err := s.podSettings(ctx, natsURL)
	if err != nil {
		return err
	}
	m := manifests{
		manifestsCommand: c, Program: s.program.Name, Tag: strings.ToLower(strings.NewReplacer(".", "-", "+", "-").Replace(s.program.Release)),
		Store: EventStore, Files: filesDir, Settings: settings,
		Grace: seconds(s.settings.DrainTimeout + endGrace), CoolDown: seconds(s.settings.ScaleCoolDown),
		StoreSecrets: append([]string{eventStoreDB}, given...),
	}
	m.Secrets = slices.Clone(m.StoreSecrets)
	for _, f := range s.program.Functions {
		one := manifestOf(f)
		one.Secrets = append(one.Secrets, given...)
		for _, name := range one.Secrets {
			if !slices.Contains(m.Secrets, name) {
				m.Secrets = append(m.Secrets, name)
			}
		}
		m.Functions = append(m.Functions, one)
	}
	return m.print(s.stdout)
}

func manifestOf(f function.Function) manifest {
	one := manifest{Function: f.WithDefaults()}
	one.Scale.TargetLag = host.Lag(f)
	if d, ok := host.DurableOf(f); ok {
		one.Stream, one.Durable = d.Stream, d.Config.Durable
		one.Widens = strings.HasSuffix(d.Config.FilterSubject, ".>") && !slices.ContainsFunc(f.Doors, isProjection)
	}
	for _, d := range f.Doors {
		switch d.(type) {
		case *function.Request, *function.Server:
			one.Answers = true
		}
	}
	if one.Answers && f.Scale.Min == 0 {
		// When a node goes, or a pod, one is left that answers; unless it declares one.
		if f.Scale.Max == 0 {
			one.Scale.Max = max(one.Scale.Max, answering)
		}
		one.Scale.Min = min(answering, one.Scale.Max)
	}
	for _, r := range f.Needs {
		if own := r.Config(); own != nil {
			one.Secrets = append(one.Secrets, secrets(own)...)
			one.Ports = append(one.Ports, ports(own)...)
		}
	}
	return one
}

// part is one Deployment or Job, for what all of them have.
type part struct {
	manifests
	Part string
}

func (m manifests) print(to io.Writer) error {
	t := template.New("manifests")
	t.Funcs(template.FuncMap{
		"q":    strconv.Quote,
		"part": func(name string) part { return part{m, name} },
		"text": func(name string, of any) (string, error) {
			var out strings.Builder
			err := t.ExecuteTemplate(&out, name, of)
			return out.String(), err
		},
	})
	if _, err := t.Parse(manifestsTemplate); err != nil {
		return fmt.Errorf("make manifests: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, m); err != nil {
		return fmt.Errorf("make manifests: %w", err)
	}
	_, err := to.Write(append(bytes.TrimRight(out.Bytes(), "\n"), '\n'))
	return err
}

func isProjection(d function.Door) bool {
	_, is := d.(*function.Projection)
	return is
}

// secrets are the variables of a resource's settings that may hold a password.
func secrets(settings any) []string {
	var all []string
	for _, v := range config.Variables(settings) {
		if v.Secret {
			all = append(all, v.Name)
		}
	}
	return all
}

// ports are what a resource listens on, by default.
func ports(settings any) []port {
	var all []port
	for _, v := range config.Variables(settings) {
		if name, listens := strings.CutSuffix(v.Name, "_LISTEN"); listens {
			if _, number, err := net.SplitHostPort(v.Default); err == nil {
				all = append(all, port{Variable: v.Name, Name: strings.ToLower(name), Number: number})
			}
		}
	}
	return all
}

// seconds rounds up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
