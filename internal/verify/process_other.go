//go:build !unix

package verify

import (
	"syscall"
	"time"
)

func ownGroup() *syscall.SysProcAttr { return nil }

func (p *process) pause(time.Duration) bool { return false }
