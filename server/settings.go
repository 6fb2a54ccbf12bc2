package server

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/env"
)

// A setting is described once, for all places where it can be set: a flag, a field of Config, variables, a configuration file.
type setting struct {
	name      string   // of the flag, and the key in a file; env.Variable makes the variable's of it
	field     string   // of Config, for messages
	customary []string // variables that programs of all kinds have for this, read after hubhook's own
	commas    bool     // a variable has several values, separated by commas, and an empty one counts
	initial   string   // the value where nothing sets it, written as a flag's; "" where that takes more than a word to say
	toggle    bool     // the flag needs no value
	help      string   // of the flag, without initial; "" where there is no flag
	in        func(*Config) value
}

// everySetting returns all settings, those of the registered providers last. What only a program can set is a field of Config alone.
func everySetting() []*setting {
	providers := providerNames()
	return append([]*setting{
		{name: "port", field: "Addr", customary: []string{env.Port}, in: func(c *Config) value { return textIn(&c.port) },
			help: "local `PORT` (default 7860, or the next free one up to 7959)"},
		{name: "host", field: "Addr", in: func(c *Config) value { return textIn(&c.host) },
			help: "local `ADDR` to listen on (default 127.0.0.1)"},
		{name: "data", field: "Data", in: func(c *Config) value { return textIn(&c.Data) },
			help: "data `DIR`, where deliveries are stored (default one for each program and working directory)"},
		{name: "database", field: "Database", in: func(c *Config) value { return textIn(&c.Database) },
			help: "`URL` of a PostgreSQL database in which several processes keep deliveries together, postgres://...; other users can see a flag, so set HUBHOOK_DATABASE instead"},
		{name: "secret", field: "Secrets", customary: []string{env.WebhookSecret}, commas: true, in: func(c *Config) value { return listIn(&c.Secrets) },
			help: "webhook `SECRET` to accept, as in the webhook's settings on the Hub; repeatable, while you change it"},
		{name: "inspector", field: "Inspector", in: func(c *Config) value { return textIn(&c.Inspector) },
			help: "loopback `ADDR` of the inspector, or off (default 127.0.0.1:7861, or the next free port)"},
		{name: "inspector-token", field: "InspectorToken", in: func(c *Config) value { return textIn(&c.InspectorToken) }},
		{name: "reply-within", field: "ReplyWithin", initial: "3s", in: func(c *Config) value { return waitIn(&c.ReplyWithin) },
			help: "wait this `DURATION` for the handler before answering 202; 0 never waits"},
		{name: "answer", field: "Answer", initial: answerStored, in: func(c *Config) value { return textIn(&c.Answer) },
			help: "`WHEN` to answer 2xx: stored, once a delivery is stored; or handled, once it is handled, for disks that don't outlive a restart"},
		{name: "no-tunnel", field: "NoTunnel", toggle: true, in: func(c *Config) value { return toggleIn(&c.NoTunnel) },
			help: "open no public URL, and use the defaults of production"},
		{name: "tunnel", field: "Tunnel", initial: providers[0], in: func(c *Config) value { return textIn(&c.Tunnel) },
			help: "`NAME` of the tunnel provider: " + strings.Join(providers, ", ") + "; or " + askTunnel + ", to choose again on the terminal"},
		{name: "url", field: "URL", in: func(c *Config) value { return textIn(&c.URL) },
			help: "public `URL` or domain to ask the tunnel provider for"},
		{name: "public-url", field: "PublicURL", in: func(c *Config) value { return textIn(&c.PublicURL) },
			help: "`URL` from which something else forwards to hubhook; opens no tunnel"},
		{name: "watch", field: "Watch", commas: true, in: func(c *Config) value { return listIn(&c.Watch) },
			help: "keep a webhook of yours on the Hub that watches `TYPE:NAME`, with HF_TOKEN; ENDPOINT=TYPE:NAME for one endpoint; repeatable"},
		{name: "webhook", field: "Webhooks", commas: true, in: func(c *Config) value { return listIn(&c.Webhooks) },
			help: "borrow the Hub's webhook `ID` while hubhook runs: it posts here meanwhile, and gets its URL back at the end; ENDPOINT=ID with several endpoints; repeatable"},
		{name: "follow", field: "Follow", commas: true, in: func(c *Config) value { return listIn(&c.Follow) },
			help: "read `TYPE:NAME` on the Hub and make the deliveries that a webhook would have brought; needs no webhook and no tunnel; ENDPOINT=TYPE:NAME for one endpoint; repeatable"},
		{name: "follow-every", field: "FollowEvery", initial: "60s", in: func(c *Config) value { return durationIn(&c.FollowEvery) },
			help: "look at followed repos every `DURATION`, 10s at least"},
		{name: "catch-up", field: "CatchUp", toggle: true, in: func(c *Config) value { return toggleIn(&c.CatchUp) },
			help: "with --watch or --webhook: read on the Hub what happened to the watched repos while no delivery came, and deliver it"},
		{name: "exit-on-down", field: "ExitOnDown", in: func(c *Config) value { return durationIn(&c.ExitOnDown) },
			help: "exit with an error once the tunnel has been down for this `DURATION` (default never)"},
		{name: "keep", field: "Keep", initial: "168h", in: func(c *Config) value { return durationIn(&c.Keep) },
			help: "keep finished deliveries for this `DURATION`"},
		{name: "keep-count", field: "KeepCount", initial: "100000", in: func(c *Config) value { return countIn(&c.KeepCount) },
			help: "keep at most `N` finished deliveries, dead ones not counted"},
		{name: "max-waiting", field: "MaxWaiting", initial: "100000", in: func(c *Config) value { return countIn(&c.MaxWaiting) },
			help: "refuse deliveries with 503 while `N` are waiting"},
		{name: "json", field: "JSON", toggle: true, in: func(c *Config) value { return toggleIn(&c.JSON) },
			help: "print one JSON object a line instead of banner and event lines"},
		{name: "fresh", field: "Fresh", toggle: true, in: func(c *Config) value { return toggleIn(&c.Fresh) },
			help: "discard what an earlier run left unfinished; not with --database"},
	}, providerSettings()...)
}

// Flags defines the flags of `hubhook serve` in fs. Parsing them sets c's fields; a flag that is not given leaves its field alone. [Main]
// does this for its own Config.
func (c *Config) Flags(fs *flag.FlagSet) {
	for _, s := range everySetting() {
		if s.help == "" {
			continue
		}
		set := func(text string) error {
			if text == "" && !s.commas {
				return errors.New("the value is empty")
			}
			if err := s.in(c).set(text); err != nil {
				return err
			}
			if c.given == nil {
				c.given = map[string]bool{}
			}
			c.given[s.name] = true
			return nil
		}
		define, help := fs.Func, s.help
		if s.toggle {
			define = fs.BoolFunc
		}
		if s.initial != "" {
			help += " (default " + s.initial + ")"
		}
		define(s.name, help, set)
	}
}

// A layer is a place where settings may be found. It returns the values of one, nil where it has none, and the name of the place, as
// messages call it.
type layer func(*setting) (values []string, place string)

// environment is the layer of the variables that names returns for a setting.
func environment(getenv func(string) (string, bool), names func(*setting) []string) layer {
	return func(s *setting) ([]string, string) {
		for _, name := range names(s) {
			text, ok := getenv(name)
			switch {
			case s.commas && ok:
				return strings.Split(text, ","), name
			case text != "":
				return []string{text}, name
			}
		}
		return nil, ""
	}
}

// initialValues is the last layer.
func initialValues(s *setting) ([]string, string) {
	if s.initial == "" {
		return nil, ""
	}
	return []string{s.initial}, ""
}

// fill sets what the program and its flags have left unset, each setting from the first layer that has it. It returns the place where each one
// was set.
func (c *Config) fill(layers ...layer) (places map[string]string, err error) {
	places = map[string]string{}
	for _, s := range everySetting() {
		v := s.in(c)
		switch {
		case c.given[s.name]:
			places[s.name] = "--" + s.name
			continue
		case v.isSet:
			places[s.name] = "Config." + s.field
			continue
		}
		for _, find := range layers {
			values, place := find(s)
			if values == nil {
				continue
			}
			for _, text := range values {
				if err := v.set(text); err != nil {
					return nil, &ConfigError{text: fmt.Sprintf("%s: %v", place, err), hint: fmt.Sprintf("set %s to %s, or leave it unset", place, v.want)}
				}
			}
			places[s.name] = place
			break
		}
	}
	return places, nil
}

// A value is a field of one Config.
type value struct {
	isSet bool               // is not zero
	set   func(string) error // parses what a flag has; the error does not say which one
	want  string             // what set takes, where it doesn't take everything
}

func textIn(field *string) value {
	return value{isSet: *field != "", set: func(text string) error {
		*field = text
		return nil
	}}
}

// listIn is a list, to which set appends.
func listIn(field *[]string) value {
	return value{isSet: len(*field) > 0, set: func(text string) error {
		*field = append(slices.Clip(*field), text)
		return nil
	}}
}

func toggleIn(field *bool) value {
	v := value{isSet: *field, want: "true or false"}
	v.set = func(text string) (err error) {
		if *field, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("%q is not %s", text, v.want)
		}
		return nil
	}
	return v
}

func countIn(field *int) value {
	v := value{isSet: *field != 0, want: "a number above 0"}
	v.set = func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("want %s, have %q", v.want, text)
		}
		*field = n
		return nil
	}
	return v
}

func durationIn(field *time.Duration) value {
	v := value{isSet: *field != 0, want: "a duration such as 3s, 2m or 168h"}
	v.set = func(text string) error {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not %s", text, v.want)
		case d <= 0:
			return fmt.Errorf("want a duration above 0, have %q", text)
		}
		*field = d
		return nil
	}
	return v
}

// waitIn is a duration that may be 0. As 0 is the default in Config, a negative one stands for it there.
func waitIn(field *time.Duration) value {
	v := durationIn(field)
	above := v.set
	v.set = func(text string) error {
		if d, err := time.ParseDuration(text); err == nil && d == 0 {
			*field = -1
			return nil
		}
		return above(text)
	}
	return v
}
