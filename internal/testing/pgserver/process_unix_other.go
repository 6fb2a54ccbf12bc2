//go:build unix && !linux

package pgserver

import "syscall"

// endWithParent does nothing: only Linux has the signal at a parent's death.
func endWithParent(*syscall.SysProcAttr) {}
