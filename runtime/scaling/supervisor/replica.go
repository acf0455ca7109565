package supervisor

import (
	"errors"
	"fmt"
	"io"
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
	// lives is how long a process must run for the wait to begin anew.
	lives = 10 * time.Second
	// lastWords is how long what it wrote may take to arrive after its end.
	lastWords = time.Second
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
	wait.InitialInterval, wait.MaxInterval, wait.Multiplier, wait.RandomizationFactor = firstWait, longestWait, 2, 0.2
	for !r.stopping() {
		began := time.Now()
		said, err := r.once()
		if r.stopping() {
			return
		}
		if time.Since(began) >= lives {
			wait.Reset()
		}
		again, after := wait.NextBackOff().Round(time.Millisecond), time.Since(began).Round(time.Millisecond)
		n := r.c.crashed(crash{at: time.Now(), how: err.Error(), said: said})
		r.c.log.Warn("process ended, and is started again", "error", err, "said", said, "after", after, "in", again, "crashes", n, "within", remembers)
		select {
		case <-r.stop:
		case <-time.After(again):
		}
	}
}

// once runs the process until it ends, and has it end when the replica stops. It
// answers what the process said last, and how it ended; that is never nil, since
// nobody asked it to unless the replica stops.
func (r *replica) once() (said string, ending error) {
	cmd := r.c.s.opts.Command(r.c.name)
	cmd.SysProcAttr, cmd.WaitDelay = attributes(), lastWords
	if cmd.Stderr == nil {
		cmd.Stderr = io.Discard
	}
	stderr := &lines{to: cmd.Stderr}
	cmd.Stderr = stderr
	ending = r.attend(cmd)
	return stderr.end(), ending
}

// attend runs a command until it ends.
func (r *replica) attend(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	r.c.began()
	defer r.c.ended()
	r.c.log.Debug("process started", "pid", cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- how(cmd.Wait()) }()
	select {
	case err := <-ended:
		return err
	case <-r.stop:
		return r.drain(cmd, ended)
	}
}

func how(err error) error {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
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
