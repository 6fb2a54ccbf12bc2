//go:build unix

package datadir

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

func isNotDir(err error) bool   { return errors.Is(err, syscall.ENOTDIR) }
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Sync makes a new entry of dir survive a power cut.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writePID(path string) error {
	return os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
}
