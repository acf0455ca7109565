//go:build unix && !linux

package supervisor

import "syscall"

// attributes put a process in a group of its own: Ctrl-C is for the supervisor.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
