//go:build unix

package inspector

import (
	"io/fs"
	"os"
	"syscall"
)

// ownersAlone reports whether nobody but this process's user can read or change the file.
func ownersAlone(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode().Perm()&0o077 == 0
}
