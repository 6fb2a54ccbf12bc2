// Package env says what the environment means to hubhook, to the library and the commands alike: which variables stand for flags, and where
// programs keep what they store.
package env

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Variable returns the name of the variable that stands for a flag: HUBHOOK_REPLY_WITHIN for reply-within.
func Variable(flag string) string {
	return "HUBHOOK_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Dev is the variable that tells a program that `hubhook dev` runs it.
const Dev = "HUBHOOK_DEV"

// Workspace returns the directory that holds the default data directories of all programs that run in this working directory, one for each
// program's name. It is under $XDG_STATE_HOME/hubhook, or ~/.local/state/hubhook (%LocalAppData%\hubhook on Windows).
func Workspace(getenv func(string) (string, bool)) (string, error) {
	const act = "find a place for the data directory"
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("%s: %w", act, err)
	}
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
			return "", fmt.Errorf("%s: neither XDG_STATE_HOME nor HOME is set", act)
		}
	}
	sum := sha256.Sum256([]byte(dir))
	name := filepath.Base(dir)
	if name == string(filepath.Separator) {
		name = "root"
	}
	return filepath.Join(state, "hubhook", name+"-"+hex.EncodeToString(sum[:4])), nil
}
