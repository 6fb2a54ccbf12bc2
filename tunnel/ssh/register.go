package ssh

import (
	"github.com/hubhook/hubhook/tunnel"
)

// The flags of this provider, beside those that all have.
const (
	serverFlag  = "ssh"
	keyFlag     = "ssh-key"
	forwardFlag = "ssh-forward"
)

func init() {
	tunnel.Register(tunnel.Registration{
		Name: name,
		Usage: `With --ssh it comes from an SSH server that forwards: localhost.run, pinggy or
serveo, free and without an account, or a server of your own.`,
		Flags: []tunnel.Flag{
			{Name: serverFlag, Usage: "SSH `SERVER` that forwards to hubhook: localhost.run, pinggy, serveo, or [user@]host[:port]; chooses --tunnel ssh", Words: serviceNames(), Chooses: true},
			{Name: keyFlag, Usage: "private key `FILE` to log in with (default the agent's keys, then ~/.ssh/id_ed25519, id_ecdsa and id_rsa)", File: true},
			{Name: forwardFlag, Usage: "`[HOST:]PORT` that the SSH server is asked to listen on (default what the service wants, or any free port)"},
		},
		New:              func(s tunnel.Settings) tunnel.Provider { return New(chosen(s)) },
		Steps:            func(s tunnel.Settings) []tunnel.Step { return New(chosen(s)).steps() },
		NoCredential:     "no SSH server is named, so only this machine can reach the endpoints",
		NoCredentialHint: chooseServer,
		Ways: []tunnel.Way{
			{Name: "localhost.run", Flag: serverFlag, Value: "localhost.run", Offer: "no account; the URL changes after hours; localhost.run can read what passes"},
			{Name: "pinggy", Flag: serverFlag, Value: "pinggy", Offer: "no account; a new URL each hour; pinggy can read what passes"},
			{Name: "serveo", Flag: serverFlag, Value: "serveo", Offer: "no account; the URL may change; serveo can read what passes"},
			{Name: name, Flag: serverFlag, Question: "Which server? Write it as [user@]host[:port]", Want: "[user@]host[:port]",
				Offer: "an SSH server of your own; whoever runs it can read what passes"},
		},
	})
}

// chosen is the configuration of a user who has chosen this provider by its name.
func chosen(s tunnel.Settings) Config {
	value := func(flag string) string { v, _ := s.Value(flag); return v }
	return Config{
		Server:     value(serverFlag),
		KeyFile:    value(keyFlag),
		Forward:    value(forwardFlag),
		URL:        s.URL,
		Getenv:     s.Getenv,
		Prove:      s.Prove,
		Connecting: s.Connecting,
		Say:        s.Say,
		Ask:        s.Ask,
	}
}
