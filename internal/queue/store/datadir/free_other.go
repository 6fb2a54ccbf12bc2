//go:build !linux && !darwin && !freebsd && !windows

package datadir

// free returns -1: it is not known how many bytes can still be written.
func free(string) int64 { return -1 }
