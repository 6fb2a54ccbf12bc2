// Package needs is for tests that want something which Go does not bring: a program, or leave to use it.
//
// Where it is missing the test is skipped, and says so in a place where it is seen: go test shows nothing of a skipped test, so the
// reason also goes to the file that HUBHOOK_TEST_SKIPPED names, which `make test` prints at its end. Where HUBHOOK_TEST_REQUIRE
// names it (several names are separated by commas), the test fails instead; CI requires everything.
package needs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Program returns the path of the program called name, looked up on PATH. Without it the test ends: skipped, or failed where
// HUBHOOK_TEST_REQUIRE has name.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		Missing(tb, name, name+" is not on PATH; install it to run this test")
	case err != nil:
		Missing(tb, name, fmt.Sprintf("look for %s: %v", name, err))
	}
	return path
}

// Missing ends the test because something it needs is not to be had, with the reason why: skipped, or failed where
// HUBHOOK_TEST_REQUIRE has name. It is for what Program cannot know, such as a program that is there and refuses to work.
func Missing(tb testing.TB, name, why string) {
	tb.Helper()
	if slices.Contains(strings.Split(os.Getenv("HUBHOOK_TEST_REQUIRE"), ","), name) {
		tb.Fatalf("HUBHOOK_TEST_REQUIRE has %s: %s", name, why)
	}
	if file := os.Getenv("HUBHOOK_TEST_SKIPPED"); file != "" {
		if err := appendLine(file, fmt.Sprintf("  %s: %s: %s", testedPackage(), tb.Name(), why)); err != nil {
			tb.Fatalf("note that this test is skipped (%s): %v", why, err)
		}
	}
	tb.Skip(why)
}

// testedPackage returns the name that go test gave the test binary: the last element of the package's path.
func testedPackage() string {
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"), ".test")
}

// appendLine adds line to file in one write, since tests of several packages do so at once.
func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}
