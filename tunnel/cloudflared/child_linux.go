package cloudflared

import "syscall"

// endWithParent has the program killed where this process is. Asking it would not do: nobody could kill one that does not listen.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
