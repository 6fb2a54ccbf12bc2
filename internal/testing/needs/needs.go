// Package needs is for tests that need more than Go: a program, or the permission to use it.
//
// If the need is missing, the test is skipped. go test does not show skipped tests, so the reason also goes to the file that
// HUBHOOK_TEST_SKIPPED names, and `make test` prints that file at its end. If HUBHOOK_TEST_REQUIRE has the need's name (names are
// separated by commas), the test fails instead; CI requires everything.
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

// Program looks up the program called name on PATH, and returns its path. Without the program the test ends: it fails if
// HUBHOOK_TEST_REQUIRE has name, else it is skipped.
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

// Missing ends the test because a need is missing, with the reason why: the test fails if HUBHOOK_TEST_REQUIRE has name, else it is
// skipped. It is for needs that Program can't check, such as a program that is there and does not work.
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

// appendLine appends line to file in one write, because tests of several packages append at once.
func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}
