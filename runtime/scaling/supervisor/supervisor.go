// Package supervisor runs functions as processes of this machine: as many of
// each as its policy wants (see package scaling), each started again when it dies,
// none left when it stops.
//
//	supervisor.go  all of it: start, stop, what it tells
//	crew.go        the replicas of one function: observe, decide, scale
//	replica.go     one process, started again and again
//	lines.go       what it wrote last
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/scaling"
)

// Options say what is supervised.
type Options struct {
	Functions []function.Function
	// Command makes the command of one replica of a function, not started. Its
	// process must end by itself after a SIGTERM.
	Command   func(name string) *exec.Cmd
	JetStream jetstream.JetStream
	// CoolDown is how long fewer replicas must have been enough before one is
	// stopped.
	CoolDown time.Duration
	// StopTimeout is how long a replica may take to end before it is killed.
	StopTimeout time.Duration
	Logger      *slog.Logger
}

// lookEvery is how often a policy sees what waits. With the half second that
// a process takes to start, the first event of a function at zero is handled
// within a second.
const lookEvery = 200 * time.Millisecond

// Supervisor runs functions until it is stopped.
type Supervisor struct {
	opts   Options
	crews  []*crew
	cancel context.CancelFunc
	loops  sync.WaitGroup // of the crews
	kill   chan struct{}  // closed when there is no more time to drain
	stop   sync.Once
	err    error
}

// Start starts the least of every function, and follows their policies from
// then on. Call Stop to end it.
func Start(opts Options) *Supervisor {
	s := &Supervisor{opts: opts, kill: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for _, f := range opts.Functions {
		f = f.WithDefaults()
		c := &crew{
			s: s, name: f.Name, log: opts.Logger.With("function", f.Name),
			policy: scaling.Policy{Min: f.Scale.Min, Max: f.Scale.Max, TargetLag: host.Lag(f), CoolDown: opts.CoolDown},
		}
		c.durable, c.consumes = host.DurableOf(f)
		c.serves = slices.ContainsFunc(f.Doors, func(d function.Door) bool { _, is := d.(*function.Server); return is })
		s.crews = append(s.crews, c)
		s.loops.Go(func() { c.run(ctx) })
	}
	return s
}

// Status is how a function is doing.
type Status struct {
	// Function, and the durable that it takes its events from, if any.
	Function string `json:"-"`
	Stream   string `json:"-"`
	// Wanted is how many replicas there are to be, between Min and Max.
	Wanted int `json:"wanted"`
	Min    int `json:"min"`
	Max    int `json:"max"`
	// Running is how many there are, with those that drain.
	Running int `json:"running"`
	// Starts counts the processes that were started.
	Starts int `json:"starts"`
	// Problem says that a replica ends again and again; empty if none does.
	Problem string `json:"problem,omitempty"`
}

// Status tells of every function, in the order of Options.
func (s *Supervisor) Status() []Status {
	all := make([]Status, len(s.crews))
	for i := range s.crews {
		all[i] = s.StatusOf(i)
	}
	return all
}

// StatusOf tells of one, by its place in Options.
func (s *Supervisor) StatusOf(i int) Status { return s.crews[i].status() }

// Wake has a replica of the function run for a while, though nothing waits that would
// need it. It answers false when there is no such function.
func (s *Supervisor) Wake(name string) bool {
	for _, c := range s.crews {
		if c.name == name {
			c.wake()
			return true
		}
	}
	return false
}

// Stop has every process finish what it began, and returns when all have ended.
// Those that serve a protocol end first, as long as a quarter of the time, since they
// ask the others. Those that still run when ctx ends are killed, and the error names
// them.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		s.cancel()
		s.loops.Wait()
		some := ctx
		if until, bounded := ctx.Deadline(); bounded {
			var cancel context.CancelFunc
			some, cancel = context.WithDeadline(ctx, time.Now().Add(time.Until(until)/4))
			defer cancel()
		}
		_ = s.end(some, true) // those that remain end beside the others
		gone := s.end(ctx, false)
		select {
		case <-gone:
			return
		case <-ctx.Done():
		}
		var still []string
		for _, st := range s.Status() {
			if st.Running > 0 {
				still = append(still, st.Function)
			}
		}
		close(s.kill)
		<-gone
		if len(still) > 0 {
			s.err = errors.Join(fmt.Errorf("stop processes: killed %s, which did not end in time", strings.Join(still, ", ")), ctx.Err())
		}
	})
	return s.err
}

// end has processes end: those that serve, or all. It waits until they have, or ctx
// ends; the answer is closed when they have.
func (s *Supervisor) end(ctx context.Context, serving bool) (gone chan struct{}) {
	var left []*crew
	for _, c := range s.crews {
		if c.serves || !serving {
			c.scale(0)
			left = append(left, c)
		}
	}
	gone = make(chan struct{})
	go func() {
		for _, c := range left {
			c.left.Wait()
		}
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
	return gone
}
