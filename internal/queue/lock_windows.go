package queue

import (
	"errors"
	"syscall"
)

const errDiskFull = syscall.Errno(112)

func isNotDir(err error) bool   { return errors.Is(err, syscall.ENOTDIR) }
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
func isNoSpace(err error) bool  { return errors.Is(err, errDiskFull) }

// syncDir does nothing: Windows has no such call, NTFS journals its directories.
func syncDir(string) error { return nil }

// writePID does nothing: a locked file can be read and written through the locking handle alone.
func writePID(string) error { return nil }
