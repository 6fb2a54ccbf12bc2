package action

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
)

// testOptions have the flags of serve as settings.
func testOptions() Options {
	var all []Setting
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	new(server.Config).Flags(flags)
	flags.VisitAll(func(f *flag.Flag) {
		all = append(all, Setting{Name: f.Name, Many: f.Name == "secret" || f.Name == "watch" || f.Name == "follow", Check: func(values []string) error {
			scratch := flag.NewFlagSet("serve", flag.ContinueOnError)
			new(server.Config).Flags(scratch)
			for _, v := range values {
				if err := scratch.Set(f.Name, v); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
			}
			return nil
		}})
	})
	return Options{Settings: all, Commands: &Commands{grace: 50 * time.Millisecond, Secret: func() string { return testSecret }}}
}

// theExample is the one of the design, with more.
const theExample = `
endpoints:
  trigger_training:
    if: repo.type == "dataset" && scope("repo.content") && branch("main") && !convert()
    run: ./train.sh
    timeout: 2h
    attempts: 3
    serial_by: repo.name
    debounce: 2m
  mirror:
    forward: http://me:secret@127.0.0.1:3000/hook
    concurrency: 4
  inbox:
  long/name/:
    run: |
      set -e
      echo "$WEBHOOK_REPO_ID"
    if: |
      scope("repo")
        && !pr()
watch: [dataset:me/data, mirror=model:me/model]
follow: bucket:me/checkpoints
tunnel: {provider: ngrok, url: https://me.ngrok.app}
triggers:
  push: {scope: repo.content, action: update, set: {repo.name: me/data, repo.private: true, "updatedRefs.0.ref": refs/heads/dev}}
  new: {scope: repo}
port: 8080
reply_within: 0
keep: 24h
json: true
secret: [one, "2"]
`

func TestFile(t *testing.T) {
	f, err := parseFile("some/hubhook.yaml", []byte(theExample), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type endpoint struct {
		Name, If, Run, Forward, SerialBy string
		Timeout, Debounce                time.Duration
		Attempts, Concurrency            int
		Handled                          bool
		Options                          int
	}
	var have []endpoint
	for _, e := range f.Endpoints {
		have = append(have, endpoint{e.Name, e.If, e.Run, e.Forward, e.SerialBy, e.Timeout, e.Debounce, e.Attempts, e.Concurrency, e.Handler() != nil, len(e.Options())})
	}
	want := []endpoint{
		{Name: "trigger_training", If: `repo.type == "dataset" && scope("repo.content") && branch("main") && !convert()`, Run: "./train.sh",
			Timeout: 2 * time.Hour, Attempts: 3, SerialBy: "repo.name", Debounce: 2 * time.Minute, Handled: true, Options: 5},
		{Name: "mirror", Forward: "http://127.0.0.1:3000/hook", Concurrency: 4, Handled: true, Options: 1},
		{Name: "inbox"},
		{Name: "long/name", Run: "set -e\necho \"$WEBHOOK_REPO_ID\"\n", If: "scope(\"repo\")\n  && !pr()\n", Handled: true, Options: 1},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	at := func(line int, texts ...string) Value { return Value{texts, fmt.Sprintf("some/hubhook.yaml:%d", line)} }
	f.Endpoints, f.content.text = nil, nil
	if diff := cmp.Diff(&File{
		Path: "some/hubhook.yaml",
		Values: map[string]Value{"watch": at(21, "dataset:me/data", "mirror=model:me/model"), "follow": at(22, "bucket:me/checkpoints"), "tunnel": at(23, "ngrok"), "url": at(23, "https://me.ngrok.app"), "port": at(27, "8080"), "reply-within": at(28, "0"),
			"keep": at(29, "24h"), "json": at(30, "true"), "secret": at(31, "one", "2")},
		Triggers: map[string]Trigger{
			"push": {"repo.content", "update", map[string]any{"repo.name": "me/data", "repo.private": true, "updatedRefs.0.ref": "refs/heads/dev"}},
			"new":  {Scope: "repo"},
		},
	}, f, cmp.AllowUnexported(File{}, content{})); diff != "" {
		t.Error(diff)
	}
}

func TestFileThatIsWrong(t *testing.T) {
	for _, test := range []struct{ text, want, hint string }{
		{"endpoints:\n  a:\n    tiemout: 2h", `:3:5: endpoint a: unknown key "tiemout"`, "did you mean timeout?"},
		{"endpoints:\n  a:\n    something: 2h", `:3:5: endpoint a: unknown key "something"`, "known: if, run, forward, timeout, attempts, serial_by, debounce, concurrency"},
		{"endpoint: {}", `:1:1: the file: unknown key "endpoint"`, "did you mean endpoints?"},
		{"reply_witin: 3s", `:1:1: the file: unknown key "reply_witin"`, "did you mean reply-within?"},
		{"tunnel: {provder: ngrok}", `:1:10: tunnel: unknown key "provder"`, "did you mean provider?"},
		{"triggers: {a: {scope: repo, sett: 1}}", `:1:29: trigger a: unknown key "sett"`, "did you mean set?"},
		{"<<: {}", `:1:1: the file: unknown key "<<"`, ""},
		{"port: 1\nport: 2", `:2:1: the file: the key port stands on line 1 already`, ""},
		{"reply-within: 1s\nreply_within: 2s", `:2:1: the file: the key reply-within stands on line 1 already`, ""},
		{"url: a\ntunnel: {url: b}", `:2:10: tunnel: url is set at hubhook.yaml:1 already`, ""},
		{"endpoints:\n  a:\n  /a/:", `:3:3: endpoint a is there already`, ""},
		{"endpoints:\n  a b: {}", `:2:3: endpoint name "a b" has`, "an endpoint's name has letters, digits, _, - and ., in segments joined by /"},
		{"endpoints: [a]", `:1:12: endpoints: want keys with values, have a list`, ""},
		{"endpoints:\n  a: ./train.sh", `:2:6: endpoint a: want keys with values, have "./train.sh"`, ""},
		{"endpoints: {a: {run: x,\n forward: 'http://x'}}", `:2:2: a has run already; an endpoint does one of both`, "give each of them an endpoint of its own"},
		{"endpoints: {a: {run: [x, y]}}", `:1:22: a: run: want text, have a list`, ""},
		{"endpoints: {a: {run: }}", `:1:22: a: run: want text, have nothing`, ""},
		{"endpoints: {a: {run: ' '}}", `:1:22: a: run is empty`, ""},
		{"endpoints: {a: {run: \"\\0\"}}", `:1:22: a: run has a NUL in it`, ""},
		{"endpoints: {a: {run: 5}}", `:1:22: a: run: want text, have "5"`, ""},
		{"endpoints: {a: {forward: 'localhost:3000'}}", `:1:26: a: forward: want a URL that begins with http:// or https://, have "localhost:3000"`, ""},
		{"endpoints: {a: {timeout: 30}}", `:1:26: a: timeout: want a duration such as 30s, 2m or 2h, have "30"`, ""},
		{"endpoints: {a: {timeout: 2 hours}}", `:1:26: a: timeout: want a duration such as 30s, 2m or 2h, have "2 hours"`, ""},
		{"endpoints: {a: {debounce: -1s}}", `:1:27: a: debounce: want a duration above 0, have -1s`, ""},
		{"endpoints: {a: {attempts: 0}}", `:1:27: a: attempts: want a number from 1 on, have "0"`, ""},
		{"endpoints: {a: {concurrency: many}}", `:1:30: a: concurrency: want a number from 1 on, have "many"`, ""},
		{"endpoints:\n  a:\n    if: repo.type == && true", `:3:22: a: if: unexpected token Operator("&&")`, ""},
		{"endpoints:\n  a:\n    if: |\n      true\n      && brnach(\"main\")", `:5: a: if: there is no function brnach: did you mean branch?`, ""},
		{"endpoints:\n  a:\n    if: 'brnach(\"main\")'", `:3:9: a: if: there is no function brnach: did you mean branch? (at character 1 of the expression)`, ""},
		{"endpoints:\n  a:\n    if:\n", `:3:8: a: if: want an expression, have nothing`, ""},
		{"endpoints:\n  a:\n    serial_by: by(\"me\")", `:3:16: a: serial_by: by(...) may have to ask the Hub, and a serial key is needed before the delivery is stored: use it in if`, ""},
		{"endpoints:\n  a:\n    serial_by: repo.name +", `:3:26: a: serial_by: unexpected token EOF`, ""},
		{"watch: [data]", `:1:9: watch: want TYPE:NAME, have "data"`, "write it as dataset:me/data, or as train=dataset:me/data for the endpoint train"},
		{"follow: {a: b}", `:1:9: follow: want text, have keys with values`, ""},
		{"keep-count: no", `:1:13: keep-count: want a number above 0, have "no"`, ""},
		{"port: [1]", `:1:7: port: want one value, have a list`, ""},
		{"keep: forever", `:1:7: keep: "forever" is not a duration such as 3s, 2m or 168h`, ""},
		{"triggers: {a: {action: update}}", `:1:12: trigger a names no scope`, "repo.content is a push"},
		{"triggers: {a: {scope: repo.contents}}", `:1:12: trigger a: `, ""},
		{"triggers: {a: {scope: repo, set: {repo.nmae: x}}}", `:1:12: trigger a: `, ""},
		{"triggers: {a: {scope: repo, set: {updatedConfig.x: &a [*a]}}}", `:1:5`, ""},
		{"triggers: {a: {scope: repo, set: {updatedConfig.x: " + laughs(10) + "}}}", `:1:`, ""},
		{"- a", `:1:1: the file: want keys with values, have a list`, ""},
		{"endpoints:\n  a: b: c", `:2:7: mapping values are not allowed in this context`, ""},
		{"endpoints:\n\ta: b", `:2:1: found character that cannot start any token`, ""},
		{"endpoints: [1, 2", `:2:1: did not find expected ',' or ']' while parsing a flow sequence that begins on line 1`, ""},
		{"endpoints: *gone", `:1:12: unknown anchor 'gone' referenced`, ""},
		{"port: 1\nkeep: \u00e9\xff", `:2:8: a byte that is not UTF-8`, ""},
		{"port: 1\n---\nport: 2", `:2:1: a second document begins here; the file is one`, ""},
		{"endpoints: {a: {run: x}}\nendpoints: {b: {run: x}}", `:2:1: the file: the key endpoints stands on line 1 already`, ""},
	} {
		f, err := parseFile("hubhook.yaml", []byte(test.text), testOptions())
		if err == nil {
			t.Errorf("%s:\nno error, %+v", test.text, f)
			continue
		}
		var at *FileError
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), "hubhook.yaml"+test.want) || test.hint != "" && text.Hint(err) != test.hint {
			t.Errorf("%s:\nhave %v\n     %s\nwant hubhook.yaml%s\n     %s", test.text, err, text.Hint(err), test.want, test.hint)
		}
	}
}

// laughs is a list that has ten times as many elements with each level, made of aliases.
func laughs(levels int) string {
	list := "&l0 [x, x, x, x, x, x, x, x, x, x]"
	all := []string{list}
	for i := range levels {
		all = append(all, fmt.Sprintf("&l%d [%s]", i+1, strings.Repeat(fmt.Sprintf("*l%d, ", i), 10)))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func TestFileOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if _, err := Load(path, testOptions()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v", err)
	}
	if err := os.WriteFile(path, []byte("# "+strings.Repeat("x", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, testOptions()); err == nil || !strings.HasSuffix(err.Error(), ": the file has more than 1048576 bytes") {
		t.Errorf("have %v", err)
	}
	for _, nothing := range []string{"", "\n# nothing\n", "---\n", "{}", "endpoints: {}"} {
		if err := os.WriteFile(path, []byte(nothing), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Load(path, testOptions())
		if err != nil || len(f.Endpoints) != 0 {
			t.Errorf("%q: %+v, %v", nothing, f, err)
		}
	}
}

// The endpoints of a file, under a server.
func TestFileIsServed(t *testing.T) {
	t.Parallel()
	u := listenRaw(t, "127.0.0.1:0", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"got\":\"it\"}")
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte(`
endpoints:
  train:
    if: branch("main") && repo.type == "model"
    run: pwd && cat payload-of-the-test
    attempts: 1
    timeout: 1m
  mirror: {forward: "`+u.URL+`", if: 'scope("repo.content")', serial_by: repo.name}
  inbox: {if: repo.private}
  wrong: {if: 'repo.name', attempts: 1}
  keyless: {serial_by: 'repo.name + 1', attempts: 1}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "payload-of-the-test"), []byte("found it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	r := run(t, func(s *server.Server) {
		for _, e := range f.Endpoints {
			s.Handle(e.Name, e.Handler(), e.Options()...)
		}
	})
	got := r.deliver("train", push)
	if list := r.attempts(got.id); got.status != 200 || got.state != "" || len(list) != 1 || !strings.HasSuffix(list[0].Output, filepath.Base(dir)+"\nfound it\n") {
		t.Errorf("train: %+v, %+v", got, list)
	}
	dev := strings.ReplaceAll(push, "refs/heads/main", "refs/heads/dev")
	if got := r.deliver("train", dev); got.state != "skipped" || got.reason != `branch("main") was false: refs/heads/dev` {
		t.Errorf("train of dev: %+v", got)
	}
	if got := r.deliver("mirror", push); strings.TrimSpace(got.body) != `{"got":"it"}` {
		t.Errorf("mirror: %+v", got)
	}
	if got := r.deliver("inbox", push); got.state != "skipped" || got.reason != `repo.private was false: nil` {
		t.Errorf("inbox: %+v", got)
	}
	if got := r.deliver("inbox", strings.Replace(push, `"name"`, `"private":true,"name"`, 1)); got.state != "" || strings.TrimSpace(got.body) != "{}" {
		t.Errorf("inbox of a private repo: %+v", got)
	}
	if got := r.deliver("wrong", push); got.state != "dead" || got.reason != `if: repo.name: want true or false, have "me/model"` {
		t.Errorf("wrong: %+v", got)
	}
	if got := r.deliver("keyless", push); got.state != "dead" || !strings.Contains(got.reason, "serial_by: invalid operation: string + int") {
		t.Errorf("keyless: %+v", got)
	}
	for _, e := range f.Endpoints {
		if h, ok := e.Health(); ok != (e.Name == "mirror") || ok && (!h.Up || h.URL != u.URL) {
			t.Errorf("%s: %+v, %t", e.Name, h, ok)
		}
	}
}

func TestKeys(t *testing.T) {
	for expression, want := range map[string]string{
		`repo.name`:                      "me/model",
		`missing`:                        "",
		`missing.field`:                  "",
		`[repo.type, repo.name]`:         `["model","me/model"]`,
		`repo.type + "/" + repo.name`:    "model/me/model",
		`pr()`:                           "false",
		`updatedRefs[0].ref`:             "refs/heads/main",
		`map(updatedRefs, .ref)`:         `["refs/heads/main"]`,
		`join(map(updatedRefs, .ref))`:   "refs/heads/main",
		`{"a": repo.name, "b": missing}`: `{"a":"me/model","b":null}`,
	} {
		k, err := newKey(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got := k.of(parse(t, push)); got != want {
			t.Errorf("%s: have %q, want %q", expression, got, want)
		}
	}
}

func TestEndpointsOfFlags(t *testing.T) {
	commands := &Commands{}
	list, err := FromFlags([]string{"train=echo a=b; exit 1", "/other/=true"}, []string{"mirror=http://localhost:3000/hook?a=b"}, commands)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Name != "train" || list[0].Run != "echo a=b; exit 1" || list[1].Name != "other" || list[2].Forward != "http://localhost:3000/hook?..." {
		t.Errorf("have %+v", list)
	}
	for _, test := range []struct {
		run, forward []string
		want         string
	}{
		{[]string{"./train.sh"}, nil, `--run: want NAME=COMMAND, have "./train.sh"`},
		{[]string{"train= "}, nil, `--run: want NAME=COMMAND, have "train="`},
		{[]string{"a b=x"}, nil, `--run: endpoint name "a b" has`},
		{[]string{"a=x", "a=y"}, nil, `--run: endpoint a has something to do already`},
		{[]string{"a=x"}, []string{"/a=http://x"}, `--forward: endpoint a has something to do already`},
		{nil, []string{"http://localhost:3000"}, `--forward: want NAME=URL, have "http://localhost:3000"`},
		{nil, []string{"a=localhost:3000"}, `--forward a: want a URL that begins with http:// or https://, have "localhost:3000"`},
		{[]string{"a=x\x00"}, nil, `--run a: the command has a NUL in it`},
	} {
		if _, err := FromFlags(test.run, test.forward, commands); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("have %v, want %s", err, test.want)
		}
	}
}

// FuzzFile reads anything as a file. What is wrong with it has to be said with a place in it, and never is a panic.
func FuzzFile(f *testing.F) {
	f.Add(theExample)
	f.Add("endpoints: {a: &x {if: [*x]}, b: *x}")
	f.Add("a: &a [*a]\nport: *a")
	f.Add("? [a]\n: b")
	f.Add("triggers: {a: {scope: repo, set: {repo.name: !!binary aGk=}}}")
	f.Add("%YAML 1.1\n---\nport: 0x10\n...\n")
	options := testOptions()
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseFile("hubhook.yaml", []byte(text), options)
		if err == nil {
			file.Close()
			return
		}
		var at *FileError
		if !errors.As(err, &at) || at.Text == "" {
			t.Errorf("%q: %#v", text, err)
		}
	})
}
