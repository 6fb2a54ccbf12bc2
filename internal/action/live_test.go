package action

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/server"
)

// read returns a file with that text, in a directory of its own.
func read(t *testing.T, text string) *File {
	t.Helper()
	f, err := parseFile(filepath.Join(t.TempDir(), FileName), []byte(text), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLiveSaysWhatNeedsARestart(t *testing.T) {
	start := "endpoints: {a: {run: 'true', timeout: 1h}, b: , left: {run: 'true'}}\nkeep: 1h\nsecret: [x, y]"
	for _, test := range []struct {
		edited string
		later  []string
	}{
		{start, nil},
		{"endpoints: {b: , left: , a: {run: 'false', if: pr(), timeout: 2h}}\nkeep: 1h\nsecret: [x, y]\ntriggers: {push: {scope: repo.content}}", nil},
		{"endpoints: {a: , b: }\nkeep: 1h\nsecret: [x, y]", nil},
		{"endpoints: {a: {forward: 'http://127.0.0.1:1'}, b: }\nkeep: 1h\nsecret: [x, y]", nil},
		{"endpoints: {a: {run: 'true'}}\nkeep: 1h\nsecret: [x, y]", []string{"endpoint b is gone"}},
		{"endpoints: {a: {serial_by: repo.name, debounce: 1s, attempts: 2, concurrency: 1}, b: {if: pr(), run: 'true'}, c: }\nkeep: 2h\nsecret: x\nport: 1",
			[]string{"a: attempts", "a: concurrency", "a: debounce", "a: serial_by", "b: if", "b: run", "endpoint c is new", "keep", "port", "secret"}},
		{"", []string{"endpoint a is gone", "endpoint b is gone", "keep", "secret"}},
	} {
		live := NewLive(read(t, start), func(name string) bool { return name == "left" })
		if !live.Has("a") || !live.Has("b") || live.Has("left") {
			t.Fatal("endpoints are missing, or too many")
		}
		if later := live.Replace(read(t, test.edited)); !slices.Equal(later, test.later) {
			t.Errorf("%s:\nhave %q, want %q", test.edited, later, test.later)
		}
		live.Close()
	}
}

func TestLiveHandlesAsTheNewestVersionSays(t *testing.T) {
	t.Parallel()
	live := NewLive(read(t, "endpoints: {train: {run: 'echo first', attempts: 1}, kept: {debounce: 1ms}}"), func(string) bool { return false })
	t.Cleanup(live.Close)
	r := run(t, func(s *server.Server) { live.Register(s) })
	for _, test := range []struct{ edited, state, reason, output string }{
		{"", "", "", "first\n"},
		{"run: echo second", "", "", "second\n"},
		{"run: echo third, if: pr()", "skipped", "pr() was false: refs/heads/main", ""},
		{"run: echo fourth, if: repo.name > 5", "dead", "if: ", ""},
		{"run: echo fifth; sleep 100, timeout: 100ms", "dead", "timed out after 100ms: the command was ended with SIGTERM: ", "fifth\n"},
		{"attempts: 1", "", "", ""}, // nothing to do any more
	} {
		if test.edited != "" {
			live.Replace(read(t, "endpoints: {train: {"+test.edited+"}}"))
		}
		got := r.deliver("train", push)
		if got.status != 200 || got.state != test.state || !strings.HasPrefix(got.reason, test.reason) {
			t.Errorf("%s: have %+v", test.edited, got)
		}
		if list := r.attempts(got.id); len(list) > 0 && list[len(list)-1].Output != test.output {
			t.Errorf("%s: attempts %+v, want the output %q", test.edited, list, test.output)
		}
	}
}
