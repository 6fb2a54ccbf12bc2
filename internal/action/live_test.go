package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/server"
)

// read returns a file with that text, in a directory of its own.
func read(t *testing.T, text string) *File {
	t.Helper()
	options := testOptions()
	options.Commands = &Commands{grace: 30 * time.Second} // SIGTERM has its time, however busy the machine is
	f, err := parseFile(filepath.Join(t.TempDir(), FileName), []byte(text), options)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// liveOf registers a file's endpoints with a server that runs.
func liveOf(t *testing.T, text string, flagged ...string) (*Live, *running) {
	t.Helper()
	var live *Live
	r := run(t, func(s *server.Server) {
		fixed, err := FromFlags(flagged, nil, new(Commands))
		if err == nil {
			live, err = NewLive(s, fixed, []string{"named"}, "inbox", read(t, text))
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(live.Close)
	return live, r
}

func replace(t *testing.T, l *Live, text string) (later []string) {
	t.Helper()
	later, err := l.Replace(read(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return later
}

// status is the inspector's.
func (r *running) status() (s api.Status) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.private+"/api/status", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	text, _ := r.do(req)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *running) served() (names []string) {
	r.t.Helper()
	for _, e := range r.status().Endpoints {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

func TestLiveSaysWhatNeedsARestart(t *testing.T) {
	start := "endpoints: {a: {run: 'true'}}\nkeep: 1h\nsecret: [x, y]\nwatch: [model:me/a]"
	for edited, want := range map[string][]string{
		start: nil,
		"endpoints: {a: , b: {if: pr(), attempts: 2}}\nkeep: 1h\nsecret: [x, y]\nwatch: [model:me/a]\ntriggers: {push: {scope: repo.content}}": nil,
		"keep: 2h\nsecret: x\nport: 1\nfollow: [model:me/a]\ntunnel: {provider: ngrok}":                                                        {"follow", "keep", "port", "secret", "tunnel", "watch"},
		"": {"keep", "secret", "watch"},
	} {
		s, err := server.New(server.Config{Getenv: func(string) (string, bool) { return "", false }})
		if err != nil {
			t.Fatal(err)
		}
		live, err := NewLive(s, nil, nil, "inbox", read(t, start))
		if err != nil {
			t.Fatal(err)
		}
		if later := replace(t, live, edited); !slices.Equal(later, want) {
			t.Errorf("%s:\nhave %q, want %q", edited, later, want)
		}
		live.Close()
	}
}

// A server has the same endpoints whether it is started with a file or the file comes later.
func TestLiveEndpointsComeAndGo(t *testing.T) {
	t.Parallel()
	live, r := liveOf(t, "endpoints: {a: {run: 'true'}, flagged: {run: 'exit 1'}}", "flagged=true")
	for _, step := range []struct{ edited, served string }{
		{"", "a flagged named"},
		{"endpoints: {b: , named: {run: 'exit 1', attempts: 1}}", "b flagged named"},
		{"endpoints: {a: {if: pr()}, flagged: {if: pr()}}", "a flagged named"},
		{"{}", "flagged named"},
	} {
		if step.edited != "" {
			replace(t, live, step.edited)
		}
		if have := strings.Join(r.served(), " "); have != step.served {
			t.Errorf("%s: have %s, want %s", step.edited, have, step.served)
		}
		for _, name := range []string{"a", "b", "named", "flagged"} {
			want := http.StatusNotFound
			if slices.Contains(strings.Fields(step.served), name) {
				want = http.StatusOK
			}
			got := r.deliver(name, push)
			if got.status != want {
				t.Errorf("%s: %s answers %d, want %d", step.edited, name, got.status, want)
			}
			if name == "flagged" && got.state != "" {
				t.Errorf("%s: --run gave way to the file: %+v", step.edited, got)
			}
			if named := strings.Contains(step.edited, "named"); name == "named" && named != (got.state == "dead") {
				t.Errorf("%s: named is handled as %+v", step.edited, got)
			}
		}
	}

	s, err := server.New(server.Config{Getenv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := NewLive(s, nil, nil, "inbox", NoFile("hubhook.yaml", errors.New("not there")))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{{"", "inbox"}, {"endpoints: {a: }", "a"}, {"", "inbox"}} {
		replace(t, alone, step[0])
		if len(alone.serving) != 1 || alone.serving[0].Name != step[1] {
			t.Errorf("with %q: have %+v, want %s", step[0], alone.serving, step[1])
		}
	}
}

func TestLiveHandlesAsTheNewestVersionSays(t *testing.T) {
	t.Parallel()
	live, r := liveOf(t, "endpoints: {train: {run: 'echo first', attempts: 1}}")
	for _, test := range []struct{ edited, state, reason, output string }{
		{"", "", "", "first\n"},
		{"run: echo second", "", "", "second\n"},
		{"run: echo third, if: pr()", "skipped", "pr() was false: refs/heads/main", ""},
		{"run: echo fourth, if: repo.name > 5", "retrying", "if: ", ""},
		{"run: echo fourth, if: repo.name > 5, attempts: 1", "dead", "if: ", ""},
		{"run: echo fifth; sleep 100, attempts: 1, timeout: 1s", "dead", "timed out after 1s: the command was ended with SIGTERM: ", "fifth\n"},
		{"run: echo sixth, serial_by: repo.name + 5", "dead", "a key function of the endpoint panicked: serial_by: ", ""},
		{"run: echo seventh, serial_by: repo.name, concurrency: 1", "", "", "seventh\n"},
		{"attempts: 1", "", "", ""}, // nothing to do any more
	} {
		if test.edited != "" {
			replace(t, live, "endpoints: {train: {"+test.edited+"}}")
		}
		got := r.deliver("train", push)
		if status := map[bool]int{false: 200, true: 202}[test.state == "retrying"]; got.status != status || got.state != test.state || !strings.HasPrefix(got.reason, test.reason) {
			t.Errorf("%s: have %+v", test.edited, got)
		}
		if list := r.attempts(got.id); len(list) > 0 && list[len(list)-1].Output != test.output {
			t.Errorf("%s: attempts %+v, want the output %q", test.edited, list, test.output)
		}
	}
	replace(t, live, "endpoints: {train: {run: echo eighth, debounce: 1h}}")
	if got := r.deliver("train", push); got.status != 202 || got.state != "waiting" {
		t.Errorf("held back: %+v", got)
	}
}

// What waits at an endpoint that went stays, and is handled when it returns; what runs goes on.
func TestLiveDeliveriesOfAnEndpointThatWent(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var calls atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1); calls.Load() <= 2 {
			<-release
			http.Error(w, "not yet", http.StatusBadGateway)
		}
	}))
	defer web.Close()
	with := fmt.Sprintf("endpoints: {mirror: {forward: '%s', attempts: 9, concurrency: 1}}", web.URL)
	live, r := liveOf(t, with)
	answers := make(chan answer, 2)
	for range 2 {
		go func() { answers <- r.deliver("mirror", push) }()
	}
	within(t, "one runs and one waits", func() {
		for counts := r.status().Counts; counts["running"] != 1 || counts["waiting"] != 1; counts = r.status().Counts {
			time.Sleep(time.Millisecond)
		}
	})
	replace(t, live, "{}")
	close(release)
	if got := <-answers; got.state != "retrying" || !strings.Contains(got.reason, "not yet") {
		t.Errorf("the one that ran: %+v", got)
	}
	if counts := r.status().CountsByEndpoint["mirror"]; counts["retrying"] != 1 || counts["waiting"] != 1 {
		t.Errorf("without the endpoint: %v", counts)
	}
	if got := r.deliver("mirror", push); got.status != http.StatusNotFound {
		t.Errorf("have %+v", got)
	}
	replace(t, live, with)
	within(t, "all are handled", func() {
		for r.status().CountsByEndpoint["mirror"]["done"] != 2 {
			time.Sleep(time.Millisecond)
		}
	})
	<-answers
}

// What is known of an upstream outlives an edit of something else.
func TestLiveUpstreams(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + address + "/hook"
	text := func(more string) string {
		return fmt.Sprintf("endpoints: {up: {forward: '%s/?token=hidden', attempts: 1%s}, down: {forward: '%s', attempts: 1%s}, other: {run: 'true'}, later: {forward: 'http://me:hidden@localhost:1/'}}", web.URL, more, nobody, more)
	}
	live, r := liveOf(t, text(""))
	for _, name := range []string{"up", "down"} {
		r.deliver(name, push)
	}
	check := func() []api.Upstream {
		t.Helper()
		all := live.Upstreams()
		have := map[string]string{}
		for _, u := range all {
			have[u.Endpoint] = fmt.Sprintf("%s %s %t %t %t", u.State, u.URL, u.Since != nil, u.Error != "", u.Failed != nil)
		}
		want := map[string]string{
			"up": "ok " + web.URL + "/?... true false false", "down": "failing " + nobody + " true true true", "later": "untried http://localhost:1/ false false false",
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("have %v, want %v", have, want)
		}
		return all
	}
	before := check()
	replace(t, live, text(", timeout: 1m"))
	after := check()
	if *before[1].Since != *after[1].Since {
		t.Error("an edit of the timeout begins the upstream's health anew")
	}
	replace(t, live, strings.ReplaceAll(text(""), nobody, web.URL))
	if u := live.Upstreams()[1]; u.State != "untried" {
		t.Errorf("another URL: %+v", u)
	}
	replace(t, live, "{}")
	if all := live.Upstreams(); len(all) != 0 {
		t.Errorf("without endpoints: %+v", all)
	}
}
