package server

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/text"
)

// variables makes a Getenv of a map.
func variables(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

func parse(t *testing.T, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	c := Config{Getenv: variables(env)}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.Flags(fs)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	return c.withDefaults()
}

func TestASettingComesFromTheFirstPlaceThatHasIt(t *testing.T) {
	env := map[string]string{
		"HUBHOOK_PORT": "1000", "PORT": "2000", "HUBHOOK_SECRET": "hub,hook", "WEBHOOK_SECRET": "web",
		"HUBHOOK_REPLY_WITHIN": "0", "HUBHOOK_KEEP_COUNT": "5", "HUBHOOK_JSON": "true",
	}
	c, err := parse(t, env)
	if err != nil {
		t.Fatal(err)
	}
	if c.localPort != 1000 || !c.portFixed || strings.Join(c.Secrets, "|") != "hub|hook" || c.ReplyWithin >= 0 || c.KeepCount != 5 || !c.JSON {
		t.Errorf("from variables: %+v", c)
	}
	c, err = parse(t, env, "--port", "3000", "--secret", "a", "--secret", "b", "--reply-within", "5s", "--json=false")
	if err != nil {
		t.Fatal(err)
	}
	if c.localPort != 3000 || strings.Join(c.Secrets, "|") != "a|b" || c.ReplyWithin != 5*time.Second || c.JSON {
		t.Errorf("from flags: %+v", c)
	}
	delete(env, "HUBHOOK_PORT")
	delete(env, "HUBHOOK_SECRET")
	if c, err = parse(t, env); err != nil || c.localPort != 2000 || c.Secrets[0] != "web" {
		t.Errorf("from the shared variables: %v %+v", err, c)
	}
	for _, url := range []string{"postgres://me:pass@db:5432/hooks", "postgresql://a:5432,b:5432/hooks?target_session_attrs=read-write", "postgres:///hooks?host=/run/postgresql"} {
		if c, err := parse(t, map[string]string{"HUBHOOK_DATABASE": url, "HUBHOOK_ANSWER": "handled"}); err != nil || c.Database != url || c.Answer != "handled" {
			t.Errorf("HUBHOOK_DATABASE: %v %q %q", err, c.Database, c.Answer)
		}
	}
	c, err = parse(t, nil)
	if err != nil || c.Answer != "stored" || c.localHost != "127.0.0.1" || c.localPort != 7860 || c.portFixed || c.ReplyWithin != 3*time.Second || c.MaxBody != 16<<20 {
		t.Errorf("defaults: %v %+v", err, c)
	}
}

func TestASpaceListensToTheWorldOnItsPortAndOpensNoTunnel(t *testing.T) {
	c, err := parse(t, map[string]string{"SPACE_ID": "me/bot", "SPACE_HOST": "me-bot.hf.space,bot.example", "PORT": "99"})
	if err != nil {
		t.Fatal(err)
	}
	if c.localHost != "0.0.0.0" || c.localPort != 7860 || !c.portFixed || !c.production() || c.spaceHost != "me-bot.hf.space" {
		t.Errorf("%+v", c)
	}
}

func TestWrongSettingsAreNamedAndHinted(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want string
		hint bool
	}{
		"empty variable":      {env: map[string]string{"WEBHOOK_SECRET": ""}, want: "WEBHOOK_SECRET: the webhook secret is empty", hint: true},
		"empty in a list":     {env: map[string]string{"WEBHOOK_SECRET": "a,,b"}, want: "WEBHOOK_SECRET", hint: true},
		"empty flag":          {args: []string{"--secret", ""}, want: "--secret", hint: true},
		"secret not ASCII":    {args: []string{"--secret", "sécret"}, want: "not printable ASCII", hint: true},
		"port":                {args: []string{"--port", "http"}, want: `--port: "http" is no port`, hint: true},
		"port variable":       {env: map[string]string{"PORT": "70000"}, want: "PORT", hint: true},
		"public inspector":    {args: []string{"--inspector", "0.0.0.0:7861"}, want: "not on the loopback", hint: true},
		"inspector no port":   {args: []string{"--inspector", "localhost"}, want: "inspector address", hint: true},
		"provider":            {args: []string{"--tunnel", "gradio"}, want: `tunnel "gradio"`, hint: true},
		"public URL":          {args: []string{"--public-url", "example.com"}, want: "no scheme", hint: true},
		"duration variable":   {env: map[string]string{"HUBHOOK_KEEP": "a week"}, want: "HUBHOOK_KEEP"},
		"duration flag":       {args: []string{"--keep", "-1h"}, want: "above 0"},
		"toggle variable":     {env: map[string]string{"HUBHOOK_NO_TUNNEL": "maybe"}, want: "HUBHOOK_NO_TUNNEL"},
		"number variable":     {env: map[string]string{"HUBHOOK_MAX_WAITING": "0"}, want: "HUBHOOK_MAX_WAITING"},
		"answer":              {args: []string{"--answer", "now"}, want: `answer "now"`, hint: true},
		"answer variable":     {env: map[string]string{"HUBHOOK_ANSWER": "later"}, want: `answer "later"`, hint: true},
		"database scheme":     {args: []string{"--database", "mysql://me:p4ss@db/hooks"}, want: "not the URL of a PostgreSQL database", hint: true},
		"database settings":   {args: []string{"--database", "host=db password=p4ss"}, want: "not the URL of a PostgreSQL database", hint: true},
		"database variable":   {env: map[string]string{"HUBHOOK_DATABASE": "postgres://me:p4ss%@db/hooks"}, want: "can't be read", hint: true},
		"database and fresh":  {args: []string{"--database", "postgres://me:p4ss@db/hooks", "--fresh"}, want: "--fresh can't go with --database", hint: true},
		"secret not repeated": {args: []string{"--secret"}, want: "secret"},
	} {
		_, err := parse(t, test.env, test.args...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v; want one that contains %q", name, err, test.want)
			continue
		}
		if said := err.Error() + text.Hint(err); strings.Contains(said, "sécret") || strings.Contains(said, "p4ss") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
		var wrong *ConfigError
		if test.hint && (!errors.As(err, &wrong) || text.Hint(err) == "") {
			t.Errorf("%s: no hint with %v", name, err)
		}
	}
}
