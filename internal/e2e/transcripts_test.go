//go:build unix

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// The transcripts in the guides are what hubhook prints. A transcript is a block of code that begins with "$ " and a command. A line "..." in
// it stands for any number of lines.
//
// What differs from run to run is masked on both sides: IDs, ports, tokens, durations, dates, sizes, and how wide a column is.
var masks = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b0[0-9A-HJKMNP-TV-Z]{25}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{24}\b`), "ID"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+/settings/`), "https://huggingface.co/settings/"},
	{regexp.MustCompile(`://127\.0\.0\.1:\d+`), "://127.0.0.1:PORT"},
	{regexp.MustCompile(`token=[0-9a-f]+(\.\.\.)?`), "token=TOKEN"},
	{regexp.MustCompile(`<?\b\d+(\.\d+)? ?(ms|s|min)\b`), "DURATION"},
	{regexp.MustCompile(`\b\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\b`), "DATE"},
	{regexp.MustCompile(`\bprocess \d+ runs, since \S+`), "process PID runs, since TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\bdamaged-\d{8}T\d{6}Z`), "damaged-TIME"},
	{regexp.MustCompile(`\b\w+-[0-9a-f]{8}/`), "DIR/"},
	{regexp.MustCompile(`\b\d+ KiB\b`), "SIZE"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "},
}

func masked(line string) string {
	line = strings.TrimRight(line, " \r")
	for _, m := range masks {
		line = m.re.ReplaceAllString(line, m.with)
	}
	return line
}

// transcript is one of a guide.
type transcript struct {
	guide   string
	command string   // its first line, without "$ "
	lines   []string // those below, masked
}

// guide is the text of a guide, with its blocks of code.
type guide struct {
	path   string
	blocks [][2]string // language and text
}

var block = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")

func readGuide(t *testing.T, path string) *guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{path: path}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		g.blocks = append(g.blocks, [2]string{m[1], m[2]})
	}
	return g
}

// code returns the first block in a language that has some text in it.
func (g *guide) code(t *testing.T, language, with string) string {
	t.Helper()
	for _, b := range g.blocks {
		if b[0] == language && strings.Contains(b[1], with) {
			return b[1]
		}
	}
	t.Fatalf("%s has no block in %s with %q", g.path, language, with)
	return ""
}

// transcripts returns those of the guide, in order.
func (g *guide) transcripts() []transcript {
	var all []transcript
	for _, b := range g.blocks {
		first, rest, _ := strings.Cut(b[1], "\n")
		command, ok := strings.CutPrefix(first, "$ ")
		if !ok {
			continue
		}
		s := transcript{guide: g.path, command: command}
		for line := range strings.Lines(rest) {
			s.lines = append(s.lines, masked(strings.TrimSuffix(line, "\n")))
		}
		all = append(all, s)
	}
	return all
}

// stage is where a transcript's command runs: on a terminal, in a directory of its own.
type stage struct {
	*home
	t        *testing.T
	guide    *guide
	terminal *os.File
	screen   *output
	ended    chan struct{}
	edge     *tunneltest.Edge // nil without a tunnel
	public   string           // the edge's domain; "" without a tunnel
	outside  *http.Client     // reaches the edge
	server   *hubtest.Server  // a stand-in Hub, nil where none is needed
}

// service is the data directory of an installed service. On a stage it is below the home directory.
const service = "/var/lib/hubhook"

// newStage returns a stage with hubhook on its PATH.
func newStage(t *testing.T, g *guide) *stage {
	t.Helper()
	s := &stage{home: newHome(t), t: t, guide: g}
	bin := filepath.Join(s.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(hubhook, filepath.Join(bin, "hubhook")); err != nil {
		t.Fatal(err)
	}
	s.env[0] = "PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH")
	s.env = append(s.env, "NO_COLOR=1", "TERM=dumb", "TZ=UTC", "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0", "WEBHOOK_SECRET="+secret,
		"HUBHOOK_REPLY_WITHIN=25s") // so that an answer that waits for its handler tells the outcome, however slow this machine is
	return s
}

// file writes a file of the working directory.
func (s *stage) file(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "work", name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// python makes code the program app.py, which "python" runs.
func (s *stage) python(code string) {
	s.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", realPython(s.t))
	if err := os.WriteFile(filepath.Join(s.dir, "bin", "python"), []byte(script), 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.file("app.py", code, 0o600)
}

// example returns the text of a file in docs/examples.
func (s *stage) example(file string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/examples", file))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// start runs the command.
func (s *stage) start(command string) {
	s.t.Helper()
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, service, filepath.Join(s.dir, service)))
	cmd.Dir, cmd.Env = filepath.Join(s.dir, "work"), s.env
	var err error
	if s.terminal, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 1000}); err != nil { // no line is cut
		s.t.Fatal(err)
	}
	s.screen, s.ended = newOutput(), make(chan struct{})
	go func() {
		io.Copy(s.screen, s.terminal) // fails once the program has ended
		cmd.Wait()
		close(s.ended)
	}()
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		<-s.ended
		s.terminal.Close()
	})
}

// unchecked is said where the edge's domain can't be looked up, which it can't be by anyone.
var unchecked = regexp.MustCompile(`(?m)^(https://example\.ngrok-free\.app) could not be checked from here, which proves nothing.*$`)

// shown returns the lines on the screen, masked.
func (s *stage) shown() []string {
	text := strings.NewReplacer(filepath.Join(s.dir, service), service, s.dir, "/home/me").Replace(s.screen.String())
	if s.public != "" {
		text = unchecked.ReplaceAllString(strings.ReplaceAll(text, s.public, "example.ngrok-free.app"), "$1 is reachable.")
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		lines = append(lines, masked(line[strings.LastIndex(line, "\r")+1:])) // what was taken away again is not there
	}
	return lines
}

// await waits for a text on the screen.
func (s *stage) await(text string) {
	s.t.Helper()
	pollFor(s.t, patience, text+" is on the screen", func() (bool, string) { return strings.Contains(s.screen.String(), text), s.screen.String() })
}

// other runs a command in another terminal, and returns what it prints.
func (s *stage) other(command string) string {
	s.t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Env = filepath.Join(s.dir, "work"), s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// quit ends a program that runs.
func (s *stage) quit() {
	s.t.Helper()
	if _, err := s.terminal.WriteString("q"); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

// missing returns the first line of want that shown lacks, and whether there is one. In a program that runs, several write at the same time,
// so the order of lines is not compared.
func missing(want, shown []string) (string, bool) {
	count := map[string]int{}
	for _, line := range shown {
		count[line]++
	}
	for _, line := range want {
		if count[line]--; count[line] < 0 && line != "..." {
			return line, true
		}
	}
	return "", false
}

// sameLines reports whether shown is want, in which "..." stands for any lines.
func sameLines(want, shown []string) bool {
	if len(want) == 0 {
		return len(shown) == 0
	}
	if want[0] == "..." {
		for skip := range len(shown) + 1 {
			if sameLines(want[1:], shown[skip:]) {
				return true
			}
		}
		return false
	}
	return len(shown) > 0 && shown[0] == want[0] && sameLines(want[1:], shown[1:])
}

// TestTranscriptsArePlayed checks that no page has a transcript that is never compared with what hubhook prints. Those of docs/fr are those
// of other pages.
func TestTranscriptsArePlayed(t *testing.T) {
	t.Parallel()
	pages := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/reference/*.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d pages, %v", pattern, len(found), err)
		}
		for _, page := range found {
			pages = append(pages, filepath.ToSlash(strings.TrimPrefix(page, "../../")))
		}
	}
	for _, page := range pages {
		n := len(readGuide(t, page).transcripts())
		if n > 0 && acts[page] == nil {
			t.Errorf("%s has %d transcripts that are not played; give them acts", page, n)
		}
	}
}

func TestTranscripts(t *testing.T) {
	for path, acts := range acts {
		g := readGuide(t, path)
		found := g.transcripts()
		if len(found) != len(acts) {
			t.Errorf("%s has %d transcripts, of which %d are run; give each its act", path, len(found), len(acts))
			continue
		}
		for i, a := range acts {
			t.Run(fmt.Sprintf("%s/%d", path, i+1), func(t *testing.T) {
				t.Parallel()
				if found[i].command != a.command {
					t.Fatalf("%s has the command %q, and what is run is %q", path, found[i].command, a.command)
				}
				newStage(t, g).play(a, found[i].lines)
			})
		}
	}
}

// play runs a command as its act says, and compares what it prints with want.
func (s *stage) play(a act, want []string) {
	s.t.Helper()
	if a.tunnel {
		edge := tunneltest.NewEdge(s.t, tunneltest.Options{})
		writeConfig(s.t, s.home, edge, tunneltest.DefaultToken)
		s.edge, s.public, s.outside = edge, edge.Domain(), publicClient(s.t, edge)
	} else {
		s.env = append(s.env, "HUBHOOK_NO_TUNNEL=1")
	}
	if a.prepare != nil {
		a.prepare(s)
	}
	s.start(a.command)
	if a.answer != "" {
		s.await("[y/N] ")
		if _, err := s.terminal.WriteString(a.answer + "\n"); err != nil {
			s.t.Fatal(err)
		}
	}
	if a.running == nil {
		select {
		case <-s.ended:
		case <-time.After(3 * patience): // it waits for the program's start, too
			s.t.Fatalf("%s does not end:\n%s", a.command, s.screen)
		}
		if shown := s.shown(); !sameLines(want, shown) {
			s.t.Errorf("%s printed\n%s\nthe guide has\n%s", a.command, strings.Join(shown, "\n"), strings.Join(want, "\n"))
		}
		return
	}
	a.running(s)
	pollFor(s.t, patience, "the screen has every line of the guide", func() (bool, string) {
		line, lacks := missing(want, s.shown())
		return !lacks, fmt.Sprintf("%q is not there:\n%s", line, strings.Join(s.shown(), "\n"))
	})
	s.quit()
}
