package main_test

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/cli"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/server"
)

// documents returns the text of every Markdown file for users, by its path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	read := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(text)
	}
	read("README.md")
	read("CHANGELOG.md")
	read("CONTRIBUTING.md")
	read("SECURITY.md")
	err := filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			read(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")
	codeSpan  = regexp.MustCompile("`[^`]*`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	picture   = regexp.MustCompile(`(?:src|srcset)="([^"]+)"`)
	heading   = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
)

// prose is a document without its code blocks.
func prose(text string) string { return codeBlock.ReplaceAllString(text, "") }

// anchors returns the names under which a document's headings can be linked to.
func anchors(text string) []string {
	var names []string
	for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return names
}

// TestLinks checks that each link within the repository leads to a file, and to a heading where it names one.
func TestLinks(t *testing.T) {
	texts := documents(t)
	checked := 0
	for path, text := range texts {
		written := codeSpan.ReplaceAllString(prose(text), "")
		for _, m := range slices.Concat(link.FindAllStringSubmatch(written, -1), picture.FindAllStringSubmatch(written, -1)) {
			if strings.Contains(m[1], "://") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s links to %s: %s has no such heading", path, m[1], target)
			}
		}
	}
	if checked == 0 {
		t.Error("no link was found")
	}
}

// longest is how many lines a page of docs/ may have: nobody reads on.
const longest = 300

// TestLength checks that pages are short enough to be read.
func TestLength(t *testing.T) {
	for path, text := range documents(t) {
		if lines := strings.Count(text, "\n"); strings.HasPrefix(path, "docs/") && lines > longest {
			t.Errorf("%s has %d lines, and may have %d: split it, or leave something out", path, lines, longest)
		}
	}
}

// TestPath checks that every page can be reached by links from README.md, so that no page is lost.
func TestPath(t *testing.T) {
	texts := documents(t)
	reached := map[string]bool{}
	var follow func(path string)
	follow = func(path string) {
		if texts[path] == "" || reached[path] {
			return
		}
		reached[path] = true
		for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(prose(texts[path]), ""), -1) {
			file, _, _ := strings.Cut(m[1], "#")
			follow(filepath.Join(filepath.Dir(path), filepath.FromSlash(file)))
		}
	}
	follow("README.md")
	for path := range texts {
		if !reached[path] {
			t.Errorf("no link leads from README.md to %s", path)
		}
	}
}

// TestPagesLeadOn checks that each page of the guide begins with a sentence that says what it is for, and ends with a link to a page to read next.
func TestPagesLeadOn(t *testing.T) {
	checked := 0
	for path, text := range documents(t) {
		if dir := filepath.ToSlash(filepath.Dir(path)); dir != "docs" && dir != "docs/fr" {
			continue
		}
		checked++
		paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
		if !strings.HasPrefix(paragraphs[0], "# ") || len(paragraphs) < 3 || notProse.MatchString(paragraphs[1]) {
			t.Errorf("%s: the title is not followed by a sentence", path)
		}
		if last := paragraphs[len(paragraphs)-1]; !link.MatchString(last) {
			t.Errorf("%s ends without a link to the next page: %s", path, last)
		}
	}
	if checked == 0 {
		t.Error("no page was found")
	}
}

var (
	notProse   = regexp.MustCompile("^(#|```|\\||- |!\\[|<)")
	linkedTest = regexp.MustCompile(`\[(Test\w+)\]\(([^)#]+)\)`)
	used       = regexp.MustCompile(`(?m)^[ -]*uses: *(\S+)`)
	pinned     = regexp.MustCompile(`^[\w-]+/[\w/-]+@[0-9a-f]{40}$`)
)

// TestLinkedTests checks that each test that a document names is in the file that the link leads to.
func TestLinkedTests(t *testing.T) {
	checked := 0
	for path, text := range documents(t) {
		for _, m := range linkedTest.FindAllStringSubmatch(text, -1) {
			checked++
			source, err := os.ReadFile(filepath.Join(filepath.Dir(path), filepath.FromSlash(m[2])))
			if err != nil || !strings.Contains(string(source), "\nfunc "+m[1]+"(") {
				t.Errorf("%s: %s is not in %s (%v)", path, m[1], m[2], err)
			}
		}
	}
	if checked == 0 {
		t.Error("no test is named")
	}
}

// TestWorkflows checks that workflows run others' actions by commit, since a tag can be moved, and with no more rights than they name.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflow was found (%v)", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\npermissions:\n  contents: read\n") {
			t.Errorf("%s does not begin with the right to read alone", file)
		}
		for _, m := range used.FindAllStringSubmatch(string(text), -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s uses %s, want a commit of 40 hexadecimal digits after the @", file, m[1])
			}
		}
	}
}

// TestMerged checks that no text was committed with both sides of a conflict in it.
func TestMerged(t *testing.T) {
	for path, text := range documents(t) {
		for _, marker := range []string{"<<<<<<< ", "\n=======\n", ">>>>>>> "} {
			if strings.Contains(text, marker) {
				t.Errorf("%s holds %q of a merge", path, marker)
			}
		}
	}
}

// TestReadmeExample checks that the program in README.md is the one that the examples' tests run.
func TestReadmeExample(t *testing.T) {
	program, err := os.ReadFile("docs/examples/readme/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if blocks := goBlocks(documents(t)["README.md"]); len(blocks) != 1 || blocks[0] != string(program) {
		t.Errorf("README.md has the Go blocks %q, want one that is docs/examples/readme/main.go", blocks)
	}
}

// TestExcerpts checks that all Go code in the documents stands in an example, and so is compiled.
func TestExcerpts(t *testing.T) {
	var programs []string
	files, err := filepath.Glob("docs/examples/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "hub/hubtest/example_test.go")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, string(text))
	}
	checked := 0
	for path, text := range documents(t) {
		for _, block := range goBlocks(text) {
			checked++
			if !slices.ContainsFunc(programs, func(program string) bool { return strings.Contains(program, block) }) {
				t.Errorf("%s has Go code that stands in no example:\n%s", path, block)
			}
		}
	}
	if checked == 0 {
		t.Error("no Go code was found")
	}
}

func goBlocks(text string) []string { return blocksIn("go", text) }

func blocksIn(language, text string) []string {
	var blocks []string
	for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// checkedElsewhere are pages and languages whose code stands in no example.
var checkedElsewhere = []string{
	"docs/actions.md yaml",    // TestConfigurations reads it
	"docs/testing.md python",  // TestTranscripts runs it
	"docs/production.md yaml", // TestPrometheusReadsAllExpressions of package server gives it to promtool
	"docs/tunnels.md yaml",    // cloudflared's, which no test has
}

// TestExcerptsInOtherLanguages checks that the rest of the code in the documents stands in an example, too.
func TestExcerptsInOtherLanguages(t *testing.T) {
	var programs []string
	files, err := filepath.Glob("docs/examples/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, string(text))
	}
	checked := 0
	for path, text := range documents(t) {
		for _, language := range []string{"python", "yaml", "dockerfile"} {
			if slices.Contains(checkedElsewhere, path+" "+language) {
				continue
			}
			for _, block := range blocksIn(language, text) {
				checked++
				if !slices.ContainsFunc(programs, func(program string) bool { return strings.Contains(program, block) }) {
					t.Errorf("%s has %s code that stands in no example:\n%s", path, language, block)
				}
			}
		}
	}
	if checked == 0 {
		t.Error("no code was found")
	}
}

// TestTranslatedTranscripts checks that each transcript in a translated guide stands in an English one. Those are run.
func TestTranslatedTranscripts(t *testing.T) {
	texts := documents(t)
	var run []string
	for path, text := range texts {
		if !strings.HasPrefix(path, "docs/fr/") {
			run = append(run, blocksIn("", text)...)
		}
	}
	checked := 0
	for path, text := range texts {
		for _, block := range blocksIn("", text) {
			if strings.HasPrefix(path, "docs/fr/") && strings.HasPrefix(block, "$ ") {
				checked++
				if !slices.Contains(run, block) {
					t.Errorf("%s has a transcript that stands in no English guide:\n%s", path, block)
				}
			}
		}
	}
	if checked == 0 {
		t.Error("no transcript was found")
	}
}

// commands returns the full names of all commands that do something.
func commands() []string {
	var names []string
	var add func(*cobra.Command)
	add = func(cmd *cobra.Command) {
		if cmd.HasParent() && cmd.Name() != "help" && !cmd.HasSubCommands() {
			names = append(names, cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			add(c)
		}
	}
	add(cli.Commands())
	return names
}

// reference returns the pages that have a section for each command.
func reference(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for path, text := range documents(t) {
		if path == "docs/command-line.md" || strings.HasPrefix(path, "docs/reference/") {
			all.WriteString(text + "\n")
		}
	}
	return all.String()
}

var (
	helpFlag     = regexp.MustCompile(`(?m)^ +--([a-z-]+)`)
	helpVariable = regexp.MustCompile(`\[(HUBHOOK_[A-Z_]+)\]`)
	tableFlag    = regexp.MustCompile("(?m)^\\| `--([a-z-]+)[^`]*` \\| `(HUBHOOK_[A-Z_]+)` \\|")
)

// TestFlags compares the reference with what each command's help says.
func TestFlags(t *testing.T) {
	sections := map[string]string{}
	for _, section := range strings.Split(reference(t), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] += text
	}
	for title := range sections {
		if strings.HasPrefix(title, "hubhook ") && !slices.Contains(commands(), title) {
			t.Errorf("the reference has a section %q, which is no command", title)
		}
	}
	for _, command := range commands() {
		documented := map[string]string{}
		for _, m := range tableFlag.FindAllStringSubmatch(sections[command], -1) {
			documented[m[1]] = m[2]
		}
		if command == "hubhook dev" { // it has serve's too
			for _, m := range tableFlag.FindAllStringSubmatch(sections["hubhook serve"], -1) {
				if !slices.Contains([]string{"run", "forward", "insecure"}, m[1]) { // whose handlers are not a program's
					documented[m[1]] = m[2]
				}
			}
		}
		help := helpOf(t, command)
		flags := map[string]string{}
		_, list, _ := strings.Cut(help, "\nFlags, ")
		variables := helpVariable.FindAllStringSubmatch(list, -1)
		for i, m := range helpFlag.FindAllStringSubmatch(list, -1) {
			if i >= len(variables) {
				t.Fatalf("%s --help has a flag without a variable:\n%s", command, help)
			}
			flags[m[1]] = variables[i][1]
		}
		if len(flags) == 0 && command != "hubhook completion" {
			t.Errorf("%s --help has no flags:\n%s", command, help)
		}
		if !maps.Equal(documented, flags) {
			t.Errorf("the reference, section %s, has\n%v\nthe command has\n%v", command, documented, flags)
		}
	}
}

// TestConfigurations checks that each configuration file in the guide can be read.
func TestConfigurations(t *testing.T) {
	checked := 0
	for _, m := range codeBlock.FindAllStringSubmatch(documents(t)["docs/actions.md"], -1) {
		if m[1] != "yaml" {
			continue
		}
		checked++
		path := filepath.Join(t.TempDir(), action.FileName)
		if err := os.WriteFile(path, []byte(m[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := action.Load(path, action.Options{})
		if err != nil {
			t.Errorf("docs/actions.md: %v\n%s", err, m[2])
			continue
		}
		file.Close()
	}
	if checked == 0 {
		t.Error("docs/actions.md has no configuration file")
	}
}

// TestConfigFields checks that the guide names every field of Config in its table.
func TestConfigFields(t *testing.T) {
	_, table, _ := strings.Cut(documents(t)["docs/library.md"], "\n## Settings in code\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, field := range reflect.VisibleFields(reflect.TypeFor[server.Config]()) {
		if field.IsExported() && !strings.Contains(table, "`"+field.Name+"`") {
			t.Errorf("docs/library.md, Settings in code, has no Config.%s", field.Name)
		}
	}
}

func helpOf(t *testing.T, command string) string {
	t.Helper()
	var out, errs bytes.Buffer
	args := append(strings.Fields(command)[1:], "--help")
	status := cli.Main(t.Context(), cli.Process{Args: args, Stdout: &out, Stderr: &errs, LookupEnv: func(string) (string, bool) { return "", false }})
	if status != 0 {
		t.Fatalf("%s --help: status %d\n%s", command, status, &errs)
	}
	return out.String()
}

var variable = regexp.MustCompile(`\bHUBHOOK_[A-Z_]*[A-Z]\b`)

// TestVariables checks that the documents and the Dockerfiles name no variable that nothing reads.
func TestVariables(t *testing.T) {
	// Those without a flag, and those of the tests.
	known := []string{env.Dev, env.InspectorToken, "HUBHOOK_TEST_REQUIRE", "HUBHOOK_TEST_SKIPPED"}
	for _, command := range commands() {
		known = append(known, variable.FindAllString(helpOf(t, command), -1)...)
	}
	texts := documents(t)
	for _, path := range []string{"Dockerfile", "docs/examples/space/Dockerfile"} {
		dockerfile, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(dockerfile)
	}
	for path, text := range texts {
		for _, name := range variable.FindAllString(text, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s names %s, which nothing reads", path, name)
			}
		}
	}
}
