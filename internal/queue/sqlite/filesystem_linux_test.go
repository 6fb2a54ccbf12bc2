package sqlite

import (
	"errors"
	"strings"
	"testing"
)

func TestRemoteFileSystems(t *testing.T) {
	for number, name := range map[uint32]string{0x6969: "NFS", 0xff534d42: "CIFS", 0x65735546: "FUSE"} {
		err := warnOfFileSystem("/data", number)
		if err == nil || !strings.Contains(withHint(err), "/data is on "+name) || !strings.Contains(withHint(err), "--database") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, number := range []uint32{0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630} { // ext4, xfs, btrfs, tmpfs, overlay
		if err := warnOfFileSystem("/data", number); err != nil {
			t.Errorf("%x: %v", number, err)
		}
	}
	if err := remoteWarning("/proc"); err != nil {
		t.Errorf("/proc: %v", err)
	}
}

// withHint returns an error's text with its hint, as people see it.
func withHint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return err.Error() + "\n  hint: " + h.Hint()
	}
	return err.Error()
}
