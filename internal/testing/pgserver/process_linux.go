package pgserver

import "syscall"

// endWithParent shuts the server down when the test process dies, so that no server is left behind.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
