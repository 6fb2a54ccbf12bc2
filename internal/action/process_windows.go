package action

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is the job object that holds a process and all its children: they can't leave it. Closing it kills what is in it, so hubhook's
// own end, however it comes, ends them too. Windows has no SIGTERM; programs that share our console can be sent Ctrl-Break, others are
// killed when the grace is over.
type group struct {
	job windows.Handle // 0 once closed
}

// jobAccounting is JOBOBJECT_BASIC_ACCOUNTING_INFORMATION.
type jobAccounting struct {
	userTime, kernelTime, periodUserTime, periodKernelTime int64
	pageFaults, processes, active, terminated              uint32
}

func (p *process) start() error {
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
	p.cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := p.cmd.Start(); err != nil {
		windows.CloseHandle(job)
		return err
	}
	var assigned error
	err = p.cmd.Process.WithHandle(func(handle uintptr) {
		assigned = windows.AssignProcessToJobObject(job, windows.Handle(handle))
	})
	if err == nil {
		err = os.NewSyscallError("AssignProcessToJobObject", assigned)
	}
	if err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		windows.CloseHandle(job)
		return err
	}
	p.group.job = job
	return nil
}

// reaped keeps the job: what the first process left may still be in it.
func (p *process) reaped() {}

// end is the work of Stop. It reports false where something may still live.
func (p *process) end(grace time.Duration) bool {
	_ = windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(p.Pid())) // fails without a console
	if !p.emptyWithin(grace) {
		_ = windows.TerminateJobObject(p.group.job, 1)
		if !p.emptyWithin(killGrace) {
			return false
		}
	}
	windows.CloseHandle(p.group.job)
	p.group.job = 0
	return true
}

// emptyWithin waits until no process of the job lives, for d at most.
func (p *process) emptyWithin(d time.Duration) bool {
	wait := 5 * time.Millisecond
	for deadline := time.Now().Add(d); ; {
		var jobs jobAccounting
		err := windows.QueryInformationJobObject(p.group.job, windows.JobObjectBasicAccountingInformation, uintptr(unsafe.Pointer(&jobs)), uint32(unsafe.Sizeof(jobs)), nil)
		if err == nil && jobs.active == 0 {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		time.Sleep(min(wait, left))
		wait = min(2*wait, 100*time.Millisecond)
	}
}
