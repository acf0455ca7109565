package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/runtime/discovery"
	"github.com/waybill-go/waybill/runtime/fleet"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest/hosttest"
	"github.com/waybill-go/waybill/runtime/host"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
	"github.com/waybill-go/waybill/runtime/scaling/supervisor"
)

func TestMain(m *testing.M) { natstest.Main(m) }

type counted struct{}

func (counted) EventType() string { return "counted" }

// view is a function that takes all events of COUNTERS.
func view(name string, apply func() error) function.Function {
	return function.Function{Name: name, Doors: []function.Door{
		function.Project("COUNTERS", func(context.Context, function.Log, []function.Message) error { return apply() }),
	}}
}

func list(t *testing.T, s *hosttest.System, expected ...function.Function) map[string]*fleet.Service {
	t.Helper()
	services, err := fleet.List(t.Context(), s.Conn, expected...)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*fleet.Service{}
	var names []string
	for _, s := range services {
		all[s.Name] = s
		names = append(names, s.Name)
	}
	if !slices.IsSorted(names) || len(all) != len(names) {
		t.Fatalf("services are %v", names)
	}
	return all
}

// announce has a replica be there that did some work.
func announce(t *testing.T, s *hosttest.System, name, release, machine string, took ...time.Duration) *discovery.Service {
	t.Helper()
	known, err := discovery.Announce(s.Conn, discovery.Identity{
		Name: name, Release: release, Metadata: map[string]string{discovery.MetadataHost: machine, discovery.MetadataPID: "7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(known.Stop)
	door := known.Endpoint("do", name+".do", nil)
	for i, d := range took {
		door.Done(d, strings.Repeat("500:broken", i%2))
	}
	return known
}

// TestReplicasAreOneService has two replicas of two releases, of which one is
// slow.
func TestReplicasAreOneService(t *testing.T) {
	s := hosttest.Start(t)
	fast := slices.Repeat([]time.Duration{time.Millisecond}, 96)
	announce(t, s, "payment", "1.0.0", "here", fast...)
	announce(t, s, "payment", "2.0.0", "there", slices.Repeat([]time.Duration{time.Second}, 4)...)
	foreign := announce(t, s, "foreign", "1.0.0", "here")
	foreign.Endpoint("other", "foreign.other", nil).Data(func() any { return map[string]any{"problem": "of its own", "latency": "?"} })
	all := list(t, s)
	if f := all["foreign"]; f.Replicas != 1 || len(f.Problems) > 0 {
		t.Errorf("foreign is %+v", f)
	}
	p := all["payment"]
	if p.Replicas != 2 || p.Done != 100 || p.Errors != 50 || p.Lag != nil || p.DeadLetters != nil || p.Wanted != nil || len(p.Problems) > 0 {
		t.Errorf("payment is %+v", p)
	}
	if !slices.Equal(p.Releases, []string{"1.0.0", "2.0.0"}) || !slices.Equal(p.Hosts, []string{"here", "there"}) {
		t.Errorf("releases %v, hosts %v", p.Releases, p.Hosts)
	}
	if p.P50.Round(100*time.Microsecond) != time.Millisecond || p.P99.Round(10*time.Millisecond) != time.Second {
		t.Errorf("p50 %v, p99 %v", p.P50, p.P99)
	}
	if len(p.Instances) != 2 || p.Instances[0].ID == p.Instances[1].ID {
		t.Fatalf("instances %+v", p.Instances)
	}
	for i, want := range []fleet.Instance{
		{Host: "here", PID: "7", Release: "1.0.0", Done: 96, Errors: 48}, {Host: "there", PID: "7", Release: "2.0.0", Done: 4, Errors: 2},
	} {
		got := p.Instances[i]
		if age := time.Since(got.Started); age < 0 || age > time.Minute {
			t.Errorf("started %v ago", age)
		}
		if got.ID, got.Started = "", want.Started; got != want {
			t.Errorf("instance %+v, want %+v", got, want)
		}
	}
}

// TestWaitingIsAProblem has a function wait for its view: its stats say
// so until it is back, and so does the list.
func TestWaitingIsAProblem(t *testing.T) {
	var back atomic.Bool
	waiting := view("view", func() error {
		if !back.Load() {
			return fmt.Errorf("the table is away: %w", function.ErrUnavailable)
		}
		return nil
	})
	s := hosttest.Start(t, waiting)
	s.Append("COUNTERS", "c1", counted{})
	const problem = "1 in hand wait: the table is away"
	s.Eventually("stats and list say that it waits", func() error {
		found, err := discovery.Find(t.Context(), s.Conn, "view")
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%v, %w", found, err)
		}
		if health := discovery.HealthOf(found[0].Stats[0]); !strings.HasPrefix(health.Problem, problem) || !health.Latency.IsZero() {
			return fmt.Errorf("health is %+v", health)
		}
		v := list(t, s, waiting)["view"]
		if len(v.Problems) != 1 || !strings.HasPrefix(v.Problems[0], "waits: "+problem) || *v.InHand != 1 || v.P99 != 0 {
			return fmt.Errorf("listed as %+v", v)
		}
		return nil
	})
	back.Store(true)
	s.Eventually("it waits no longer", func() error {
		if v := list(t, s, waiting)["view"]; len(v.Problems) > 0 || v.Done != 1 || *v.InHand != 0 || v.P50 == 0 {
			return fmt.Errorf("listed as %+v", v)
		}
		return nil
	})
}

// TestWhatDoesNotRun has a function with events that wait and no replica, two that
// a supervisor has at zero, and some that never ran.
func TestWhatDoesNotRun(t *testing.T) {
	nothing := func() error { return nil }
	idle, zero, fresh := view("idle", nothing), view("zero", nothing), view("fresh", nothing)
	other := function.Function{Name: "other", Doors: []function.Door{
		&function.Event{Stream: "COUNTERS", Type: "other", Handle: func(context.Context, *function.Runner, function.Message) error { return nil }},
	}}
	later := view("later", nothing)
	later.Start = function.FromNow
	silent := function.Function{Name: "silent", Doors: []function.Door{
		function.Endpoint("silent.ask", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }),
		function.Serve("HTTP", nil),
	}}
	s := hosttest.Start(t, view("view", nothing))
	js, err := jetstream.New(s.Conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []function.Function{idle, zero} {
		d, _ := host.DurableOf(f)
		if _, err := js.CreateConsumer(t.Context(), d.Stream, d.Config); err != nil {
			t.Fatal(err)
		}
	}
	s.Append("COUNTERS", "c1", counted{}, counted{})
	boss := announce(t, s, "supervisor", "1.0.0", "here")
	for name, status := range map[string]supervisor.Status{"zero": {Wanted: 1, Starts: 3, Problem: "exit status 1"}, "asks": {}} {
		metadata := map[string]string{discovery.MetadataKind: discovery.KindSupervisor, discovery.MetadataFunction: name}
		if name == "zero" {
			metadata[discovery.MetadataStream], metadata[discovery.MetadataDurable] = "COUNTERS", name
		}
		boss.Endpoint(name, "supervisor."+name, metadata).Data(func() any { return status })
	}
	s.Eventually("all of it is listed", func() error {
		all := list(t, s, idle, zero, fresh, other, later, silent)
		for name, want := range map[string]string{
			"eventstore": `{"replicas":0,"problems":["does not run, or this key may not ask: nothing is stored or relayed"]}`,
			"idle":       `{"replicas":0,"lag":2,"in_hand":0,"problems":["does not run, and events wait for it: 2"]}`,
			"zero":       `{"replicas":0,"wanted":1,"starts":3,"lag":2,"in_hand":0,"problems":["ends again and again: exit status 1"]}`,
			"asks":       `{"replicas":0,"wanted":0,"starts":0}`,
			"fresh":      `{"replicas":0,"lag":2,"in_hand":0,"problems":["does not run, and never did, and events wait for it: 2"]}`,
			"other":      `{"replicas":0,"lag":0,"in_hand":0}`,
			"later":      `{"replicas":0}`,
			"silent":     `{"replicas":0,"problems":["does not run: nobody answers silent.ask","does not run: nobody serves HTTP"]}`,
		} {
			if got := short(t, all[name]); got != want {
				return fmt.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		return nil
	})
}

// short is a service's JSON without its name, and what is empty of one that does
// not run.
func short(t *testing.T, s *fleet.Service) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, cut := range []string{fmt.Sprintf(`"name":%q,`, s.Name), `,"hosts":[],"releases":[],"done":0,"errors":0`, `,"instances":[]`} {
		before := text
		if text = strings.Replace(text, cut, "", 1); text == before {
			t.Fatalf("%s has no %s", text, cut)
		}
	}
	return text
}

func TestListNeedsNATS(t *testing.T) {
	nc := natstest.Start(t).Connect()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fleet.List(ctx, nc); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
	nc.Close()
	if _, err := fleet.List(t.Context(), nc); err == nil {
		t.Error("a connection that is closed: no error")
	}
}
