package cloudflared

import (
	"os/exec"

	"github.com/hubhook/hubhook/tunnel"
)

const configFlag = "cloudflared-config"

func init() {
	tunnel.Register(tunnel.Registration{
		Name: name,
		Usage: `With --tunnel cloudflared Cloudflare's program of that name opens it, where
it is installed: no account, and another name at each start.`,
		Flags: []tunnel.Flag{
			{Name: configFlag, Usage: "path of a configuration `FILE` of cloudflared with a tunnel of your account; --url names its public host", File: true, Chooses: true},
		},
		New:   func(s tunnel.Settings) tunnel.Provider { return New(chosen(s)) },
		Steps: func(s tunnel.Settings) []tunnel.Step { return New(chosen(s)).steps() },
		Ways: []tunnel.Way{{
			Name: name, Offer: "no account; another URL at each start; Cloudflare can read what passes",
			Ready: func() bool {
				_, err := exec.LookPath(name)
				return err == nil
			},
		}},
	})
}

// chosen is the configuration of a user who has chosen this provider by its name.
func chosen(s tunnel.Settings) Config {
	file, _ := s.Value(configFlag)
	return Config{ConfigFile: file, URL: s.URL, Getenv: s.Getenv, Connecting: s.Connecting, Say: s.Say}
}
