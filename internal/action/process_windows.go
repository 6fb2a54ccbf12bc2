package action

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/hubhook/hubhook/internal/jobobject"
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

func (p *process) start() (err error) {
	p.group.job, err = jobobject.Start(p.cmd)
	return err
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
