//go:build unix

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// strongSecret is one that doctor does not complain of.
const strongSecret = "9f1c2e5ab07d4836"

// runDoctor runs hubhook doctor in a home's working directory, and returns what it prints and its exit status.
func (h *home) runDoctor(t *testing.T, args ...string) (out, errs string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, hubhook, append([]string{"doctor"}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = filepath.Join(h.dir, "work"), h.env, &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("hubhook doctor: %v (%v)", err, ctx.Err())
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// diagnose returns what doctor finds, by the checks' names.
func (h *home) diagnose(t *testing.T, args ...string) (found map[string]api.Finding, status int) {
	t.Helper()
	out, errs, status := h.runDoctor(t, append([]string{"--json"}, args...)...)
	found = map[string]api.Finding{}
	failed := false
	for line := range strings.Lines(out) {
		var f api.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Name == "" || f.Text == "" || found[f.Name].Name != "" {
			t.Fatalf("doctor --json has the line %q (%v)", line, err)
		}
		if (f.Result == api.Warn || f.Result == api.Fail) != (f.Fix != "") {
			t.Errorf("%s: %s with the fix %q", f.Name, f.Result, f.Fix)
		}
		failed = failed || f.Result == api.Fail
		found[f.Name] = f
	}
	if want := map[bool]int{true: 1}[failed]; status != want {
		t.Errorf("exit status %d; want %d\n%s%s", status, want, out, errs)
	}
	for _, secret := range []string{tunneltest.DefaultToken, strongSecret, "2nobodyKnowsThisToken"} {
		if strings.Contains(out+errs, secret) {
			t.Errorf("a secret is printed:\n%s%s", out, errs)
		}
	}
	return found, status
}

// wantFound checks the results of checks; "result words" has words of the text or the fix as well, and "" is no such check.
func wantFound(t *testing.T, found map[string]api.Finding, want map[string]string) {
	t.Helper()
	for name, w := range want {
		result, words, _ := strings.Cut(w, " ")
		f, ok := found[name]
		if w == "" && !ok {
			continue
		}
		if !ok || string(f.Result) != result || !strings.Contains(f.Text+"\n"+f.Fix, words) {
			t.Errorf("%s: %q %q, fix %q; want %s", name, f.Result, f.Text, f.Fix, w)
		}
	}
}

// newPatient is a home in which doctor finds everything well: a strong secret, an edge and a Hub that tells the time.
func newPatient(t *testing.T) (*home, *tunneltest.Edge) {
	t.Helper()
	h, edge := newHome(t), tunneltest.NewEdge(t, tunneltest.Options{})
	writeConfig(t, h, edge, tunneltest.DefaultToken)
	hub := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(hub.Close)
	h.env = append(h.env, "WEBHOOK_SECRET="+strongSecret, "HF_ENDPOINT="+hub.URL, "HUBHOOK_PORT=0", "HUBHOOK_INSPECTOR=127.0.0.1:0")
	return h, edge
}

// notBad checks that no check but those named found anything to fix. Of the disk of this machine nothing is known.
func notBad(t *testing.T, found map[string]api.Finding, but ...string) {
	t.Helper()
	expected := map[string]bool{"disk": true}
	for _, name := range but {
		expected[name] = true
	}
	for _, f := range found {
		if (f.Result == api.Fail || f.Result == api.Warn) && !expected[f.Name] {
			t.Errorf("%s: %s %s", f.Name, f.Result, f.Text)
		}
	}
}

func TestDoctorBeforeTheStart(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	busyPort := fmt.Sprint(busy.Addr().(*net.TCPAddr).Port)
	for name, test := range map[string]struct {
		change func(t *testing.T, h *home, edge *tunneltest.Edge)
		args   []string
		want   map[string]string
	}{
		"all well": {want: map[string]string{
			"hubhook": "skip no hubhook runs here", "hubhook.yaml": "skip", "secret": "ok from WEBHOOK_SECRET", "data": "ok is not there yet", "port": "ok", "inspector": "ok",
			"ngrok credential": "ok ngrok.yml", "ngrok look-up": "ok 127.0.0.1", "ngrok tcp": "ok", "ngrok tls": "ok", "ngrok service": "ok", "ngrok session": "ok",
			"public URL": "skip", "clock": "ok", "program": "skip"}},
		"wrong token": {
			change: func(_ *testing.T, h *home, _ *tunneltest.Edge) {
				h.env = append(h.env, "NGROK_AUTHTOKEN=2nobodyKnowsThisToken_0123456789")
			},
			want: map[string]string{"ngrok credential": "ok NGROK_AUTHTOKEN", "ngrok service": "ok", "ngrok session": "fail ERR_NGROK_107"}},
		"no token": {
			change: func(t *testing.T, h *home, edge *tunneltest.Edge) { writeConfig(t, h, edge, "") },
			want:   map[string]string{"ngrok credential": "fail set NGROK_AUTHTOKEN", "ngrok tcp": "skip", "ngrok session": "skip"}},
		"no tunnel": {args: []string{"--no-tunnel"}, want: map[string]string{"tunnel": "skip"}},
		"nothing listens": {
			change: func(t *testing.T, h *home, edge *tunneltest.Edge) {
				writeNgrokYML(t, h, "127.0.0.1:"+freePort(t), edge.CAFile())
			},
			want: map[string]string{"ngrok tcp": "fail connect_url", "ngrok tls": "skip"}},
		"a certificate of another authority": {
			change: func(t *testing.T, h *home, edge *tunneltest.Edge) {
				writeNgrokYML(t, h, edge.Addr(), tunneltest.NewEdge(t, tunneltest.Options{}).CAFile())
			},
			want: map[string]string{"ngrok tcp": "ok", "ngrok tls": "fail connect_cas", "ngrok session": "skip"}},
		"a port in use":     {args: []string{"--port", busyPort}, want: map[string]string{"port": "fail in use"}},
		"an inspector's":    {args: []string{"--inspector", "127.0.0.1:" + busyPort}, want: map[string]string{"inspector": "fail in use"}},
		"a file in the way": {args: []string{"--data", "/dev/null/data"}, want: map[string]string{"data": "fail choose another data directory", "disk": "skip"}},
		"a weak secret":     {args: []string{"--secret", "changeme"}, want: map[string]string{"secret": "warn openssl rand"}},
		"no secret": {change: func(_ *testing.T, h *home, _ *tunneltest.Edge) { h.env = withoutSecret(h.env) },
			want: map[string]string{"secret": "warn everyone"}},
		"an empty secret": {args: []string{"--secret", ""}, want: map[string]string{"settings": "fail secret"}},
		"a broken file": {change: func(t *testing.T, h *home, _ *tunneltest.Edge) {
			h.work(t, "hubhook.yaml", "endpoints:\n  train: {runs: x}\n")
		},
			want: map[string]string{"hubhook.yaml": "fail hubhook.yaml:2", "secret": "ok"}},
		"a file": {change: func(t *testing.T, h *home, _ *tunneltest.Edge) {
			h.work(t, "hubhook.yaml", "endpoints: {train: {run: ./train.sh}}\nsecret: [aaaaaaaaaaaaaaaaaaaaaaa]\n")
			h.env = withoutSecret(h.env)
		}, want: map[string]string{"hubhook.yaml": "ok 1 endpoint", "secret": "warn hubhook.yaml"}},
		"a command for everyone": {change: func(t *testing.T, h *home, _ *tunneltest.Edge) {
			h.work(t, "hubhook.yaml", "endpoints: {train: {run: ./train.sh}}\n")
			h.env = withoutSecret(h.env)
		}, want: map[string]string{"hubhook.yaml": "fail WEBHOOK_SECRET", "secret": "warn"}},
		"a clock that is wrong": {change: func(t *testing.T, h *home, _ *tunneltest.Edge) {
			hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			}))
			t.Cleanup(hub.Close)
			h.env = append(h.env, "HF_ENDPOINT="+hub.URL)
		}, want: map[string]string{"clock": "warn behind"}},
		"no Hub": {change: func(t *testing.T, h *home, _ *tunneltest.Edge) {
			h.env = append(h.env, "HF_ENDPOINT=http://127.0.0.1:"+freePort(t))
		}, want: map[string]string{"clock": "skip not checked", "hub": "warn tcp", "token": "skip", "webhooks": "skip"}},
		"a program":                {args: []string{"--", "sh", "app.sh"}, want: map[string]string{"program": "ok /sh"}},
		"a program that isn't":     {args: []string{"--", "no-such-program"}, want: map[string]string{"program": "fail PATH"}},
		"an inspector that isn't":  {args: []string{"--server", "http://127.0.0.1:1"}, want: map[string]string{"hubhook": "fail nothing listens there"}},
		"a database that isn't":    {args: []string{"--database", "postgres://me:2nobodyKnowsThisToken@127.0.0.1:1/db"}, want: map[string]string{"database": "fail refused"}},
		"a provider's broken file": {args: []string{"--ngrok-config", "/nowhere/ngrok.yml"}, want: map[string]string{"ngrok credential": "fail --ngrok-config"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, edge := newPatient(t)
			if test.change != nil {
				test.change(t, h, edge)
			}
			found, _ := h.diagnose(t, test.args...)
			wantFound(t, found, test.want)
			var named []string
			for name := range test.want {
				named = append(named, name)
			}
			notBad(t, found, named...)
			if entries, err := os.ReadDir(filepath.Join(h.dir, "state")); err != nil || len(entries) > 0 {
				t.Errorf("it left %v (%v)", entries, err)
			}
		})
	}
}

// withoutSecret is env without WEBHOOK_SECRET.
func withoutSecret(env []string) (rest []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "WEBHOOK_SECRET=") {
			rest = append(rest, v)
		}
	}
	return rest
}

// Beside a hubhook that runs, doctor asks it, proves its public URL, and opens no session of its own.
func TestDoctorBesideARunningHubhook(t *testing.T) {
	t.Parallel()
	h, edge := newPatient(t)
	public := net.JoinHostPort(edge.Domain(), "443")
	proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{Hosts: map[string]string{public: edge.PublicTLSAddr()}})
	before := h.env
	h.env = append(h.env, "HTTPS_PROXY="+proxy.URL().String(), "SSL_CERT_FILE="+edge.CAFile())
	p := h.serve(t, hubhook)
	found, _ := h.diagnose(t)
	notBad(t, found)
	wantFound(t, found, map[string]string{
		"hubhook": fmt.Sprintf("ok process %d runs", p.cmd.Process.Pid), "secret": "ok of the running hubhook", "data": "ok held by the running hubhook", "port": "ok " + p.base, "inspector": "ok",
		"tunnel": "ok online as " + p.ready.PublicURL, "ngrok service": "ok", "ngrok session": "skip the running hubhook", "public URL": "ok leads to", "clock": "ok", "program": "skip",
	})
	if _, total := edge.Sessions(); total != 1 {
		t.Errorf("the edge has seen %d sessions; want that of hubhook alone", total)
	}

	// Without the proxy the public URL can't be looked up, and proves nothing.
	h.env = before
	p.await("reachable", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "reachable" })
	found, _ = h.diagnose(t, "--server", p.ready.InspectorURL)
	wantFound(t, found, map[string]string{"hubhook": "ok", "public URL": "ok hubhook itself reached it"})

	// Somebody else is at the public URL now.
	other := newHome(t)
	q := other.serve(t, hubhook, "--port", "0", "--public-url", p.ready.PublicURL)
	h.env = append(before, "HTTPS_PROXY="+proxy.URL().String(), "SSL_CERT_FILE="+edge.CAFile())
	found, _ = h.diagnose(t, "--data", q.ready.Data)
	wantFound(t, found, map[string]string{"hubhook": "ok", "secret": "warn", "tunnel": "skip", "public URL": "fail does not lead to"})
	h.work(t, "other.yaml", fmt.Sprintf("data: %q\n", q.ready.Data))
	found, _ = h.diagnose(t, "--config", "other.yaml")
	wantFound(t, found, map[string]string{"hubhook": fmt.Sprintf("ok process %d runs", q.cmd.Process.Pid), "hubhook.yaml": "ok other.yaml"})
	q.stop()
	p.stop()

	// A data directory that something holds whose inspector is off.
	quiet := h.start(t, hubhook, "--no-tunnel", "--inspector", "off", "--data", p.ready.Data)
	quiet.awaitReady()
	found, _ = h.diagnose(t, "--data", p.ready.Data)
	wantFound(t, found, map[string]string{"hubhook": "skip", "data": fmt.Sprintf("fail in use by process %d", quiet.cmd.Process.Pid)})
	quiet.stop()
}

func TestDoctorSaysWhatIsWrongWithTheTunnelAndTheProgram(t *testing.T) {
	t.Parallel()
	h, edge := newPatient(t)
	writeConfig(t, h, edge, "2nobodyKnowsThisToken_0123456789")
	p := h.run(t, hubhook, "dev", "--json", "--", "sh", "-c", "exit 3")
	p.await("the tunnel's failure", patience, func(e event) bool { return e.Type == "tunnel" && e.Phase == "failed" })
	p.await("the program's end", patience, func(e event) bool { return e.Type == "program" && (e.Phase == "exited" || e.Phase == "crash loop") })
	data, _ := filepath.Glob(filepath.Join(h.dir, "state", "hubhook", "*", "hubhook"))
	if len(data) != 1 {
		t.Fatalf("the data directories are %v; want one", data)
	}
	p.poll("doctor sees the program's end", func() (bool, string) {
		found, _ := h.diagnose(t, "--data", data[0])
		wantFound(t, found, map[string]string{"tunnel": "fail ERR_NGROK_107", "ngrok session": "fail ERR_NGROK_107", "public URL": "skip"})
		f := found["program"]
		return f.Result == api.Fail && strings.Contains(f.Text, "3"), f.Text
	})
	p.stop()
}

func TestDoctorForPeople(t *testing.T) {
	t.Parallel()
	h, _ := newPatient(t)
	out, errs, status := h.runDoctor(t, "--secret", "changeme", "--data", "/dev/null/data")
	if status != 1 || errs != "hubhook: doctor: 1 check failed\n" {
		t.Errorf("exit status %d, standard error %q", status, errs)
	}
	for _, words := range []string{"\nwarn  secret            ", "\nfail  data              ", "\nok    ngrok session     ", "\n                        fix: "} {
		if !strings.Contains(out, words) {
			t.Errorf("it prints\n%s\nwithout %q", out, words)
		}
	}
	if strings.ContainsAny(out, "\x1b\r") {
		t.Errorf("colours go to no terminal: %q", out)
	}
	if _, errs, status := h.runDoctor(t, "model:me/data", "app.py"); status != 2 || !strings.Contains(errs, "unexpected argument") {
		t.Errorf("an argument: exit status %d, %q", status, errs)
	}
}

// Where the answer to the question decides how the public URL is opened, doctor takes the way that was chosen.
func TestDoctorTakesTheChosenWay(t *testing.T) {
	t.Parallel()
	server := tunneltest.NewSSH(t, tunneltest.SSHOptions{})
	h, edge := newPatient(t)
	data := t.TempDir()
	keep := func(answer string) {
		if err := os.WriteFile(filepath.Join(data, "tunnel-choice"), []byte(answer+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep("ssh " + server.Addr())
	found, _ := h.diagnose(t, "--data", data)
	wantFound(t, found, map[string]string{"tunnel": "", "ssh tcp": "", "ngrok tls": "ok"}) // a token for ngrok decides
	writeConfig(t, h, edge, "")
	found, _ = h.diagnose(t, "--data", data)
	wantFound(t, found, map[string]string{"tunnel": "ok " + server.Addr() + " opens it, as you chose", "ssh tcp": "ok is reached",
		"ssh host key": "ok will be trusted at the first start", "ssh login": "ok", "ngrok tls": ""})
	keep("none")
	found, _ = h.diagnose(t, "--data", data)
	wantFound(t, found, map[string]string{"tunnel": "skip as you chose in this directory", "ngrok credential": ""})
	found, _ = h.diagnose(t, "--data", data, "--tunnel", "ask")
	wantFound(t, found, map[string]string{"tunnel": "", "ngrok credential": "fail"})
	if now, _ := server.Sessions(); now != 0 {
		t.Errorf("%d sessions are left", now)
	}
}
