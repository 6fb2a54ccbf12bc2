package cli

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hubhook/hubhook/internal/text"
)

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--help"}, {"completion", "fish"}, {"trigger", "repo", "--print"}} {
		var stderr strings.Builder
		status := Main(context.Background(), Process{
			Args: args, Stdout: brokenWriter{}, Stderr: &stderr,
			LookupEnv: func(string) (string, bool) { return "", false },
		})
		if status != exitFailed || !strings.Contains(stderr.String(), "disk full") {
			t.Errorf("%v: have status %d and %q, want %d and why", args, status, stderr.String(), exitFailed)
		}
	}
}

// allCommands returns root and every command below it.
func allCommands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		all = append(all, allCommands(c)...)
	}
	return all
}

func TestHelpSaysWhatEachCommandAndFlagIsFor(t *testing.T) {
	p := &program{Process: Process{LookupEnv: func(string) (string, bool) { return "", false }}, out: &checkedWriter{w: &strings.Builder{}}}
	root := newRoot(p)
	commands := allCommands(root)
	if len(commands) < 9 {
		t.Fatalf("have %d commands, want 9 or more", len(commands))
	}
	for _, c := range commands {
		help := helpText(c)
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help is %q, want words without a full stop", c.CommandPath(), c.Short)
		}
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
			t.Errorf("%s: Tab offers files", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: no help", c.CommandPath(), f.Name)
			}
			if name, _ := pflag.UnquoteUsage(f); f.NoOptDefVal == "" && name != strings.ToUpper(name) {
				t.Errorf("%s --%s: its value is called %q, want a name in capitals", c.CommandPath(), f.Name, name)
			}
		})
		if lines := strings.Count(help, "\n"); c == root && lines > 40 {
			t.Errorf("hubhook --help has %d lines, more than a screen", lines)
		}
		for line := range strings.Lines(help) {
			if len(strings.TrimSuffix(line, "\n")) > helpWidth {
				t.Errorf("%s --help: longer than %d characters: %q", c.CommandPath(), helpWidth, line)
			}
		}
	}
}

func TestLayOut(t *testing.T) {
	rows := [][]cell{
		{{"ID", nil}, {"REPO", nil}, {"NOTE", nil}},
		{{"1", strings.ToUpper}, {"über/alles", nil}, {"", nil}},
		{{"22", nil}, {"a/b", strings.ToUpper}, {"a long reason", nil}},
	}
	const whole = "ID  REPO        NOTE\n1   über/alles\n22  A/B         a long reason\n"
	if have := layOut(rows, 0); have != whole {
		t.Errorf("have\n%s\nwant\n%s", have, whole)
	}
	const cut = "ID  REPO        NOTE\n1   über/alles\n22  A/B         a lo…\n"
	if have := layOut(rows, 21); have != cut {
		t.Errorf("at 21 characters have\n%s\nwant\n%s", have, cut)
	}
	for width := 1; width < 40; width++ {
		for line := range strings.Lines(layOut(rows, width)) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width {
				t.Errorf("at %d characters a line has %d: %q", width, n, line)
			}
		}
	}
}

// What a delivery says of itself is shown to a terminal; it must not be able to command it.
func TestForeignTextIsPrintable(t *testing.T) {
	const hostile = "\x1b]0;owned\a\u202egnp.exe\u009b31m"
	for what, have := range map[string]string{
		"lines": text.PrintableLines("one\n\ttwo" + hostile),
		"JSON":  prettyJSON([]byte(`{"a": "` + "\u009b31m\u202e" + `"}`)),
		"other": prettyJSON([]byte(hostile)),
	} {
		for _, bad := range []string{"\x1b", "\a", "\u202e", "\u009b"} {
			if strings.Contains(have, bad) {
				t.Errorf("%s: %q is still in %q", what, bad, have)
			}
		}
	}
	if have, want := text.PrintableLines("one\r\n\ttwo"), "one\n    two"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
	if have := text.Printable("me/data", 3); have != "me/…" {
		t.Errorf("cut to 3 characters have %q", have)
	}
}
