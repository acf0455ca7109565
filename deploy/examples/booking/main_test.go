package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/waybill-go/waybill/runtime/function"
	"github.com/waybill-go/waybill/runtime/functiontest"
	"github.com/waybill-go/waybill/runtime/functiontest/hosttest"
)

func TestBooking(t *testing.T) {
	const subject = "bookings.request"
	request := Request{ID: "b1", Seats: 2}
	requested := functiontest.Given(t, booking).WhenAsked(subject, request).
		Then(Requested{ID: "b1", Seats: 2}).
		ThenReplies(`{"booking_id":"b1","seats":2,"confirmed":false}`)
	requested.Again().ThenNothing()
	requested.WhenAsked(subject, Request{ID: "b1", Seats: 3}).ThenRefused(function.CodeConflict, "")
	for _, seats := range []int{-1, 0, 10} {
		functiontest.Given(t, booking).WhenAsked(subject, Request{ID: "b1", Seats: seats}).ThenRefused(function.CodeInvalid, "seats")
	}
}

func TestConfirmation(t *testing.T) {
	functiontest.Given(t, confirmation).When(Requested{ID: "b1", Seats: 2}).Then(Confirmed{}).Again().ThenNothing()
	functiontest.Given(t, confirmation).Meanwhile(Confirmed{}).When(Requested{ID: "b1", Seats: 2}).ThenNothing()
}

// TestBoth runs the functions on a server.
func TestBoth(t *testing.T) {
	s := hosttest.Start(t, booking, confirmation)
	if _, refused := s.Request("bookings.request", Request{ID: "b1", Seats: 2}); refused != nil {
		t.Fatal(refused)
	}
	s.Await("BOOKINGS", "b1", "requested", "confirmed")
}

// TestProgram runs the program: up, a second confirm, a booking, ls, and trace.
func TestProgram(t *testing.T) {
	listen := freePort(t)
	url := "NATS_URL=nats://" + listen
	up := start(t, "up", "DATA_DIR="+t.TempDir(), "NATS_LISTEN="+listen, "GRPC_LISTEN=127.0.0.1:0")
	up.await("msg=ready")
	more := start(t, "run confirm", url)
	more.await("msg=ready")
	nc, err := nats.Connect("nats://" + listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	confirmed, err := nc.SubscribeSync("BOOKINGS.confirmed")
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request("bookings.request", []byte(`{"booking_id":"b1","seats":2}`), timeout)
	if err != nil || string(m.Data) != `{"booking_id":"b1","seats":2,"confirmed":false}` {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := confirmed.NextMsg(timeout); err != nil {
		t.Fatal(err)
	}
	ls := start(t, "ls", url)
	if code := ls.end(); code != 0 || !regexp.MustCompile(`booking +1 (?s:.*)confirm +2 `).MatchString(ls.String()) {
		t.Errorf("ls ended with %d:\n%s", code, ls)
	}
	trace := start(t, "trace b1", url)
	if code := trace.end(); code != 0 || !regexp.MustCompile(`BOOKINGS.requested +b1 (?s:.*)└─ BOOKINGS.confirmed +b1 +2 +confirm `).MatchString(trace.String()) {
		t.Errorf("trace ended with %d:\n%s", code, trace)
	}
	for _, p := range []*process{more, up} {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := p.end(); code != 0 {
			t.Errorf("ended with %d:\n%s", code, p)
		}
	}
}

const (
	timeout = 30 * time.Second
	// commandLine has the test binary be the program, with these arguments.
	commandLine = "BOOKING_TEST_ARGS"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(commandLine); args != "" {
		os.Args = append([]string{"booking"}, strings.Fields(args)...)
		main()
		return
	}
	os.Exit(m.Run())
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// process is the program as a process of its own, and what it prints.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// start starts the program; it ends with the test.
func start(t *testing.T, args string, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0]), exited: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), commandLine+"="+args), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.exited }) // it may be gone
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// await waits until the program has printed something.
func (p *process) await(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(timeout); !strings.Contains(p.String(), text); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.exited:
			p.t.Fatalf("it ended:\n%s", p)
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("it does not print %q:\n%s", text, p)
		}
	}
}

// end waits for the process, and answers its exit code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(timeout):
		p.t.Fatalf("it still runs:\n%s", p)
		return -1
	}
}
