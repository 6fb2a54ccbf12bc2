package ngrok

import (
	"errors"
	"net/http"

	"github.com/hubhook/hubhook/tunnel"
)

// The flags of this provider, beside those that all have.
const (
	authtokenFlag = "ngrok-authtoken"
	configFlag    = "ngrok-config"
)

func init() {
	tunnel.Register(tunnel.Registration{
		Name:    name,
		Default: true,
		Usage: `The public URL is an ngrok tunnel: set NGROK_AUTHTOKEN, or have ngrok set up on
this machine. Without either hubhook serves locally and says what to do.`,
		Flags: []tunnel.Flag{
			{Name: authtokenFlag, Usage: "ngrok `TOKEN`; other users can see a flag, so use NGROK_AUTHTOKEN or ngrok.yml instead"},
			{Name: configFlag, Usage: "path of ngrok's configuration `FILE`", File: true},
		},
		New:          func(s tunnel.Settings) tunnel.Provider { return New(chosen(s)) },
		Steps:        func(s tunnel.Settings) []tunnel.Step { return New(chosen(s)).steps() },
		NoCredential: "no ngrok authtoken was found, so only this machine can reach the endpoints",
		NoCredentialHint: `for a public URL get a free token at ` + tokenPage + `,
then start again with NGROK_AUTHTOKEN=TOKEN set (once for good: ngrok config add-authtoken TOKEN)`,
		HasCredential: func(s tunnel.Settings) bool {
			_, err := chosen(s).settings()
			return !errors.Is(err, tunnel.ErrNoCredential)
		},
		Ways: []tunnel.Way{{
			Name: name, Offer: "needs a free account; the URL stays; ngrok can read what passes",
			Flag: authtokenFlag, Question: "The authtoken of your ngrok account, from " + tokenPage, Want: "TOKEN",
			Secret: true, Keep: "the token is not stored; to keep it: ngrok config add-authtoken TOKEN, or set NGROK_AUTHTOKEN",
		}},
		// Without it a free account's public side answers with a page of warning for people.
		Header: http.Header{"Ngrok-Skip-Browser-Warning": {"1"}},
		Code:   codeIn,
	})
}

// chosen is the configuration of a user who has chosen this provider by its name.
func chosen(s tunnel.Settings) Config {
	token, source := s.Value(authtokenFlag)
	file, _ := s.Value(configFlag)
	return Config{
		Authtoken:       token,
		AuthtokenSource: source,
		ConfigFile:      file,
		URL:             s.URL,
		Getenv:          s.Getenv,
		Version:         s.Version,
		Prove:           s.Prove,
		Connecting:      s.Connecting,
	}
}
