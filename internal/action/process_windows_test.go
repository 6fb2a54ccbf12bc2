package action

import (
	"syscall"
	"testing"

	"golang.org/x/sys/windows"
)

// ownSession leaves the group; the job can't be left.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

func needsMark(*testing.T) {}

// lives reports whether a process has that pid.
func lives(t *testing.T, pid int) bool {
	handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(handle)
	var status uint32
	const stillActive = 259
	return windows.GetExitCodeProcess(handle, &status) == nil && status == stillActive
}
