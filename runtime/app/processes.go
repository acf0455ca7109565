package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/waybill-go/waybill/runtime/config"
	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/scaling/supervisor"
)

// SupervisorName is the name under which a supervisor tells what it does.
const SupervisorName = "supervisor"

// startSupervisor runs the functions as processes, as many as each needs.
func (p *process) startSupervisor(ctx context.Context, functions []function.Function) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	prefix := p.settings.NATSJSAPIPrefix
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	js, err := jetstream.NewWithAPIPrefix(p.nc, prefix)
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	env := p.childEnv()
	s := supervisor.Start(supervisor.Options{
		Functions: functions, JetStream: js, Logger: p.log,
		CoolDown: p.settings.ScaleCoolDown, StopTimeout: p.settings.DrainTimeout,
		Command: func(name string) *exec.Cmd {
			cmd := exec.Command(program, "run", name) //nolint:gosec,noctx // our own program, which is ended by signals
			cmd.Env, cmd.Stdout, cmd.Stderr = env, p.stderr, p.stderr
			return cmd
		},
	})
	p.onStop(s.Stop)
	p.log.Info("supervising the processes of this machine; when it is too small use Kubernetes with KEDA: "+p.program.Name+" manifests",
		"functions", len(functions), "cool_down", p.settings.ScaleCoolDown)
	known, err := discovery.Announce(p.nc, discovery.Identity{
		Name: SupervisorName, Release: p.program.Release, Description: "Runs functions as processes of this machine.",
		Metadata: p.withMetrics(nil),
	})
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	p.onStop(func(context.Context) error { known.Stop(); return nil })
	woken, err := p.nc.QueueSubscribe(host.WakeSubject("*"), SupervisorName, func(m *nats.Msg) {
		answer := nats.NewMsg(m.Reply)
		if name := strings.TrimPrefix(m.Subject, host.WakeSubject("")); !s.Wake(name) {
			answer.Header.Set(micro.ErrorCodeHeader, "404")
			answer.Header.Set(micro.ErrorHeader, "there is no such function")
		}
		_ = m.RespondMsg(answer) // who asked asks again
	})
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	p.onStop(func(context.Context) error { _ = woken.Unsubscribe(); return nil }) // only a closed connection refuses
	for i, st := range s.Status() {
		metadata := map[string]string{discovery.MetadataKind: discovery.KindSupervisor, discovery.MetadataFunction: st.Function}
		if st.Stream != "" {
			metadata[discovery.MetadataStream], metadata[discovery.MetadataDurable] = st.Stream, st.Function
		}
		e := known.Endpoint(st.Function, SupervisorName+"."+st.Function, metadata)
		e.Report(func() (int, string) { now := s.StatusOf(i); return now.Starts, now.Problem })
		e.Data(func() any { return s.StatusOf(i) })
	}
	return p.awaitReplicas(ctx, functions)
}

// awaitReplicas waits until the functions that are always there are there.
func (p *process) awaitReplicas(ctx context.Context, functions []function.Function) error {
	said := time.Now().Add(time.Second - sayWaiting)
	for _, f := range functions {
		for least := f.WithDefaults().Scale.Min; ; {
			found, err := discovery.Find(ctx, p.nc, f.Name)
			if err == nil && len(found) >= least {
				break
			}
			if time.Since(said) > sayWaiting {
				said = time.Now()
				p.log.Warn("not ready yet", "nats", p.natsTarget(), "error", errors.Join(err,
					fmt.Errorf("%d of %d replicas of %s answer", len(found), least, f.Name)))
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-p.failed:
				return err
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// childEnv is what a replica runs with: this process's settings, wherever they
// came from, and its NATS server.
func (p *process) childEnv() []string {
	env := os.Environ()
	for _, v := range config.Variables(p.program.configs(&Settings{})...) {
		if value, given := p.lookup(v.Name); given {
			env = append(env, v.Name+"="+value)
		}
	}
	if p.embedded {
		env = append(env, "NATS_URL="+p.natsURL, "NATS_CONTEXT=")
	}
	// They end first: what they need must have time left to end after them.
	return append(env, fmt.Sprintf("DRAIN_TIMEOUT=%v", max(p.settings.DrainTimeout*3/4, 100*time.Millisecond)), "METRICS_LISTEN="+p.childMetrics())
}

// childMetrics is where a replica is to answer for its metrics: on any port, beside
// this process; nowhere if this one does not. /targets tells which it is.
func (p *process) childMetrics() string {
	h, _, err := net.SplitHostPort(p.settings.MetricsListen)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(h, "0")
}
