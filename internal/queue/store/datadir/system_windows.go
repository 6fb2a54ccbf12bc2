package datadir

import (
	"errors"
	"syscall"
)

const errDiskFull = syscall.Errno(112)

func isNotDir(err error) bool   { return errors.Is(err, syscall.ENOTDIR) }
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
func IsFull(err error) bool     { return errors.Is(err, errDiskFull) }

// Sync does nothing: Windows has no such call, NTFS journals its directories.
func Sync(string) error { return nil }

// writePID does nothing: a locked file can be read and written through the locking handle alone.
func writePID(string) error { return nil }
