package cloudflared

import (
	"golang.org/x/sys/windows"

	"github.com/hubhook/hubhook/internal/jobobject"
)

// processGroup is the job object that holds the program and its children. Windows closes the job when this process ends, however it ends.
// That kills all in it.
type processGroup struct{ job windows.Handle }

func (c *child) start() (err error) {
	c.system.job, err = jobobject.Start(c.cmd)
	return err
}

// reaped kills the children that the program has left.
func (c *child) reaped() { windows.CloseHandle(c.system.job) }

func (c *child) alive() bool { return !c.ended() }

// terminate sends Ctrl-Break, which needs a console.
func (c *child) terminate() {
	if c.alive() {
		_ = windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(c.cmd.Process.Pid))
	}
}

func (c *child) kill() { _ = c.cmd.Process.Kill() } // which says so where it has ended
