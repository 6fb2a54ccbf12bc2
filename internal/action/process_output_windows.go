package action

import "io"

// copy writes all that is printed, until no process holds the pipe open or a write fails.
func (o *output) copy() {
	defer o.read.Close()
	_, _ = io.Copy(o.to, o.read) // the end of the pipe, or that of its reader
}

// readNow does nothing: a pipe of Windows can't be looked at while a read of it waits.
func (o *output) readNow() {}
