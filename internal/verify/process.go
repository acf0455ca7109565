package verify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/waybill-go/waybill/internal/crash"
)

// process is one program of the fleet, which is started again whenever it ends.
type process struct {
	name   string
	args   []string
	env    []string
	points []string // crash points it can come by
	// longest is how long it may live before one.
	longest  time.Duration
	database string // whose tables it makes, if it has one
	f        *fleet

	starts int // guarded by the fleet

	mu      sync.Mutex
	cmd     *exec.Cmd
	armed   string // the crash point of the one that runs
	killed  bool   // by us
	held    chan struct{}
	ended   chan struct{} // closed when the supervisor is done
	stopped bool
}

// supervise starts the process again whenever it ends, until stop.
func (p *process) supervise() {
	defer close(p.ended)
	// It ends with the thread that started it, so this one must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for quick := 0; ; {
		p.mu.Lock()
		held := p.held
		p.mu.Unlock()
		if held != nil { // it is to stay away for a while
			<-held
		}
		began := time.Now()
		done, err := p.begin()
		if err != nil {
			p.f.broke(fmt.Errorf("start %s: %w", p.name, err))
			return
		}
		if done == nil {
			return // stopped
		}
		state := <-done
		if p.over(state) {
			return
		}
		if quick++; time.Since(began) > time.Second {
			quick = 0
		}
		if quick > tooQuick {
			p.f.broke(fmt.Errorf("%s ends as soon as it begins: see %s", p.name, p.log()))
			return
		}
	}
}

// tooQuick is how often a process may end within a second of its start, one
// time after the other: crash points do that too.
const tooQuick = 50

// begin starts the process; nil when it is to be no more.
func (p *process) begin() (<-chan *os.ProcessState, error) {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil //nolint:nilnil // there is none to wait for
	}
	p.killed = false
	point, after := p.f.arm(p.points, p.longest)
	p.armed = point
	p.cmd = exec.Command(p.f.build(p), p.args...) //nolint:gosec,noctx // our own program, which is ended by signals
	p.cmd.Env = p.env
	if point != "" {
		p.cmd.Env = append(p.cmd.Env[:len(p.cmd.Env):len(p.cmd.Env)], fmt.Sprintf("%s=%s@%v", crash.Variable, point, after))
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = attributes()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan *os.ProcessState, 1)
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // the state tells
		done <- cmd.ProcessState
	}(p.cmd)
	return done, nil
}

// over takes note of an end, and tells whether it was the last.
func (p *process) over(state *os.ProcessState) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	switch {
	case p.killed || p.stopped:
	case p.armed != "" && byKill(state):
		p.f.crashed(p.armed)
	default:
		p.f.ended(fmt.Sprintf("%s ended by itself (%v): see %s", p.name, state, p.log()))
	}
	return p.stopped
}

func (p *process) log() string { return filepath.Join(p.f.dir, p.name+".log") }

// signal sends a signal, if it runs.
func (p *process) signal(s os.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	if s == os.Kill {
		p.killed = true
	}
	return p.cmd.Process.Signal(s) == nil
}

// kill ends it as kill -9 does. It is started again.
func (p *process) kill() bool { return p.signal(os.Kill) }

// holdBack kills it, and keeps it away until the answer is called.
func (p *process) holdBack() (release func()) {
	held := make(chan struct{})
	p.mu.Lock()
	p.held = held
	p.mu.Unlock()
	p.kill()
	for p.runs() {
		time.Sleep(time.Millisecond)
	}
	return func() {
		p.mu.Lock()
		p.held = nil
		p.mu.Unlock()
		close(held)
	}
}

func (p *process) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// armedNow tells whether the one that runs waits for its crash point.
func (p *process) armedNow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && p.armed != ""
}

// stop ends it for good.
func (p *process) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.kill()
	<-p.ended
}

func byKill(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
