//go:build unix && !linux

package action

import "syscall"

// endWithParent can't do here what it does on Linux.
func endWithParent(*syscall.SysProcAttr) {}

func processTable() ([]row, error) { return listWithPs() }

// hasMark can't tell: other systems show no process's environment to programs like this one.
func hasMark(int, string) bool { return false }
