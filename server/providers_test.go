package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// paper is a provider that registers itself, with a flag that Config has no field for.
type paper struct{ tunnel.Settings }

const paperKey = "paper-key"

func (paper) Name() string { return "paper" }

func (p paper) Open(context.Context) (tunnel.Tunnel, error) {
	return nil, &tunnel.Error{Op: "open the paper tunnel", Cause: "no key", Err: tunnel.ErrNoCredential}
}

func init() {
	tunnel.Register(tunnel.Registration{
		Name:             "paper",
		Flags:            []tunnel.Flag{{Name: paperKey, Usage: "path of the `KEY`", File: true}},
		New:              func(s tunnel.Settings) tunnel.Provider { return paper{s} },
		NoCredential:     "there is no key",
		NoCredentialHint: "fold one",
	})
}

func TestAProvidersOwnSettings(t *testing.T) {
	for name, test := range map[string]struct {
		fields        Config
		env           map[string]string
		args          []string
		flag          string
		value, source string
	}{
		"flag":                {args: []string{"--paper-key", "a"}, env: map[string]string{"HUBHOOK_PAPER_KEY": "b"}, flag: paperKey, value: "a", source: "--paper-key"},
		"variable":            {env: map[string]string{"HUBHOOK_PAPER_KEY": "b"}, flag: paperKey, value: "b", source: "HUBHOOK_PAPER_KEY"},
		"nothing":             {flag: paperKey},
		"flag with a field":   {args: []string{"--ngrok-authtoken", "a"}, env: map[string]string{"HUBHOOK_NGROK_AUTHTOKEN": "b"}, flag: "ngrok-authtoken", value: "a", source: "--ngrok-authtoken"},
		"variable of a field": {env: map[string]string{"HUBHOOK_NGROK_AUTHTOKEN": "b", "NGROK_AUTHTOKEN": "c"}, flag: "ngrok-authtoken", value: "b", source: "HUBHOOK_NGROK_AUTHTOKEN"},
		"field":               {fields: Config{NgrokAuthtoken: "d"}, env: map[string]string{"HUBHOOK_NGROK_AUTHTOKEN": "b"}, flag: "ngrok-authtoken", value: "d", source: "Config.NgrokAuthtoken"},
		"flag over a field":   {fields: Config{NgrokConfig: "d"}, args: []string{"--ngrok-config", "a"}, flag: "ngrok-config", value: "a", source: "--ngrok-config"},
		"the provider's own":  {env: map[string]string{"NGROK_AUTHTOKEN": "c"}, flag: "ngrok-authtoken"},
	} {
		test.fields.Getenv = variables(test.env)
		c, err := parseInto(t, test.fields, test.args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if value, source := c.providerSetting(test.flag); value != test.value || source != test.source {
			t.Errorf("%s: %q from %q; want %q from %q", name, value, source, test.value, test.source)
		}
	}
}

// A provider that is chosen by its name gets what the user has set, and says itself what to do where its credential is missing.
func TestAProviderByName(t *testing.T) {
	var said safeBuilder
	c := Config{Errors: &said, Getenv: variables(map[string]string{"HUBHOOK_TUNNEL": "paper", "HUBHOOK_URL": "me.example", "HUBHOOK_PAPER_KEY": "a", "PAPER_URL": "x"})}
	s := newServer(t, c)
	s.settings.NoTunnel = false // which go test sets
	s.openScreen()
	r := &run{Server: s}
	p, ok := r.provider(choice{}).(paper)
	if key, source := p.Value(paperKey); !ok || p.URL != "me.example" || key != "a" || source != "HUBHOOK_PAPER_KEY" || p.Getenv("PAPER_URL") != "x" || p.Prove == nil || p.Version == "" {
		t.Errorf("settings: %+v, key %q from %q", p.Settings, key, source)
	}
	_, err := p.Open(t.Context())
	if again := r.showFailure(p, err); again || !errors.Is(err, tunnel.ErrNoCredential) {
		t.Errorf("it is tried again: %v", err)
	}
	if err := s.screen.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "hubhook: opening the paper tunnel: there is no key\n  hint: fold one\n"; !strings.Contains(said.String(), want) {
		t.Errorf("said:\n%s\nwant %s", said.String(), want)
	}
}

// The flag that names an SSH server chooses its tunnel, unless another one is named.
func TestAFlagThatChoosesItsTunnel(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":         {nil, "ngrok"},
		"server":          {map[string]string{"HUBHOOK_SSH": "localhost.run"}, "ssh"},
		"server and name": {map[string]string{"HUBHOOK_SSH": "localhost.run", "HUBHOOK_TUNNEL": "ngrok"}, "ngrok"},
		"its key alone":   {map[string]string{"HUBHOOK_SSH_KEY": "id"}, "ngrok"},
	} {
		s := newServer(t, Config{Getenv: variables(test.env)})
		if s.settings.Tunnel != test.want {
			t.Errorf("%s: tunnel %s, want %s", name, s.settings.Tunnel, test.want)
		}
	}
}
