// Package env says what the environment means to hubhook, to the library and the commands alike: which variables stand for flags, and where
// programs keep what they store.
package env

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

// State returns the directory that holds all that hubhook's programs keep: $XDG_STATE_HOME/hubhook, or ~/.local/state/hubhook
// (%LocalAppData%\hubhook on Windows).
func State(getenv func(string) (string, bool)) (string, error) {
	state, _ := getenv(StateHome)
	if filepath.IsAbs(state) { // the XDG specification says to ignore a relative one
		return filepath.Join(state, "hubhook"), nil
	}
	home, _ := getenv(Home)
	local, _ := getenv(LocalAppData)
	switch {
	case runtime.GOOS == "windows" && local != "":
		return filepath.Join(local, "hubhook"), nil
	case home != "":
		return filepath.Join(home, ".local", "state", "hubhook"), nil
	}
	return "", errors.New("neither XDG_STATE_HOME nor HOME is set")
}

// Workspace returns the directory that holds the default data directories of all programs that run in this working directory, one for each
// program's name. It is below [State].
func Workspace(getenv func(string) (string, bool)) (string, error) {
	const act = "find a place for the data directory"
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("%s: %w", act, err)
	}
	state, err := State(getenv)
	if err != nil {
		return "", fmt.Errorf("%s: %w", act, err)
	}
	sum := sha256.Sum256([]byte(dir))
	name := filepath.Base(dir)
	if name == string(filepath.Separator) {
		name = "root"
	}
	return filepath.Join(state, name+"-"+hex.EncodeToString(sum[:4])), nil
}
