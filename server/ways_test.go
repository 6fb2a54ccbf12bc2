package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// Nobody is asked who has said in any place how the public URL is to be opened, or has a credential.
func TestUndecided(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config Config
		env    map[string]string
		file   map[string]string
		want   bool
	}{
		{name: "nothing", want: true},
		{name: "flag", config: Config{Tunnel: "ngrok"}},
		{name: "variable", env: map[string]string{"HUBHOOK_TUNNEL": "ngrok"}},
		{name: "file", file: map[string]string{"tunnel": "ngrok"}},
		{name: "URL", config: Config{URL: "me.ngrok.app"}},
		{name: "domain alone", env: map[string]string{"NGROK_DOMAIN": "me.ngrok.app"}, want: true},
		{name: "SSH server", env: map[string]string{"HUBHOOK_SSH": "localhost.run"}},
		{name: "file's SSH server", file: map[string]string{"ssh": "localhost.run"}},
		{name: "configuration of cloudflared", config: Config{CloudflaredConfig: "config.yml"}},
		{name: "token", env: map[string]string{"NGROK_AUTHTOKEN": "token"}},
		{name: "token of its own variable", env: map[string]string{"HUBHOOK_NGROK_AUTHTOKEN": "token"}},
		{name: "under dev", env: map[string]string{"HUBHOOK_DEV": "1"}},
		{name: "asked for", config: Config{Tunnel: "ask"}, want: true},
		{name: "asked for, with a token", config: Config{Tunnel: "ask"}, env: map[string]string{"NGROK_AUTHTOKEN": "token"}, want: true},
	} {
		c.config.Getenv = func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
		c.config.File = func(name string) ([]string, string) {
			if v, ok := c.file[name]; ok {
				return []string{v}, "hubhook.yaml"
			}
			return nil, ""
		}
		s, err := New(c.config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		r := &run{Server: s}
		if got := r.undecided(); got != c.want {
			t.Errorf("%s: undecided %t, want %t", c.name, got, c.want)
		}
		if r.canAsk() {
			t.Errorf("%s: it would ask without a terminal", c.name)
		}
	}
}

// Each way can be taken with the command that is printed for it, says who can read what passes, and fits on a line.
func TestOffers(t *testing.T) {
	t.Parallel()
	all := offers()
	if last := all[len(all)-1]; last.Name != wayNone || all[0].Name != "ngrok" {
		t.Errorf("they go from %s to %s", all[0].Name, last.Name)
	}
	for i, o := range all {
		if o.provider != "" && !strings.HasSuffix(o.Offer, "can read what passes") {
			t.Errorf("%s does not say who can read what passes: %s", o.Name, o.Offer)
		}
		if len(o.Offer) > 75 {
			t.Errorf("%s takes %d characters", o.Name, len(o.Offer))
		}
		for _, answer := range []string{o.Name, strings.ToUpper(o.Name), " " + string(rune('1'+i)) + " "} {
			if got, ok := pick(all, answer); !ok || got.Name != o.Name {
				t.Errorf("the answer %q is %s, want %s", answer, got.Name, o.Name)
			}
		}
		provider, _ := tunnel.Lookup(o.provider)
		i := slices.IndexFunc(provider.Flags, func(f tunnel.Flag) bool { return f.Name == o.Flag })
		if o.Value != "" && (i < 0 || !slices.Contains(provider.Flags[i].Words, o.Value)) {
			t.Errorf("%s: the provider does not know --%s %s", o.Name, o.Flag, o.Value)
		}
		if o.Flag != "" && !o.Secret && !provider.Flags[i].Chooses {
			t.Errorf("%s: --%s does not choose the provider", o.Name, o.Flag)
		}
	}
	for _, wrong := range []string{"0", "-1", "99", "y", "1 2", "ngrok token"} {
		if got, ok := pick(all, wrong); ok {
			t.Errorf("the answer %q is %s", wrong, got.Name)
		}
	}
	if got, ok := pick(all, ""); !ok || got.Name != wayNone {
		t.Errorf("Enter alone is %s", got.Name)
	}
}

// An answer sets the provider's flag, and leaves the others as they are set.
func TestProviderOfAnAnswer(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Getenv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	r := &run{Server: s}
	for _, o := range offers() {
		if o.provider == "" {
			continue
		}
		if got := r.provider(choice{offer: o, value: "something"}).Name(); got != o.provider {
			t.Errorf("%s is opened by %s, want %s", o.Name, got, o.provider)
		}
	}
}
