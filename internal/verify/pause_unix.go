//go:build unix

package verify

import (
	"syscall"
	"time"
)

// pause stops a process for a while, as a machine that swaps does.
func (p *process) pause(d time.Duration) bool {
	if !p.signal(syscall.SIGSTOP) {
		return false
	}
	time.Sleep(d)
	return p.signal(syscall.SIGCONT)
}
