//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package ui

import (
	"context"
	"os"
)

func canReadKeys(*os.File) bool { return false }

func readKeys(context.Context, *os.File, bool, func(rune)) error { return nil }
