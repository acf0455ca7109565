//go:build !unix

package verify

import "time"

// pause does nothing on a system that can't pause a process.
func (p *process) pause(time.Duration) bool { return false }
