package needs

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// ending records how the code under test ends a test, and ends the goroutine as testing.T would.
type ending struct {
	testing.TB
	skipped, failed string
}

func (e *ending) Helper()      {}
func (e *ending) Name() string { return "TestPretend" }

func (e *ending) Skip(args ...any) {
	e.skipped = args[0].(string)
	runtime.Goexit()
}

func (e *ending) Fatalf(format string, args ...any) {
	e.failed = format
	runtime.Goexit()
}

// run calls f as a test would, and returns how that ended.
func run(f func(testing.TB)) *ending {
	e := &ending{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(e)
	}()
	<-ended
	return e
}

func TestProgramFound(t *testing.T) {
	dir := t.TempDir()
	name := "present"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	want := filepath.Join(dir, name)
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("HUBHOOK_TEST_REQUIRE", "present")

	var got string
	e := run(func(tb testing.TB) { got = Program(tb, "present") })
	if got != want || e.skipped != "" || e.failed != "" {
		t.Errorf("Program = %q, skipped %q, failed %q; want %q and a test that goes on", got, e.skipped, e.failed, want)
	}
}

func TestProgramMissingSkipsAndIsNoted(t *testing.T) {
	noted := filepath.Join(t.TempDir(), "skipped")
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HUBHOOK_TEST_REQUIRE", "another,absentee")
	t.Setenv("HUBHOOK_TEST_SKIPPED", noted)

	for range 2 {
		e := run(func(tb testing.TB) { Program(tb, "absent") })
		if !strings.Contains(e.skipped, "absent is not on PATH") || e.failed != "" {
			t.Errorf("skipped %q, failed %q; want a skip that names the program", e.skipped, e.failed)
		}
	}
	got, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	line := "  needs: TestPretend: absent is not on PATH; install it to run this test\n"
	if want := line + line; string(got) != want {
		t.Errorf("noted %q, want %q", got, want)
	}
}

func TestProgramMissingFailsWhereRequired(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HUBHOOK_TEST_REQUIRE", "another,absent")
	e := run(func(tb testing.TB) { Program(tb, "absent") })
	if e.failed == "" || e.skipped != "" {
		t.Errorf("skipped %q, failed %q; want a failure", e.skipped, e.failed)
	}
}

func TestSkipThatCannotBeNotedFails(t *testing.T) {
	t.Setenv("HUBHOOK_TEST_REQUIRE", "")
	t.Setenv("HUBHOOK_TEST_SKIPPED", filepath.Join(t.TempDir(), "no", "such", "directory"))
	e := run(func(tb testing.TB) { Missing(tb, "strace", "tracing is forbidden here") })
	if e.failed == "" || e.skipped != "" {
		t.Errorf("skipped %q, failed %q; want a failure", e.skipped, e.failed)
	}
}
