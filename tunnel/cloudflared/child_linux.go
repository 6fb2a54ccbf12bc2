package cloudflared

import "syscall"

// endWithParent makes the kernel kill the program once this process is dead. A signal that asks it to end is not enough: the program may
// ignore that, and nobody is left to kill it.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
