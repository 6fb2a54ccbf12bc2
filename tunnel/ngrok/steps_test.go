package ngrok_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// TestSteps takes the way to the service step by step, up to the first step that fails.
func TestSteps(t *testing.T) {
	t.Parallel()
	const wrong = "2nobodyKnowsThisToken_0123456789"
	for name, test := range map[string]struct {
		token  string
		change func(t *testing.T, edge *tunneltest.Edge, file string) (env []string)
		failed string            // the step, "" for none
		says   []string          // in its error
		fix    string            // in its hint
		found  map[string]string // by step, in what it found
	}{
		"all well": {token: tunneltest.DefaultToken, found: map[string]string{
			"credential": "ngrok.yml", "look-up": "127.0.0.1 is an address", "tcp": "is reached in", "tls": "connect_cas of", "service": "answers in", "session": "takes the authtoken",
		}},
		"a name": {token: tunneltest.DefaultToken, change: func(t *testing.T, e *tunneltest.Edge, file string) []string {
			rewrite(t, file, e.Addr(), strings.Replace(e.Addr(), "127.0.0.1", "localhost", 1))
			return nil
		}, found: map[string]string{"look-up": "localhost is "}},
		"a name that nobody knows": {token: tunneltest.DefaultToken, failed: "look-up", says: []string{"nowhere.invalid"}, fix: "name servers",
			change: func(t *testing.T, e *tunneltest.Edge, file string) []string {
				rewrite(t, file, e.Addr(), "nowhere.invalid:443")
				return nil
			}},
		"no token": {failed: "credential", says: []string{"no ngrok authtoken"}, fix: "NGROK_AUTHTOKEN"},
		"wrong token": {token: wrong, failed: "session", says: []string{"ERR_NGROK_107", "ngrok.yml"}, fix: "your-authtoken",
			found: map[string]string{"service": "answers in"}},
		"nothing listens": {token: tunneltest.DefaultToken, failed: "tcp", says: []string{"cannot be reached", "refused"}, fix: "connect_url",
			change: func(t *testing.T, e *tunneltest.Edge, file string) []string {
				rewrite(t, file, e.Addr(), nobody(t))
				return nil
			}},
		"another authority": {token: tunneltest.DefaultToken, failed: "tls", says: []string{"not signed by an authority that is trusted here"}, fix: "connect_cas",
			change: func(t *testing.T, e *tunneltest.Edge, file string) []string {
				rewrite(t, file, e.CAFile(), tunneltest.NewEdge(t, tunneltest.Options{}).CAFile())
				return nil
			}},
		"a proxy": {token: tunneltest.DefaultToken, change: func(t *testing.T, _ *tunneltest.Edge, file string) []string {
			return useProxy(t, file, tunneltest.NewProxy(t, tunneltest.ProxyOptions{}).URL().String())
		}, found: map[string]string{"look-up": "through the proxy http://", "session": "takes"}},
		"a proxy that refuses": {token: tunneltest.DefaultToken, failed: "tcp", says: []string{"407"}, fix: "proxy_url",
			change: func(t *testing.T, _ *tunneltest.Edge, file string) []string {
				proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{})
				proxy.Refuse(407)
				return useProxy(t, file, proxy.URL().String())
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edge := tunneltest.NewEdge(t, tunneltest.Options{})
			file := filepath.Join(t.TempDir(), "ngrok.yml")
			if err := edge.WriteConfig(file, test.token); err != nil {
				t.Fatal(err)
			}
			var env []string
			if test.change != nil {
				env = test.change(t, edge, file)
			}
			found, failed, err := take(t.Context(), file, environment(env...))
			if failed != test.failed {
				t.Fatalf("the step %q failed (%v); want %q", failed, err, test.failed)
			}
			for step, words := range test.found {
				if !strings.Contains(found[step], words) {
					t.Errorf("%s found %q; want it to say %q", step, found[step], words)
				}
			}
			if err == nil {
				_, total := edge.Sessions()
				if len(edge.URLs()) > 0 || total == 0 {
					t.Errorf("after %d sessions the edge has the URLs %v; want a session and no URL", total, edge.URLs())
				}
				return
			}
			if _, ok := errors.AsType[*tunnel.Error](err); !ok || !strings.Contains(text.Hint(err), test.fix) {
				t.Errorf("its error is the %T %v with the hint %q; want one that says %q", err, err, text.Hint(err), test.fix)
			}
			for _, words := range test.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("its error is %q; want it to say %q", err, words)
				}
			}
			for _, token := range []string{wrong, tunneltest.DefaultToken} {
				if strings.Contains(err.Error()+text.Hint(err), token) {
					t.Errorf("its error has the token: %v", err)
				}
			}
		})
	}
}

func useProxy(t *testing.T, file, url string) []string {
	rewrite(t, file, "agent:\n", "agent:\n    proxy_url: "+url+"\n")
	return nil
}

// take takes the steps of the registered provider up to the first that fails.
func take(ctx context.Context, file string, getenv func(string) string) (found map[string]string, failed string, err error) {
	provider, _ := tunnel.Lookup("ngrok")
	found = map[string]string{}
	for _, step := range provider.Steps(tunnel.Settings{Getenv: getenv, Value: func(flag string) (string, string) {
		if flag == "ngrok-config" {
			return file, "--ngrok-config"
		}
		return "", ""
	}}) {
		if found[step.Name], err = step.Run(ctx); err != nil {
			return found, step.Name, err
		}
	}
	return found, "", nil
}

// TestStepsEnd ends the way to a service that says nothing with the context.
func TestStepsEnd(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	edge.Hang(true)
	file := filepath.Join(t.TempDir(), "ngrok.yml")
	if err := edge.WriteConfig(file, tunneltest.DefaultToken); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, failed, err := take(ctx, file, environment()); failed == "" || err == nil {
		t.Errorf("the step %q failed with %v; want one that fails", failed, err)
	}
}
