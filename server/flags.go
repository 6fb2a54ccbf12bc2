package server

import (
	"flag"
	"fmt"
	"strconv"
	"time"
)

// Flags defines the flags of `hubhook serve` that set c's fields. Server.Main and the command line both use it, so a program of one's own
// has the same flags as the hubhook binary.
func (c *Config) Flags(fs *flag.FlagSet) {
	given := func(name string, set func(string) error) func(string) error {
		return func(v string) error {
			if err := set(v); err != nil {
				return err
			}
			if c.given == nil {
				c.given = map[string]bool{}
			}
			c.given[name] = true
			return nil
		}
	}
	text := func(field *string, name, usage string) {
		fs.Func(name, usage, given(name, func(v string) error {
			if v == "" {
				return fmt.Errorf("the value is empty")
			}
			*field = v
			return nil
		}))
	}
	toggle := func(field *bool, name, usage string) {
		fs.BoolFunc(name, usage, given(name, func(v string) (err error) {
			*field, err = strconv.ParseBool(v)
			return err
		}))
	}
	wait := func(field *time.Duration, name, usage string) {
		fs.Func(name, usage, given(name, func(v string) (err error) {
			*field, err = parseWait(name, v)
			return err
		}))
	}
	count := func(field *int, name, usage string) {
		fs.Func(name, usage, given(name, func(v string) (err error) {
			if *field, err = strconv.Atoi(v); err != nil || *field < 1 {
				return fmt.Errorf("want a number above 0, have %q", v)
			}
			return nil
		}))
	}

	text(&c.port, "port", "local `PORT` (default 7860, or the next free one up to 7959)")
	text(&c.host, "host", "local `ADDR` to listen on (default 127.0.0.1)")
	text(&c.Data, "data", "data `DIR`, where deliveries are stored (default one for each program and working directory)")
	text(&c.Database, "database", "`URL` of a PostgreSQL database in which several processes keep deliveries together, postgres://...; others can see it in the list of processes, so HUBHOOK_DATABASE is better")
	fs.Func("secret", "webhook `SECRET` to accept, as in the webhook's settings on the Hub; repeat it while one replaces another", given("secret", func(v string) error {
		c.Secrets = append(c.Secrets, v)
		return nil
	}))
	text(&c.Inspector, "inspector", "loopback `ADDR` of the inspector, or off (default 127.0.0.1:7861, or the next free port)")
	wait(&c.ReplyWithin, "reply-within", "wait this `DURATION` for the handler before answering 202; 0 never waits (default 3s)")
	text(&c.Answer, "answer", "answer 2xx `WHEN` a delivery is stored, or only when it is handled: for disks that don't outlive a restart (default stored)")
	toggle(&c.NoTunnel, "no-tunnel", "open no public URL, and use the defaults of production")
	text(&c.Tunnel, "tunnel", fmt.Sprintf("`NAME` of the tunnel provider (default %s)", providerNames()[0]))
	text(&c.URL, "url", "public `URL` or domain to ask the tunnel provider for")
	text(&c.PublicURL, "public-url", "`URL` from which something else forwards to hubhook; opens no tunnel")
	c.providerFlags(text)
	wait(&c.ExitOnDown, "exit-on-down", "exit with an error once the tunnel has been down for this `DURATION` (default never)")
	wait(&c.Keep, "keep", "keep finished deliveries for this `DURATION` (default 168h)")
	count(&c.KeepCount, "keep-count", "keep at most `N` finished deliveries, dead ones not counted (default 100000)")
	count(&c.MaxWaiting, "max-waiting", "refuse deliveries with 503 while `N` wait already (default 100000)")
	toggle(&c.JSON, "json", "print one JSON object a line instead of banner and event lines")
	toggle(&c.Fresh, "fresh", "discard what an earlier run left unfinished; not with --database")
}
