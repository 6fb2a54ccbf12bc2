package main

import (
	"os"
	"syscall"
)

// dataSync is the sync that SQLite and PostgreSQL use for their logs on Linux.
func dataSync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
