//go:build unix

package cloudflared

import (
	"errors"
	"sync/atomic"
	"syscall"
)

// processGroup is what a Unix system knows of a child's processes.
type processGroup struct {
	empty atomic.Bool // no process of the group lives, so its number may be another's by now
}

func (c *child) start() error {
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(c.cmd.SysProcAttr)
	return c.cmd.Start()
}

// reaped is called once the program was waited for. Its number may soon be another process's, unless processes of its group still live.
func (c *child) reaped() {
	if errors.Is(c.signal(0), syscall.ESRCH) {
		c.system.empty.Store(true)
	}
}

func (c *child) signal(s syscall.Signal) error { return syscall.Kill(-c.cmd.Process.Pid, s) }

// alive reports whether the program or a child of it lives.
func (c *child) alive() bool {
	return !c.system.empty.Load() && !errors.Is(c.signal(0), syscall.ESRCH)
}

func (c *child) terminate() {
	if c.alive() {
		_ = c.signal(syscall.SIGTERM) // it has ended meanwhile
	}
}

func (c *child) kill() {
	if c.alive() {
		_ = c.signal(syscall.SIGKILL) // it has ended meanwhile
	}
}
