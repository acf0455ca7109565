package supervisor

import "syscall"

// attributes have a process end with the one that started it. It is in a group
// of its own: Ctrl-C is for the supervisor, which stops the processes before
// what they need.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
