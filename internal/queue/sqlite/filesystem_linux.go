package sqlite

import (
	"fmt"
	"syscall"

	"github.com/hubhook/hubhook/internal/text"
)

// remoteFileSystems are file systems whose locks, syncs or shared memory may not be as reliable as SQLite needs them. The keys are the
// types that statfs returns.
var remoteFileSystems = map[uint32]string{
	0x00006969: "NFS",
	0x0000517b: "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB",
	0x01021997: "9p",
	0x65735546: "FUSE",
	0x5346414f: "AFS",
	0x00c36400: "Ceph",
	0x0bd00bd0: "Lustre",
	0x47504653: "GPFS",
}

// remoteWarning returns a warning if dir may be on a file system of another machine, nil otherwise.
func remoteWarning(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return nil // the first use of dir meets the same error
	}
	return warnOfFileSystem(dir, uint32(fs.Type))
}

func warnOfFileSystem(dir string, number uint32) error {
	name := remoteFileSystems[number]
	if name == "" {
		return nil
	}
	return text.WithHint(
		fmt.Errorf("data directory %s is on %s, where a database can be damaged: locks and syncs may not reach the disk, or other machines", dir, name),
		"name a data directory on a disk of this machine; for several machines, or without a lasting disk, use --database",
	)
}
