//go:build unix

package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/waybill-go/waybill/eventstore/envelope"
	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/natsserver/natstest"
	"github.com/waybill-go/waybill/runtime/scaling/supervisor"
)

const (
	childVariable  = "WAYBILL_TEST_REPLICA" // how the process behaves
	folderVariable = "WAYBILL_TEST_FOLDER"  // where it leaves its process id
	nameVariable   = "WAYBILL_TEST_NAME"    // its function's name
)

// TestMain lets the test binary be a replica.
func TestMain(m *testing.M) {
	how := os.Getenv(childVariable)
	if how == "" {
		natstest.Main(m)
		return
	}
	stop := make(chan os.Signal, 1)
	if signal.Notify(stop, syscall.SIGTERM); how == "dies" {
		fmt.Fprint(os.Stderr, "panic: the lamp is broken\n\ngoroutine 1 [running]:\nmain.main()")
		os.Exit(3)
	}
	pid := fmt.Sprint(os.Getpid())
	if err := os.WriteFile(filepath.Join(os.Getenv(folderVariable), pid), nil, 0o600); err != nil {
		os.Exit(4)
	}
	for range stop {
		switch how {
		case "ends":
			return
		case "tells": // when it ended; what serves takes its time for that
			if os.Getenv(nameVariable) == "serves" {
				time.Sleep(200 * time.Millisecond)
			}
			f, err := os.OpenFile(filepath.Join(os.Getenv(folderVariable), "0"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				os.Exit(5)
			}
			fmt.Fprintln(f, os.Getenv(nameVariable))
			_ = f.Close()
			return
		}
	}
}

// site is where replicas run that behave in one way.
type site struct {
	t      *testing.T
	folder string
	how    string
}

func (s site) start(js jetstream.JetStream, functions ...function.Function) *supervisor.Supervisor {
	return supervisor.Start(supervisor.Options{
		Functions: functions, JetStream: js, CoolDown: time.Second, StopTimeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler),
		Command: func(name string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+s.how, folderVariable+"="+s.folder, nameVariable+"="+name)
			return cmd
		},
	})
}

// began are the processes that have come up.
func (s site) began() (pids []int) {
	s.t.Helper()
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			s.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func (s site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("does not %s", what)
		}
	}
}

func (s site) gone(pids []int) {
	s.t.Helper()
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			s.t.Errorf("process %d still runs", pid)
		}
	}
}

func asks(least int) function.Function {
	return function.Function{
		Name: "asks", Scale: function.Scale{Min: least},
		Doors: []function.Door{function.Endpoint("a.b", func(context.Context, struct{}) (int, error) { return 0, nil })},
	}
}

func TestWhatDiesComesAgain(t *testing.T) {
	s := site{t, t.TempDir(), "ends"}
	all := s.start(nil, asks(2))
	s.eventually("start two", func() bool { return len(s.began()) == 2 })
	if err := syscall.Kill(s.began()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("start a third", func() bool { return len(s.began()) == 3 })
	if st := all.StatusOf(0); st.Wanted != 2 || st.Starts != 3 || st.Problem != "" {
		t.Errorf("%+v", st)
	}
	if err := all.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	s.gone(s.began())
}

func TestWhatCantStartIsTriedEverMoreSlowly(t *testing.T) {
	s := site{t, t.TempDir(), "dies"}
	all := s.start(nil, asks(1))
	s.eventually("tell that it ends, how often and why", func() bool {
		p := all.StatusOf(0).Problem
		return strings.HasPrefix(p, "exit status 3, 4 times in the last 5m0s, last ") && strings.HasSuffix(p, " ago: panic: the lamp is broken")
	})
	if n := all.StatusOf(0).Starts; n > 10 {
		t.Errorf("started %d times", n)
	}
	if err := all.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWhatServesEndsFirst, since it asks the others until then.
func TestWhatServesEndsFirst(t *testing.T) {
	s := site{t, t.TempDir(), "tells"}
	serves := function.Function{Name: "serves", Doors: []function.Door{
		function.Serve("HTTP", func(function.Port) (function.Serving, error) { return nil, errors.New("not here") }),
	}}
	all := s.start(nil, asks(2), serves)
	s.eventually("start three", func() bool { return len(s.began()) == 3 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := all.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	ended, err := os.ReadFile(filepath.Join(s.folder, "0"))
	if err != nil || string(ended) != "serves\nasks\nasks\n" {
		t.Errorf("they ended in the order %q, %v", ended, err)
	}
}

func TestStopKillsWhatStays(t *testing.T) {
	s := site{t, t.TempDir(), "stays"}
	all := s.start(nil, asks(1))
	s.eventually("start", func() bool { return len(s.began()) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := all.Stop(ctx); err == nil || !strings.Contains(err.Error(), "asks") {
		t.Errorf("stopped with %v", err)
	}
	s.gone(s.began())
}

// TestWakesAndSleeps: nothing runs, an event waits and something runs within a
// second; it is done, and nothing runs again.
func TestWakesAndSleeps(t *testing.T) {
	s := site{t, t.TempDir(), "ends"}
	js, err := jetstream.New(natstest.Start(t).Connect())
	if err != nil {
		t.Fatal(err)
	}
	// As the event store makes it.
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "LAMPS", Subjects: []string{"LAMPS.*"}, Metadata: map[string]string{envelope.MetadataReady: "yes"},
	}); err != nil {
		t.Fatal(err)
	}
	all := s.start(js, function.Function{
		Name: "view", Doors: []function.Door{function.Project("LAMPS", func(context.Context, function.Log, []function.Message) error { return nil })},
	})
	var durable jetstream.Consumer
	s.eventually("make the durable", func() bool {
		durable, err = js.Consumer(t.Context(), "LAMPS", "view")
		return err == nil
	})
	if st := all.StatusOf(0); st.Starts != 0 || st.Wanted != 0 {
		t.Errorf("nothing waits: %+v", st)
	}
	began := time.Now()
	if _, err := js.Publish(t.Context(), "LAMPS.lit", nil); err != nil {
		t.Fatal(err)
	}
	s.eventually("wake", func() bool { return all.StatusOf(0).Starts == 1 })
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v to wake", took)
	}
	m, err := durable.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	sleeps := func() bool { st := all.StatusOf(0); return st.Wanted == 0 && st.Running == 0 }
	s.eventually("sleep", sleeps)
	s.gone(s.began())
	if all.Wake("nobody") || !all.Wake("view") {
		t.Error("it wakes others than its own")
	}
	s.eventually("wake when it is asked to", func() bool { return all.StatusOf(0).Starts == 2 })
	s.eventually("sleep again", sleeps)
	if err := all.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
