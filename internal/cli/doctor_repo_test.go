package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/server"
)

func TestWhyNothingComes(t *testing.T) {
	t.Parallel()
	ok, warn, fail, skip := api.OK, api.Warn, api.Fail, api.Skip
	f := func(name string, result api.Result) api.Finding {
		return api.Finding{Name: name, Result: result, Text: name + " is " + string(result), Fix: "correct " + name}
	}
	for name, test := range map[string]struct {
		findings  []api.Finding
		came      int
		unlisted  bool
		lookedOff bool // the Hub could not be asked
		want      string
	}{
		"the first failure":             {[]api.Finding{f("watched", warn), f("webhook 1", fail), f("refused", fail)}, 0, false, false, "fail webhook 1: webhook 1 is fail (see also refused)"},
		"no failure but of the look":    {[]api.Finding{f("token", fail), f("watched", skip)}, 0, true, true, "skip can't be known without the Hub: token is fail"},
		"a failure here all the same":   {[]api.Finding{f("token", fail), f("refused", fail)}, 0, true, true, "fail refused is fail"},
		"a limit that is near":          {[]api.Finding{f("rate limit", warn), f("deliveries", skip)}, 0, false, false, "ok nothing is in the way"},
		"a warning, and nothing came":   {[]api.Finding{f("watched", warn), f("deliveries", skip)}, 0, false, false, "warn watched is warn"},
		"a warning, and something came": {[]api.Finding{f("watched", warn), f("deliveries", ok)}, 1, false, false, "ok it comes"},
		"what became of it":             {[]api.Finding{f("watched", warn), f("deliveries", warn)}, 1, false, false, "warn deliveries is warn"},
		"it came, and now it fails":     {[]api.Finding{f("refused", fail), f("deliveries", ok)}, 1, false, false, "fail little comes from dataset:me/data: refused is fail"},
		"what proves nothing":           {[]api.Finding{f("hubhook", warn), f("public URL", warn)}, 0, false, false, "ok nothing is in the way"},
		"no list":                       {[]api.Finding{f("token", skip), f("watched", skip)}, 0, true, false, "skip HF_TOKEN"},
	} {
		l := &itemLook{hubLook: &hubLook{listed: !test.unlisted}, item: hub.Watched{Type: "dataset", Name: "me/data"}, came: make([]api.Delivery, test.came)}
		if test.lookedOff {
			l.failed = errors.New("hangs")
		}
		why := l.why(test.findings)
		result, words, _ := strings.Cut(test.want, " ")
		if why.Name != "why" || string(why.Result) != result || !strings.Contains(why.Text, words) || (why.Fix != "") != (result == "fail" || result == "warn") {
			t.Errorf("%s: %+v; want %s", name, why, test.want)
		}
	}
}

// Without a public URL the Hub reaches nothing, unless it is on the same machine, or nothing has to reach hubhook.
func TestWayInWithoutAPublicURL(t *testing.T) {
	t.Parallel()
	hooks, err := server.New(server.Config{NoTunnel: true, Getenv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		hub      string
		followed []api.Followed
		want     api.Result
	}{
		"the Hub":       {"https://huggingface.co", nil, api.Fail},
		"a Hub near by": {"http://127.0.0.1:7870", nil, api.Skip},
		"followed":      {"https://huggingface.co", []api.Followed{{Item: "dataset:me/data"}}, api.Skip},
	} {
		running := &api.Status{Addresses: api.Addresses{Local: "http://127.0.0.1:7860"}, Followed: test.followed}
		l := &itemLook{hubLook: &hubLook{here: ours{running: running, hub: test.hub}}, item: hub.Watched{Type: "dataset", Name: "me/data"}}
		asked := false
		for _, list := range l.wayIn(hooks) {
			for _, check := range list {
				if check.Name == "public URL" {
					asked = true
					if f := check.Run(t.Context()); f.Result != test.want {
						t.Errorf("%s: %+v; want %s", name, f, test.want)
					}
				}
			}
		}
		if !asked {
			t.Errorf("%s: no look at the public URL", name)
		}
	}
}
