//go:build !linux

package main

import "os"

// dataSync is Go's own sync, which reaches the disk on macOS too.
func dataSync(f *os.File) error { return f.Sync() }
