//go:build unix

package server

import "syscall"

// openFiles returns how many files this process may have open. Each connection is one. Go has raised the limit as far as it may.
func openFiles() (int, bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(min(uint64(limit.Cur), 1<<30)), err == nil
}
