package datadir

import "golang.org/x/sys/windows"

// free returns how many bytes this user can still write on the disk of dir, -1 where that is not known.
func free(dir string) int64 {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return -1
	}
	var available uint64
	if err := windows.GetDiskFreeSpaceEx(path, &available, nil, nil); err != nil {
		return -1
	}
	return int64(available)
}
