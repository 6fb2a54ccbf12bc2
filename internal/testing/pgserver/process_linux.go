package pgserver

import "syscall"

// endWithParent has the server shut down where the tests are killed, so that none is left behind.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
