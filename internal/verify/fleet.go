package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-go/waybill/internal/crash"
)

// fleet is everything that runs: NATS servers, event stores and functions, each
// a process of its own.
type fleet struct {
	program  string // what the processes are started of
	previous string // of another build; may be empty
	dir      string // logs, data

	servers   []*process // NATS
	stores    []*process
	functions []*process
	natsURL   string
	env       []string // of what uses all of that

	mu     sync.Mutex
	rand   *rand.Rand
	arming bool           // crash points are given to processes that start
	hits   map[string]int // of crash points
	counts map[string]int // of faults
	// upgraded are the databases that this build has opened, of two.
	upgraded map[string]bool
	problem  error       // the fleet itself does not work
	wrong    []violation // processes that ended by themselves
}

// The databases of processes.
const (
	eventsDatabase = "events"
	ordersDatabase = "orders"
)

// topology is what is to run.
type topology struct {
	servers, stores    int
	eventsDB, ordersDB string // URLs
}

// The crash points of each kind of process.
var (
	storePoints    = []string{crash.BeforeCommit, crash.AfterCommit, crash.AfterPublish}
	requestPoints  = []string{crash.BeforeAppend, crash.AfterAppend}
	functionPoints = []string{crash.BeforeAppend, crash.AfterAppend, crash.BeforeAck}
	moneyPoints    = append([]string{crash.AfterEffect}, functionPoints...)
	depositPoints  = []string{crash.AfterEffect}
	viewPoints     = []string{crash.BeforeAck}
)

func newFleet(dir string, seed uint64, t topology) (*fleet, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &fleet{
		program: program, dir: dir, rand: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // no secret
		hits: map[string]int{}, counts: map[string]int{}, upgraded: map[string]bool{},
	}
	if err := f.addServers(t.servers); err != nil {
		return nil, err
	}
	common := []string{
		"NATS_URL=" + f.natsURL, "EVENTSTORE_DB=" + t.eventsDB, "ORDERS_DB=" + t.ordersDB,
		"DATA_DIR=" + filepath.Join(dir, "data"), fmt.Sprintf("FEED_REPLICAS=%d", t.servers), "LOG_LEVEL=info",
	}
	common = append(common, settings()...)
	f.env = append(inherited(), common...)
	for i := range t.stores {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		p := f.process(fmt.Sprintf("eventstore-%d", i+1), storePoints, append(common, "GRPC_LISTEN="+address), "run", "eventstore")
		p.longest = time.Duration(t.stores) * 1500 * time.Millisecond // they are fewer
		p.database = eventsDatabase
		f.stores = append(f.stores, p)
	}
	for _, one := range []struct {
		function string
		replicas int
		points   []string
	}{
		{"placeorder", 1, requestPoints}, {"cancelorder", 1, requestPoints},
		{"payment", 2, moneyPoints}, {"review", 1, functionPoints}, {"shipping", 1, functionPoints}, {"saga", 2, moneyPoints}, {"accounts", 1, depositPoints},
		{"orderview", 2, viewPoints}, {"orderquery", 1, nil},
	} {
		for i := range one.replicas {
			p := f.process(fmt.Sprintf("%s-%d", one.function, i+1), one.points, common, "run", one.function)
			if slices.Contains([]string{"orderview", "orderquery", "saga"}, one.function) {
				p.database = ordersDatabase
			}
			f.functions = append(f.functions, p)
		}
	}
	return f, nil
}

func (f *fleet) process(name string, points, env []string, args ...string) *process {
	return &process{name: name, args: args, env: append(inherited(), env...), points: points, longest: 6 * time.Second, f: f, ended: make(chan struct{})}
}

// inherited is what the processes have of our environment: no settings, so that
// a run depends on its flags alone.
func inherited() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SystemRoot"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// addServers writes a configuration for each NATS server.
func (f *fleet) addServers(n int) error {
	clients, routes := make([]string, n), make([]string, n)
	for i := range n {
		for _, list := range [][]string{clients, routes} {
			address, err := freeAddress()
			if err != nil {
				return err
			}
			list[i] = address
		}
	}
	var urls []string
	for i := range n {
		name := fmt.Sprintf("nats-%d", i+1)
		config := fmt.Sprintf("server_name: %s\nlisten: %s\nmax_payload: 1MB\njetstream { store_dir: %q }\n", name, clients[i], f.storeDir(name))
		if n > 1 {
			config += fmt.Sprintf("cluster { name: verify, listen: %s, routes: [%s] }\n", routes[i], "nats://"+strings.Join(routes, ", nats://"))
		}
		path := filepath.Join(f.dir, name+".conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return err
		}
		f.servers = append(f.servers, f.process(name, nil, nil, "verify-nats", path))
		urls = append(urls, "nats://"+clients[i])
	}
	f.natsURL = strings.Join(urls, ",")
	return nil
}

func (f *fleet) storeDir(server string) string { return filepath.Join(f.dir, "jetstream-"+server) }

// start starts everything.
func (f *fleet) start() {
	for _, p := range f.all() {
		go p.supervise()
	}
}

// stop ends everything, functions first.
func (f *fleet) stop() {
	var wg sync.WaitGroup
	for _, p := range slices.Backward(f.all()) {
		wg.Go(p.stop)
	}
	wg.Wait()
}

func (f *fleet) all() []*process { return slices.Concat(f.servers, f.stores, f.functions) }

// arm gives a process that starts one of its crash points, the one that was hit
// least, and how long it may live before.
func (f *fleet) arm(points []string, longest time.Duration) (point string, after time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.arming || len(points) == 0 {
		return "", 0
	}
	point = slices.MinFunc(points, func(a, b string) int { return f.hits[a] - f.hits[b] })
	return point, 200*time.Millisecond + time.Duration(f.rand.Int64N(int64(longest)))
}

// build chooses of which build a process is started. All begin as the previous
// one. Whose database this build has opened runs this build from then on: it may
// have changed the tables, and an older one refuses that.
func (f *fleet) build(p *process) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.previous == "" || slices.Contains(f.servers, p) {
		return f.program
	}
	if p.starts++; !f.upgraded[p.database] && (p.starts == 1 || f.rand.IntN(2) == 0) {
		f.counts["start of the previous build"]++
		return f.previous
	}
	if p.database != "" {
		f.upgraded[p.database] = true
	}
	f.counts["start of this build"]++
	return f.program
}

// calm has the processes that wait for a crash point started again without one.
func (f *fleet) calm() {
	f.setArming(false)
	for _, p := range f.all() {
		if p.armedNow() {
			p.kill()
		}
	}
}

func (f *fleet) setArming(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.arming = on
}

func (f *fleet) crashed(point string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hits[point]++
}

// ended notes a process that nobody ended.
func (f *fleet) ended(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, violation{checkEnds, what})
}

func (f *fleet) count(fault string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[fault]++
}

// broke notes that the fleet can't go on.
func (f *fleet) broke(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problem == nil {
		f.problem = err
	}
}

func (f *fleet) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problem
}

func freeAddress() (string, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// faults is how much harm was done so far.
func (f *fleet) faults() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range []map[string]int{f.counts, f.hits} {
		for _, k := range m {
			n += k
		}
	}
	return n
}
