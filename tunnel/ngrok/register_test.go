package ngrok

import (
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// TestChosenByName has the settings of a user who chose the provider by its name: from flags, or from ngrok's own variables.
func TestChosenByName(t *testing.T) {
	t.Parallel()
	r, ok := tunnel.Lookup("ngrok")
	if def, _ := tunnel.Lookup(""); !ok || def.Name != "ngrok" {
		t.Fatalf("registered: %v, by default %q", ok, def.Name)
	}
	values := map[string]string{}
	settingsOf := func(url string, env map[string]string) (settings, error) {
		p := r.New(tunnel.Settings{
			URL: url,
			Value: func(flag string) (string, string) {
				if v := values[flag]; v != "" {
					return v, "--" + flag
				}
				return "", ""
			},
			Getenv: func(name string) string { return env[name] },
		})
		return p.(*Provider).config.settings()
	}
	s, err := settingsOf("", map[string]string{"NGROK_AUTHTOKEN": "from_env", "NGROK_DOMAIN": "me.ngrok.app"})
	if err != nil || s.credential != (credential{"from_env", "NGROK_AUTHTOKEN"}) || s.url != "https://me.ngrok.app" {
		t.Errorf("from the environment: %+v, %v", s, err)
	}
	values["ngrok-authtoken"] = "from_flag"
	s, err = settingsOf("other.ngrok.app", map[string]string{"NGROK_AUTHTOKEN": "from_env", "NGROK_DOMAIN": "me.ngrok.app"})
	if err != nil || s.credential != (credential{"from_flag", "--ngrok-authtoken"}) || s.url != "https://other.ngrok.app" {
		t.Errorf("from flags: %+v, %v", s, err)
	}
	values["ngrok-config"] = "/gone/ngrok.yml"
	if _, err = settingsOf("", nil); err == nil || !strings.Contains(err.Error(), "/gone/ngrok.yml") {
		t.Errorf("a file that is not there: %v", err)
	}
	if code := r.Code("Gone.\n\nerr_ngrok_3200\n"); code != "ERR_NGROK_3200" {
		t.Errorf("code %q", code)
	}
	for _, f := range r.Flags {
		if !strings.HasPrefix(f.Name, r.Name+"-") || strings.Count(f.Usage, "`") != 2 {
			t.Errorf("flag: %+v", f)
		}
	}
}
