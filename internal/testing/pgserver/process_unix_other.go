//go:build unix && !linux

package pgserver

import "syscall"

// endWithParent can't do here what it does on Linux.
func endWithParent(*syscall.SysProcAttr) {}
