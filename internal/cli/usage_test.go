package cli

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command and every flag of the real tree, used wrongly: the status is 2, the error names what is wrong, and there is one hint.
func TestWrongUsageOfEveryCommandAndFlag(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what starts all the same ends at once
	p := &program{Process: Process{LookupEnv: func(string) (string, bool) { return "", false }}, out: &checkedWriter{w: &strings.Builder{}}}
	tried := 0
	wrong := func(want string, args ...string) {
		t.Helper()
		tried++
		var stdout, stderr strings.Builder
		status := Main(ctx, Process{Args: args, Stdout: &stdout, Stderr: &stderr, LookupEnv: func(string) (string, bool) { return "", false }})
		said, hint, _ := strings.Cut(stderr.String(), "\n")
		if status != exitUsage || !strings.HasPrefix(said, "hubhook: ") || !strings.Contains(said, want) {
			t.Errorf("hubhook %s: status %d, %q; want %d and %q named", strings.Join(args, " "), status, stderr.String(), exitUsage, want)
		}
		if !strings.HasPrefix(hint, "  hint: ") || strings.Count(hint, "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("hubhook %s: want one hint and nothing else, have %q and %q", strings.Join(args, " "), stderr.String(), stdout.String())
		}
	}
	for _, c := range allCommands(newRoot(p)) {
		path := strings.Fields(c.CommandPath())[1:]
		with := func(more ...string) []string { return append(append([]string{}, path...), more...) }
		wrong("--no-such-flag", with("--no-such-flag")...)
		wrong("-Z", with("-Z")...)
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			flag := "--" + f.Name
			if f.NoOptDefVal != "" { // it may stand alone
				wrong(flag, with(flag+"=maybe")...)
				return
			}
			wrong(flag, with(flag)...)                              // nothing after it
			if bad, ok := badValue(f); ok && c.Name() != "doctor" { // which has settings that are wrong among its findings
				args := with(flag, bad)
				if strings.Contains(c.Use, "COMMAND") {
					args = append(args, "--", "true")
				}
				wrong(f.Name, args...)
			}
		})
		if takesAny(c) {
			continue
		}
		wrong(c.Name()+": ", with(strings.Split(strings.Repeat("one-too-many ", 9), " ")[:9]...)...)
	}
	if tried < 150 {
		t.Errorf("only %d were tried: the tree is not walked", tried)
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("wrong usage left %v, %v", made, err)
	}
}

// takesAny reports whether a command has no bound of its arguments, or is there for its subcommands.
func takesAny(c *cobra.Command) bool {
	return strings.Contains(c.Use, "...") || strings.Contains(c.Use, "COMMAND") || c.HasSubCommands()
}

// badValue returns a value that the flag's type does not have. Any text is good for text, unless the flag is checked further.
func badValue(f *pflag.Flag) (string, bool) {
	switch kind := f.Value.Type(); {
	case strings.Contains(kind, "nt"), kind == "duration", strings.HasPrefix(kind, "float"):
		return "x1", true
	}
	switch f.Name {
	case "port", "keep", "keep-count", "max-waiting", "reply-within", "answer", "tunnel", "exit-on-down":
		return "x1", true
	}
	return "", false
}
