package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hubhook/hubhook/internal/text"
)

// WorkspaceDirectory returns the directory that holds the default data directories of all programs run in the working directory dir, one
// for each program's name. It is under $XDG_STATE_HOME/hubhook, or ~/.local/state/hubhook (%LocalAppData%\hubhook on Windows).
func WorkspaceDirectory(getenv func(string) (string, bool), dir string) (string, error) {
	state, _ := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the XDG specification says to ignore a relative one
		home, _ := getenv("HOME")
		local, _ := getenv("LocalAppData")
		switch {
		case runtime.GOOS == "windows" && local != "":
			state = local
		case home != "":
			state = filepath.Join(home, ".local", "state")
		default:
			return "", text.WithHint(fmt.Errorf("find a place for the data directory: neither XDG_STATE_HOME nor HOME is set"), "name one with --data DIR")
		}
	}
	sum := sha256.Sum256([]byte(dir))
	name := filepath.Base(dir)
	if name == string(filepath.Separator) {
		name = "root"
	}
	return filepath.Join(state, "hubhook", name+"-"+hex.EncodeToString(sum[:4])), nil
}

// defaultDataDirectory is that of this program in this working directory. Only the program's name counts, not its path, which changes
// with each `go run`.
func defaultDataDirectory(getenv func(string) (string, bool)) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", text.WithHint(fmt.Errorf("find a place for the data directory: %w", err), "name one with --data DIR")
	}
	workspace, err := WorkspaceDirectory(getenv, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(workspace, strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")), nil
}
