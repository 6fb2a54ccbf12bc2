package server

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel"
)

// variables makes a Getenv of a map.
func variables(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

func parse(t *testing.T, env map[string]string, args ...string) (settings, error) {
	t.Helper()
	return parseInto(t, Config{Getenv: variables(env)}, args...)
}

func parseInto(t *testing.T, c Config, args ...string) (settings, error) {
	t.Helper()
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.Flags(fs)
	if err := fs.Parse(args); err != nil {
		return settings{}, err
	}
	return c.resolve()
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

// A setting that all places have comes from the first; without that one, from the next, and so on.
func TestTheOrderOfThePlacesWhereSettingsAre(t *testing.T) {
	for _, of := range []struct {
		setting string
		values  []string // in the order of places
		get     func(settings) string
	}{
		{"keep", []string{"1h", "2h", "", "3h", "168h"}, func(s settings) string { return strings.TrimSuffix(s.Keep.String(), "0m0s") }},
		{"url", []string{"flag.app", "own.app", "", "file.app", ""}, func(s settings) string { return s.URL }},
		{"json", []string{"false", "true", "", "true", "false"}, func(s settings) string { return strconv.FormatBool(s.JSON) }},
		{"secret", []string{"flag", "own,ed", "custom,ary", "a,file", ""}, func(s settings) string { return strings.Join(s.Secrets, ",") }},
		{"port", []string{"1", "2", "3", "4", "7860"}, func(s settings) string { return strconv.Itoa(s.localPort) }},
	} {
		const flags, own, customary, file, initial = 0, 1, 2, 3, 4
		places := map[int]string{flags: "--" + of.setting, own: env.Variable(of.setting), file: "a file, line 1"}
		if names := described(t, of.setting).customary; len(names) > 0 {
			places[customary] = names[0]
		}
		for first := flags; first <= initial; first++ {
			// All places but those before first have it.
			env := map[string]string{}
			for _, place := range []int{own, customary} {
				if first <= place && places[place] != "" {
					env[places[place]] = of.values[place]
				}
			}
			c := Config{Getenv: variables(env)}
			if first <= file {
				c.File = func(name string) ([]string, string) {
					if name != of.setting {
						return nil, ""
					}
					return strings.Split(of.values[file], ","), places[file]
				}
			}
			var args []string
			if first == flags {
				args = []string{"--" + of.setting + "=" + of.values[flags]}
			}
			s, err := parseInto(t, c, args...)
			at := first
			if at == customary && places[customary] == "" {
				at = file
			}
			if err != nil || of.get(s) != of.values[at] || s.places[of.setting] != places[at] {
				t.Errorf("%s is %s, from %q (%v); want %s from %q", of.setting, of.get(s), s.places[of.setting], err, of.values[at], places[at])
			}
		}
	}
}

// described is the description of a setting.
func described(t *testing.T, name string) *setting {
	t.Helper()
	for _, s := range everySetting() {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("there is no setting %s", name)
	return nil
}

func TestAFieldCountsMoreThanAVariableAndAFlagMoreThanAField(t *testing.T) {
	env := variables(map[string]string{"HUBHOOK_KEEP": "1h", "HUBHOOK_PORT": "1", "HUBHOOK_HOST": "10.0.0.1", "HUBHOOK_SECRET": "variable"})
	fields := Config{Getenv: env, Keep: 2 * time.Hour, Addr: "127.0.0.2:2", Secrets: []string{"field"}}
	s, err := parseInto(t, fields)
	if err != nil || s.Keep != 2*time.Hour || s.localHost != "127.0.0.2" || s.localPort != 2 || strings.Join(s.Secrets, "|") != "field" || s.places["keep"] != "Config.Keep" {
		t.Errorf("from fields: %v %+v", err, s)
	}
	s, err = parseInto(t, fields, "--keep=3h", "--port=3")
	if err != nil || s.Keep != 3*time.Hour || s.localHost != "127.0.0.2" || s.localPort != 3 {
		t.Errorf("from fields and flags: %v %+v", err, s)
	}
	for addr, want := range map[string]string{":2": "0.0.0.0:2", "127.0.0.2:": "127.0.0.2:1", "[::1]:0": "::1:0"} {
		s, err := parseInto(t, Config{Getenv: env, Addr: addr})
		if got := fmt.Sprintf("%s:%d", s.localHost, s.localPort); err != nil || got != want {
			t.Errorf("Addr %q: %v %s; want %s", addr, err, got, want)
		}
	}
}

func TestAProvidersFlagNeedsNoField(t *testing.T) {
	var c Config
	if err := c.providerValue("pigeon-loft").set("north"); err != nil {
		t.Fatal(err)
	}
	other := c
	if err := other.providerValue("pigeon-loft").set("south"); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Config{"north": c, "south": other} {
		s := settings{Config: c, places: map[string]string{"pigeon-loft": "--pigeon-loft"}}
		if value, place := s.providerSetting("pigeon-loft"); value != want || place != "--pigeon-loft" || !c.providerValue("pigeon-loft").isSet {
			t.Errorf("%q from %q; want %q", value, place, want)
		}
	}
	for want, args := range map[string][]string{"--ngrok-config": {"--ngrok-config", "a.yml"}, "HUBHOOK_NGROK_CONFIG": nil} {
		s, err := parse(t, map[string]string{"HUBHOOK_NGROK_CONFIG": "a.yml"}, args...)
		if value, place := s.providerSetting("ngrok-config"); err != nil || value != "a.yml" || place != want {
			t.Errorf("%v: %q from %q; want it from %s", err, value, place, want)
		}
	}
}

func TestResolvingLeavesTheCallersSecretsAlone(t *testing.T) {
	mine := make([]string, 1, 2)
	mine[0] = " padded "
	if _, err := (Config{Getenv: variables(nil), Secrets: mine}).resolve(); err != nil || mine[0] != " padded " {
		t.Errorf("%q, %v", mine, err)
	}
	if s, err := parseInto(t, Config{Getenv: variables(nil), Secrets: mine}, "--secret", "b"); err != nil || strings.Join(s.Secrets, "|") != "padded|b" || mine[:2][1] != "" {
		t.Errorf("%q %q, %v", s.Secrets, mine[:2], err)
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

// A program under hubhook dev is in no Space, though its variables say so, for the sake of WebhooksServer.
func TestAProgramUnderDevIsInNoSpace(t *testing.T) {
	c, err := parse(t, map[string]string{"SPACE_ID": "hubhook/dev", "SPACE_HOST": "me.ngrok.app", "PORT": "99", "HUBHOOK_NO_TUNNEL": "1", "HUBHOOK_DEV": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if c.localHost != "127.0.0.1" || c.localPort != 99 || c.inSpace || c.spaceHost != "me.ngrok.app" {
		t.Errorf("%+v", c)
	}
	// Attempts and repeats are left to hubhook dev, which opens the tunnel.
	if c.production() || c.opensTunnel() {
		t.Errorf("production %t, opens a tunnel %t", c.production(), c.opensTunnel())
	}
}

func TestWrongSettingsAreNamedAndHinted(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want string
		hint bool
	}{
		"empty variable":       {env: map[string]string{"WEBHOOK_SECRET": ""}, want: "WEBHOOK_SECRET: the webhook secret is empty", hint: true},
		"empty in a list":      {env: map[string]string{"WEBHOOK_SECRET": "a,,b"}, want: "WEBHOOK_SECRET", hint: true},
		"empty flag":           {args: []string{"--secret", ""}, want: "--secret", hint: true},
		"secret not ASCII":     {args: []string{"--secret", "sécret"}, want: "not printable ASCII", hint: true},
		"port":                 {args: []string{"--port", "http"}, want: `--port: "http" is no port`, hint: true},
		"port variable":        {env: map[string]string{"PORT": "70000"}, want: "PORT", hint: true},
		"public inspector":     {args: []string{"--inspector", "0.0.0.0:7861"}, want: "not on the loopback", hint: true},
		"inspector no port":    {args: []string{"--inspector", "localhost"}, want: "inspector address", hint: true},
		"provider":             {args: []string{"--tunnel", "gradio"}, want: `tunnel "gradio"`, hint: true},
		"public URL":           {args: []string{"--public-url", "example.com"}, want: "no scheme", hint: true},
		"public URL of a file": {args: []string{"--public-url", "file://example.com"}, want: "neither https nor http", hint: true},
		"public URL, no host":  {args: []string{"--public-url", "https://:443"}, want: "can't be read", hint: true},
		"public URL, a path":   {args: []string{"--public-url", "https://example.com/webhooks/inbox"}, want: "more than a host", hint: true},
		"public URL, a query":  {args: []string{"--public-url", "https://example.com?secret=a"}, want: "more than a host in it, a query", hint: true},
		"public URL over http": {env: map[string]string{"HUBHOOK_PUBLIC_URL": "http://example.com:8080"}, want: "HUBHOOK_PUBLIC_URL: public URL \"http://example.com:8080\" is not https", hint: true},
		"public URL, a login":  {args: []string{"--public-url", "https://me:pass@example.com"}, want: "a user name or a password", hint: true},
		"duration variable":    {env: map[string]string{"HUBHOOK_KEEP": "a week"}, want: "HUBHOOK_KEEP"},
		"duration flag":        {args: []string{"--keep", "-1h"}, want: "above 0"},
		"toggle variable":      {env: map[string]string{"HUBHOOK_NO_TUNNEL": "maybe"}, want: "HUBHOOK_NO_TUNNEL"},
		"number variable":      {env: map[string]string{"HUBHOOK_MAX_WAITING": "0"}, want: "HUBHOOK_MAX_WAITING"},
		"answer":               {args: []string{"--answer", "now"}, want: `answer "now"`, hint: true},
		"answer variable":      {env: map[string]string{"HUBHOOK_ANSWER": "later"}, want: `answer "later"`, hint: true},
		"database scheme":      {args: []string{"--database", "mysql://me:p4ss@db/hooks"}, want: "not the URL of a PostgreSQL database", hint: true},
		"database settings":    {args: []string{"--database", "host=db password=p4ss"}, want: "not the URL of a PostgreSQL database", hint: true},
		"database variable":    {env: map[string]string{"HUBHOOK_DATABASE": "postgres://me:p4ss%@db/hooks"}, want: "can't be read", hint: true},
		"database and fresh":   {args: []string{"--database", "postgres://me:p4ss@db/hooks", "--fresh"}, want: "--fresh can't go with --database", hint: true},
		"watched":              {args: []string{"--watch", "data"}, want: `--watch: read "data": want TYPE:NAME`, hint: true},
		"watched type":         {args: []string{"--watch", "paper:me/data"}, want: `unknown type "paper"`, hint: true},
		"watched variable":     {env: map[string]string{"HUBHOOK_WATCH": "dataset:me/data,user:a/b"}, want: "HUBHOOK_WATCH: ", hint: true},
		"watched endpoint":     {args: []string{"--watch", "a b=dataset:me/data"}, want: "--watch: ", hint: true},
		"webhook":              {args: []string{"--webhook", "https://huggingface.co/settings/webhooks/1"}, want: "is no ID of a webhook", hint: true},
		"webhook of nothing":   {args: []string{"--webhook", "train="}, want: "is no ID of a webhook", hint: true},
		"webhook twice":        {args: []string{"--webhook", "a=1", "--webhook", "b=1"}, want: "named twice", hint: true},
		"secret not repeated":  {args: []string{"--secret"}, want: "secret"},
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

func TestWrongFieldsAndFilesAreNamed(t *testing.T) {
	file := func(name string) ([]string, string) {
		if name == "keep" {
			return []string{"soon"}, "a file, line 3"
		}
		return nil, ""
	}
	for want, c := range map[string]Config{
		"Config.Keep: want 0 or more, have -1h0m0s": {Keep: -time.Hour},
		"Config.MaxBody: want 0 or more, have -1":   {MaxBody: -1},
		"Config.Secrets: the webhook secret is":     {Secrets: []string{""}},
		`Config.Addr: "http" is no port`:            {Addr: "127.0.0.1:http"},
		`Addr "localhost"`:                          {Addr: "localhost"},
		`a file, line 3: "soon" is not a duration`:  {File: file},
	} {
		c.Getenv = variables(nil)
		if _, err := c.resolve(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one that contains %q", err, want)
		}
	}
}

// Each field of Config says which variables are read in its place.
func TestVariablesAreDocumentedWhereTheirFieldIs(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if field, ok := n.(*ast.Field); ok && len(field.Names) == 1 {
			comments[field.Names[0].Name] = field.Doc.Text()
		}
		return true
	})
	for _, s := range everySetting() {
		if s.name == paperKey {
			continue // a provider's own, without a field
		}
		comment, ok := comments[s.field]
		if !ok {
			t.Errorf("setting %s: Config has no field %s", s.name, s.field)
		}
		for _, name := range append([]string{env.Variable(s.name)}, s.customary...) {
			if !strings.Contains(comment, name) {
				t.Errorf("the comment of Config.%s does not name %s", s.field, name)
			}
		}
	}
}

func TestSecretAndPublic(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		env    map[string]string
		secret string
		public bool
	}{
		"no tunnel":    {config: Config{NoTunnel: true}},
		"tunnel":       {config: Config{Provider: struct{ tunnel.Provider }{}, Secrets: []string{" first ", "second"}}, secret: "first", public: true},
		"public URL":   {config: Config{NoTunnel: true, PublicURL: "https://example.com"}, public: true},
		"in a Space":   {env: map[string]string{"SPACE_ID": "me/space", "WEBHOOK_SECRET": "one,two"}, secret: "one", public: true},
		"by variables": {env: map[string]string{"HUBHOOK_NO_TUNNEL": "1", "HUBHOOK_SECRET": "own"}, secret: "own"},
	} {
		test.config.Getenv = variables(test.env)
		s, err := New(test.config)
		if err != nil {
			t.Fatal(err)
		}
		if s.Secret() != test.secret || s.Public() != test.public {
			t.Errorf("%s: secret %q, public %t; want %q, %t", name, s.Secret(), s.Public(), test.secret, test.public)
		}
	}
}
