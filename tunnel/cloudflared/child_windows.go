package cloudflared

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// processGroup is the job object that holds the program and its children. Windows closes the job when this process ends, however it ends.
// That kills all in it.
type processGroup struct{ job windows.Handle }

func (c *child) start() error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return os.NewSyscallError("CreateJobObject", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		windows.CloseHandle(job)
		return os.NewSyscallError("SetInformationJobObject", err)
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := c.cmd.Start(); err != nil {
		windows.CloseHandle(job)
		return err
	}
	var assigned error
	err = c.cmd.Process.WithHandle(func(handle uintptr) { assigned = windows.AssignProcessToJobObject(job, windows.Handle(handle)) })
	if err == nil {
		err = os.NewSyscallError("AssignProcessToJobObject", assigned)
	}
	if err != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		windows.CloseHandle(job)
		return err
	}
	c.system.job = job
	return nil
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
