package main_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"github.com/hubhook/hubhook/internal/cli"
)

var (
	shellBlock = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")
	unit       = regexp.MustCompile(`(?m)^ExecStart=(.*)$`)
	inline     = regexp.MustCompile("`(hubhook(?: [^`]*)?)`")
	// hole is what stands in a document for something that the reader knows.
	hole = regexp.MustCompile(`^(\[.*\]|\.\.\.|[A-Z][A-Z:=.]*(\|[A-Z.]+)*|list\|.*)$`)
)

// starters are programs that start another one.
var starters = []string{"sudo", "docker", "kubectl", "timeout", "uvx", "env"}

// TestHubhookCommands parses each call of hubhook in the documents, in code blocks for shells and inside sentences, as hubhook itself would.
func TestHubhookCommands(t *testing.T) {
	checked := 0
	check := func(where, script string, whole bool) {
		calls, err := hubhookCalls(script)
		if err != nil {
			t.Errorf("%s: %v:\n%s", where, err, script)
		}
		for _, args := range calls {
			checked++
			if err := parse(args, whole); err != nil {
				t.Errorf("%s: hubhook %s: %v", where, strings.Join(args, " "), err)
			}
		}
	}
	for file, text := range documents(t) {
		for _, m := range shellBlock.FindAllStringSubmatch(text, -1) {
			switch m[1] {
			case "sh":
				check(file, m[2], true)
			case "ini":
				for _, start := range unit.FindAllStringSubmatch(m[2], -1) {
					check(file, start[1], true)
				}
			case "", "console":
				for line := range strings.Lines(m[2]) {
					if command, ok := strings.CutPrefix(line, "$ "); ok {
						check(file, command, true)
					}
				}
			}
		}
		if file == "CHANGELOG.md" {
			continue // it tells of what was
		}
		for _, m := range inline.FindAllStringSubmatch(prose(text), -1) {
			if err := parse(words(m[1])[1:], false); err != nil {
				t.Errorf("%s: `%s`: %v", file, m[1], err)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("%d calls of hubhook were found, want all of them", checked)
	}
}

// words splits what stands in a sentence, in which brackets and dots are no shell's.
func words(span string) []string {
	var list []string
	for _, w := range strings.Fields(span) {
		list = append(list, strings.Trim(w, `'"`))
	}
	return list
}

// hubhookCalls returns the arguments of each call of hubhook in a shell script, those through sudo and the like too.
func hubhookCalls(script string) (calls [][]string, err error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, err
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		call, ok := node.(*syntax.CallExpr)
		if !ok {
			return true
		}
		var args []string
		for _, w := range call.Args {
			args = append(args, plain(w))
		}
		for i, arg := range args {
			if path.Base(arg) == "hubhook" {
				calls = append(calls, args[i+1:])
			}
			if path.Base(arg) == "hubhook" || !slices.Contains(starters, args[0]) {
				break
			}
		}
		return true
	})
	return calls, nil
}

// plain returns a word without its quotes; what a shell would put in is left as it is written.
func plain(w *syntax.Word) string {
	var b strings.Builder
	var add func(parts []syntax.WordPart)
	add = func(parts []syntax.WordPart) {
		for _, part := range parts {
			switch part := part.(type) {
			case *syntax.Lit:
				b.WriteString(part.Value)
			case *syntax.SglQuoted:
				b.WriteString(part.Value)
			case *syntax.DblQuoted:
				add(part.Parts)
			default:
				b.WriteString("X")
			}
		}
	}
	add(w.Parts)
	return b.String()
}

// parse parses the arguments of hubhook. whole says that nothing was left out, so the command checks its own arguments too.
func parse(args []string, whole bool) error {
	cmd, rest, err := cli.Commands().Find(args)
	if err != nil {
		return err
	}
	var given []string
	for i, arg := range rest {
		if arg == "--" {
			given = append(given, rest[i:]...)
			break
		}
		if !whole && (hole.MatchString(arg) || strings.HasPrefix(arg, "[")) {
			continue
		}
		if name, ok := strings.CutPrefix(arg, "--"); ok && !whole {
			// A sentence names a flag without its value.
			name, _, _ = strings.Cut(strings.TrimRight(name, "]"), "=")
			if cmd.Flags().Lookup(name) == nil && name != "help" {
				return fmt.Errorf("%s has no flag --%s", cmd.CommandPath(), name)
			}
			continue
		}
		given = append(given, arg)
	}
	if !whole {
		if cmd.HasSubCommands() && cmd.HasParent() && len(given) > 0 {
			return cmd.ValidateArgs(given)
		}
		return nil
	}
	if err := cmd.ParseFlags(given); err != nil {
		return err
	}
	if asked, _ := cmd.Flags().GetBool("help"); asked {
		return nil
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
