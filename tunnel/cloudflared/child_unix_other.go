//go:build unix && !linux

package cloudflared

import "syscall"

// endWithParent does nothing: only Linux can kill a program once its parent is dead.
func endWithParent(*syscall.SysProcAttr) {}
