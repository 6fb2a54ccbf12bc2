//go:build linux || darwin || freebsd

package datadir

import "golang.org/x/sys/unix"

// free returns how many bytes this user can still write on the disk of dir, -1 where that is not known.
func free(dir string) int64 {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return -1
	}
	return int64(uint64(disk.Bavail) * uint64(disk.Bsize))
}
