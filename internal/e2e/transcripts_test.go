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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// The transcripts in the guides are what hubhook prints. A transcript is a block of code that begins with "$ " and a command. A line "..." in
// it stands for any number of lines.
//
// What differs from run to run is masked on both sides: IDs, ports, tokens, durations, dates, and how wide a column is.
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
	cmd := exec.Command("sh", "-c", command)
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
	text := s.screen.String()
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

// act is how a transcript comes about.
type act struct {
	command string
	tunnel  bool         // it has one, to an edge
	prepare func(*stage) // nil where nothing is needed
	running func(*stage) // what happens while it runs; nil where the command ends by itself
}

// acts are those of each guide, in its order.
var acts = map[string][]act{
	"README.md": {{
		command: "go run ./docs/examples/readme",
		tunnel:  true,
		prepare: func(s *stage) {
			s.goWorkspace(s.t)
			if err := os.CopyFS(filepath.Join(s.dir, "work", "docs", "examples", "readme"), os.DirFS("../../docs/examples/readme")); err != nil {
				s.t.Fatal(err)
			}
		},
		running: func(s *stage) {
			s.await("Try it: ")
			s.push("trigger_training")
		},
	}},
	"docs/start.md": {{
		command: "hubhook serve --no-tunnel trigger_training",
		running: func(s *stage) {
			s.await("Try it: ")
			s.other(strings.TrimSpace(s.guide.code(s.t, "sh", "hubhook trigger repo.content --set")) + " --wait")
		},
	}},
	"docs/dev.md": {{
		command: "hubhook dev -- python app.py",
		tunnel:  true,
		prepare: func(s *stage) { s.python(s.example("webhooksserver/app.py")) },
		running: func(s *stage) {
			s.await("--- app.py is ready")
			s.await("/webhooks/goodbye")
			s.push("trigger_training")
			s.await("<-- trigger_training")
			app := filepath.Join(s.dir, "work", "app.py")
			text, err := os.ReadFile(app)
			if err != nil {
				s.t.Fatal(err)
			}
			s.file("app.py", strings.Replace(string(text), "training on", "training again on", 1), 0o600)
			s.await("--- app.py restarts")
			s.push("trigger_training")
		},
	}},
	"docs/actions.md": {{
		command: "hubhook",
		prepare: func(s *stage) {
			needs.Program(s.t, "python3") // train.sh reads JSON with it
			s.file("hubhook.yaml", s.guide.code(s.t, "yaml", "trigger_training:"), 0o600)
			s.file("train.sh", s.guide.code(s.t, "sh", "#!/bin/sh"), 0o700)
		},
		running: func(s *stage) {
			s.await("Try it: ")
			for line := range strings.Lines(s.guide.code(s.t, "sh", "hubhook trigger repo.content --endpoint")) {
				s.other(strings.TrimSpace(line) + " --wait")
			}
		},
	}, {
		command: "hubhook",
		prepare: func(s *stage) {
			s.file("hubhook.yaml", strings.Replace(s.guide.code(s.t, "yaml", "trigger_training:"), "run:", "rum:", 1), 0o600)
		},
	}, {
		command: "WEBHOOK_PAYLOAD=$(hubhook trigger repo.content --print) hubhook run-job trigger_training",
		prepare: func(s *stage) {
			needs.Program(s.t, "python3")
			s.file("hubhook.yaml", s.guide.code(s.t, "yaml", "trigger_training:"), 0o600)
			s.file("train.sh", s.guide.code(s.t, "sh", "#!/bin/sh"), 0o700)
		},
	}},
	"docs/doctor.md": {{
		command: "hubhook doctor",
		tunnel:  true,
		prepare: func(s *stage) {
			s.env = append(s.env, "NGROK_AUTHTOKEN=2nobodyKnowsThisToken_0123456789", "HF_ENDPOINT=http://127.0.0.1:1")
		},
	}, {
		command: "hubhook doctor dataset:me/data",
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{})
			hub := s.server
			id, err := hub.Create(hubtest.Webhook{ID: theWebhook, URL: "https://me.ngrok.app/webhooks/inbox", Secret: secret, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}}})
			if err == nil {
				err = hub.Suspend(id)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			s.env = append(s.env, "HUBHOOK_PUBLIC_URL=https://me.ngrok.app", "HTTPS_PROXY=http://127.0.0.1:1", "HF_TOKEN="+hub.Accounts.AddToken(hubtest.Token{}))
			s.serve(s.t, hubhook)
		},
	}},
	"docs/follow.md": {{
		command: "hubhook --follow dataset:me/data --follow bucket:me/checkpoints",
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{})
			_, err := s.server.CreateBucket("me/checkpoints", hubtest.RepoOptions{})
			must(s.t, err)
			s.env = append(s.env, "HUBHOOK_NO_TUNNEL=false")
		},
		running: func(s *stage) {
			b := s.server.Bucket("me/checkpoints")
			must(s.t, b.Feed.WaitStreams(s.t.Context(), 1))
			must(s.t, b.Upload(hubtest.File{Path: "step-1000.safetensors", Content: []byte("weights")}))
		},
	}, {
		command: "HF_TOKEN=hf_... hubhook --watch dataset:me/data --catch-up",
		tunnel:  true,
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{Client: s.outside})
			s.server.Accounts.AddToken(hubtest.Token{Value: "hf_..."})
		},
		running: func(s *stage) {
			pollFor(s.t, patience, "the look after the way was proven", func() (bool, string) {
				n := s.server.Requests.Count("GET", "/api/datasets/me/data/refs")
				return n >= 2 && len(s.server.Webhooks()) == 1, fmt.Sprint(n)
			})
			must(s.t, s.server.Suspend(s.server.Webhooks()[0].ID))
			_, err := s.server.Repo(payload.Dataset, "me/data").Push(hubtest.Commit{Files: []hubtest.File{{Path: "a", Content: []byte("1")}}})
			must(s.t, err)
			s.edge.Drop() // once the way is proven again, the suspension is ended
		},
	}},
	"docs/hub.md": {{
		command: "hubhook hub create --url https://me.ngrok.app/webhooks/train --watch dataset:me/data",
		prepare: func(s *stage) { s.hub() },
	}, {
		command: "hubhook hub show 654bbbc16f2ec14d77f109cc",
		prepare: func(s *stage) { s.hub() },
	}, {
		command: "hubhook hub list",
		prepare: func(s *stage) { s.hub() },
	}, {
		command: "hubhook hub update 654bbbc16f2ec14d77f109cc --url https://other.ngrok.app/webhooks/train",
		prepare: func(s *stage) {
			s.hub()
			s.env = append(s.env, "WEBHOOK_SECRET=")
		},
	}},
	"docs/testing.md": {{
		command: "hubhook test -- python app.py",
		prepare: func(s *stage) { s.python(s.guide.code(s.t, "python", "@webhook_endpoint")) },
	}, {
		command: "hubhook test -- python app.py",
		prepare: func(s *stage) { s.python(s.example("fastapi/app.py")) },
	}},
}

// standIn gives the stage a stand-in Hub with the dataset me/data.
func (s *stage) standIn(options hubtest.Options) {
	s.t.Helper()
	s.server = hubtest.NewServer(options)
	s.t.Cleanup(s.server.Close)
	_, err := s.server.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	must(s.t, err)
	s.env = append(s.env, "HF_ENDPOINT="+s.server.URL)
}

// hub gives the stage a stand-in Hub with two webhooks.
func (s *stage) hub() {
	s.t.Helper()
	s.standIn(hubtest.Options{})
	server := s.server
	for _, w := range []hubtest.Webhook{
		{ID: "654bbbc16f2ec14d77f109cc", URL: "https://me.ngrok.app/webhooks/train", Secret: secret, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}, {Type: "org", Name: "my-org"}}},
		{ID: "65a14fd933eca76f4639fc84", URL: "https://me.ngrok.app/webhooks/mirror", Watched: []hubtest.Watched{{Type: "bucket", Name: "me/checkpoints"}}, Domains: []string{hubtest.DomainRepo}},
	} {
		if _, err := server.Create(w); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := server.Suspend("65a14fd933eca76f4639fc84"); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "HF_TOKEN="+server.Accounts.AddToken(hubtest.Token{}))
}

// push posts a push to me/data from outside, as the Hub does.
func (s *stage) push(endpoint string) {
	s.t.Helper()
	if a := post(s.t, s.outside, "https://"+s.public+"/webhooks/"+endpoint, sample(s.t, "me/data"), "X-Webhook-Secret", secret); !a.ok() {
		s.t.Fatalf("through the tunnel: %+v", a)
	}
}

// unplayed are pages whose transcripts no act plays: they show states that take long to come about, or the disk of another machine. Their
// commands are parsed all the same, by TestHubhookCommands.
var unplayed = []string{"docs/deliveries.md", "docs/follow.md", "docs/reference/deliveries.md", "docs/reference/hub.md"}

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
		if n > 0 && acts[page] == nil && !slices.Contains(unplayed, page) {
			t.Errorf("%s has %d transcripts that are not played; give them acts", page, n)
		}
		if n == 0 && slices.Contains(unplayed, page) {
			t.Errorf("%s has no transcript any more; take it out of the list", page)
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
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(path), i+1), func(t *testing.T) {
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
