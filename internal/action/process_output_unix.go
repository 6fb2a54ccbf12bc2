//go:build unix

package action

import (
	"errors"
	"syscall"
)

// outputPart is how much is read at a time, in bytes.
const outputPart = 32 << 10

// copy writes all that is printed, until no process holds the pipe open, a write fails or endWithin says so.
func (o *output) copy() {
	defer o.read.Close()
	pipe, err := o.read.SyscallConn()
	if err != nil {
		return // it is closed
	}
	buffer := make([]byte, outputPart)
	for more := true; more && err == nil; {
		err = pipe.Read(func(fd uintptr) (done bool) {
			empty := false
			more, empty = o.part(fd, buffer)
			return !empty
		})
	}
}

// readNow writes what is in the pipe. It may leave what is printed meanwhile, so that a process that prints without end does not block it.
func (o *output) readNow() {
	pipe, err := o.read.SyscallConn()
	if err != nil {
		return // it is closed, so all was written
	}
	buffer := make([]byte, outputPart)
	for range mostInPipe / outputPart {
		empty, more := true, false
		err = pipe.Control(func(fd uintptr) { more, empty = o.part(fd, buffer) })
		if err != nil || empty || !more {
			return
		}
	}
}

// mostInPipe is more than a pipe holds unless its program has made it larger: 64 KiB on Linux.
const mostInPipe = 256 << 10

// part reads once and writes what it got. empty says that the pipe has nothing at the moment, more that something may come later.
func (o *output) part(fd uintptr, buffer []byte) (more, empty bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		n, err := syscall.Read(int(fd), buffer)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return true, true
		case err != nil || n <= 0:
			return false, false
		}
		_, err = o.to.Write(buffer[:n])
		return err == nil, false
	}
}
