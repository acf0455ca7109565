//go:build !unix

package supervisor

import "syscall"

func attributes() *syscall.SysProcAttr { return nil }
