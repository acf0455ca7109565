package supervisor

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// A process that ends is started again after a wait, which doubles while it
	// does not live.
	firstWait   = 200 * time.Millisecond
	longestWait = 30 * time.Second
	// lives is how long a process must run to count as one that works.
	lives = 10 * time.Second
	// tooOften is after how many quick ends, one after the other, ls says so.
	tooOften = 3
)

// replica is one place in a crew, with a process in it.
type replica struct {
	c    *crew
	stop chan struct{} // closed when it is to be no more
}

func (r *replica) stopping() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// run starts the process again whenever it ends, until stop.
func (r *replica) run() {
	// It ends with the thread that started it, so this one must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstWait, longestWait
	for quick := 0; !r.stopping(); {
		began := time.Now()
		err := r.once(quick)
		if r.stopping() {
			return
		}
		if quick++; time.Since(began) >= lives {
			quick = 0
			wait.Reset()
		}
		again := wait.NextBackOff().Round(time.Millisecond)
		r.c.log.Warn("process ended, and is started again", "error", err, "after", time.Since(began).Round(time.Millisecond), "in", again)
		if quick >= tooOften {
			r.c.tell(fmt.Sprintf("%v, %d times within %v of its start", err, quick, lives))
		}
		select {
		case <-r.stop:
		case <-time.After(again):
		}
	}
}

// once runs the process until it ends, and has it end when the replica stops.
// The error says how it ended; it is never nil, since nobody asked it to unless
// the replica stops.
func (r *replica) once(quick int) error {
	cmd := r.c.s.opts.Command(r.c.name)
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	r.c.began()
	defer r.c.ended()
	r.c.log.Debug("process started", "pid", cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- how(cmd.Wait()) }()
	var well <-chan time.Time
	if quick >= tooOften {
		well = time.After(lives)
	}
	for {
		select {
		case err := <-ended:
			return err
		case <-well:
			r.c.tell("")
		case <-r.stop:
			return r.drain(cmd, ended)
		}
	}
}

func how(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// drain asks the process to end, and ends it when it does not.
func (r *replica) drain(cmd *exec.Cmd, ended <-chan error) error {
	if cmd.Process.Signal(syscall.SIGTERM) != nil { // it ended, or this system knows no such signal
		_ = cmd.Process.Kill() // fails when it ended
	}
	select {
	case err := <-ended:
		return err
	case <-r.c.s.kill:
	case <-time.After(r.c.s.opts.StopTimeout):
		r.c.log.Warn("process did not end, and is killed", "pid", cmd.Process.Pid, "timeout", r.c.s.opts.StopTimeout)
	}
	_ = cmd.Process.Kill() // fails when it ended
	return <-ended
}
