package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/checkup"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/tunnel"
)

// Checkup returns the checks of `hubhook doctor` that look at what the server needs: its secret, data directory, ports, tunnel and public URL.
// running is the status of a server that already runs with the same data directory, nil if none does. s itself must not be running.
func (s *Server) Checkup(running *api.Status) [][]checkup.Check {
	look := &look{Server: s, running: running}
	return [][]checkup.Check{
		{{Name: "secret", Run: look.secret}},
		look.storage(),
		{{Name: "port", Doing: "asking the local server", Run: look.port}, {Name: "inspector", Run: look.inspector}},
		look.tunnel(),
		{{Name: "public URL", Doing: "asking the public URL", Run: look.public}},
	}
}

// KeepsWebhooks reports whether the settings have webhooks on the Hub to keep: [Config].Watch or Webhooks.
func (s *Server) KeepsWebhooks() bool { return len(s.settings.watched)+len(s.settings.borrowed) > 0 }

// Accepts reports whether a webhook secret is among those of the settings. It is false where they have none.
func (s *Server) Accepts(secret string) bool { return s.secrets.has(secret) }

type look struct {
	*Server
	running *api.Status
}

// The words of api.Status for secrets, by how hard they are to guess.
const (
	secretNone   = "none"
	secretWeak   = "weak"
	secretStrong = "strong"
)

// A secret of random letters and digits that is as long can't be guessed through a public URL.
const (
	shortestStrong   = 16
	fewestCharacters = 8 // different ones
)

// strength tells how hard the secrets are to guess: as hard as the easiest of them.
func strength(secrets []string) string {
	if len(secrets) == 0 {
		return secretNone
	}
	for _, secret := range secrets {
		different := map[rune]bool{}
		for _, r := range secret {
			different[r] = true
		}
		if len(secret) < shortestStrong || len(different) < fewestCharacters {
			return secretWeak
		}
	}
	return secretStrong
}

const newSecret = "make one with: openssl rand -hex 32\nthen set it in WEBHOOK_SECRET and in the webhook's settings on the Hub"

func (l *look) secret(context.Context) api.Finding {
	found, whose := strength(l.secrets.texts), "the webhook secret from "+l.settings.places["secret"]
	if l.running != nil {
		found, whose = l.running.Secret, "the webhook secret of the running hubhook"
	}
	switch found {
	case secretStrong:
		return checkup.OK(whose + " is hard to guess")
	case secretWeak:
		return checkup.Warn(fmt.Sprintf("%s is easy to guess: want at least %d characters, %d different ones among them", whose, shortestStrong, fewestCharacters), newSecret)
	}
	return checkup.Warn("there is no webhook secret: everyone who learns an endpoint's URL can post to it", newSecret)
}

// storage checks where deliveries are stored.
func (l *look) storage() []checkup.Check {
	var view queue.DirectoryView
	var failed error
	checks := []checkup.Check{
		{Name: "data", Run: func(context.Context) (f api.Finding) {
			f, view, failed = l.data()
			return f
		}},
		{Name: "disk", Run: func(context.Context) api.Finding {
			if failed != nil {
				return checkup.Skip("the data directory can't be used")
			}
			return roomOf(view.Free)
		}},
	}
	if url := l.settings.Database; url != "" {
		checks = append(checks, checkup.Check{Name: "database", Doing: "connecting to the database", Run: func(ctx context.Context) api.Finding {
			version, err := queue.Ping(ctx, url)
			if err != nil {
				return checkup.Fail(err)
			}
			return checkup.OK("PostgreSQL " + text.Printable(version, 100) + " answers")
		}})
	}
	return checks
}

var errElsewhere = errors.New("the data directory is on another machine")

// data looks at the data directory. With a database several processes of a working directory have one each, so that another holder is no trouble.
func (l *look) data() (api.Finding, queue.DirectoryView, error) {
	dir, err := l.directory()
	if err != nil {
		return checkup.Fail(err), queue.DirectoryView{}, err
	}
	view, err := queue.LookAt(dir)
	switch held := view.Held; {
	case err != nil:
		return checkup.Fail(err), view, err
	case !view.Exists && l.running != nil:
		return checkup.Skip(dir + " is not on this machine"), view, errElsewhere
	case !view.Exists:
		return checkup.OK(dir + " is not there yet and can be made"), view, nil
	case held != nil && l.running != nil && (held.PID == 0 || held.PID == l.running.PID):
		return checkup.OK(fmt.Sprintf("%s, %s, is held by the running hubhook", dir, bytesOf(view.Size))), view, nil
	case held != nil && l.settings.Database == "":
		return checkup.Fail(text.WithHint(held, "if that is the hubhook that you run, its inspector is off or can't be reached, and doctor can't ask it; else stop that process, or give this one a directory of its own with --data DIR")), view, nil
	}
	return checkup.OK(fmt.Sprintf("%s, %s, can be written", dir, bytesOf(view.Size))), view, nil
}

// directory is the data directory.
func (l *look) directory() (string, error) {
	dir := l.settings.Data
	if l.running != nil {
		dir = l.running.Data
	}
	if dir != "" {
		return dir, nil
	}
	return defaultDataDirectory(l.settings.Getenv)
}

const (
	littleRoom = 64 << 20 // below it the disk is as good as full
	someRoom   = 1 << 30
)

// roomOf judges how many bytes are free on the data directory's disk; below 0, it is not known.
func roomOf(free int64) api.Finding {
	const fix = "free some space, or choose a data directory on another disk with --data DIR"
	switch {
	case free < 0:
		return checkup.Skip("this system does not tell how much room there is")
	case free < littleRoom:
		return checkup.Fail(text.WithHint(fmt.Errorf("%s are free, and deliveries are refused once the disk is full", bytesOf(free)), fix))
	case free < someRoom:
		return checkup.Warn(bytesOf(free)+" are free", fix)
	}
	return checkup.OK(bytesOf(free) + " are free")
}

func bytesOf(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// port looks whether deliveries can be accepted on this machine.
func (l *look) port(ctx context.Context) api.Finding {
	if l.running != nil {
		return l.ready(ctx, l.running.Addresses.Local)
	}
	ln, err := l.settings.listenLocal()
	if err != nil {
		return checkup.Fail(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	switch {
	case l.settings.portFixed && l.settings.localPort == 0:
		return checkup.OK("any free port will do")
	case port != l.settings.localPort:
		return checkup.OK(fmt.Sprintf("port %d is in use; hubhook would take %d", l.settings.localPort, port))
	}
	return checkup.OK(ln.Addr().String() + " is free")
}

// ready asks the running server whether it accepts deliveries.
func (l *look) ready(ctx context.Context, local string) api.Finding {
	fail := func(why string, err error) api.Finding {
		return checkup.Fail(text.WithHint(fmt.Errorf("%s %s: %w", local, why, err), "look at what the running hubhook prints, and start it again"))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, local+"/readyz", nil)
	if err != nil {
		return fail("can't be asked", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy, since the address is on this machine
	resp, err := client.Do(r)
	if err != nil {
		return fail("does not answer", errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail("is not ready", errors.New(resp.Status))
	}
	return checkup.OK(local + " accepts deliveries")
}

func (l *look) inspector(context.Context) api.Finding {
	if l.running != nil {
		return checkup.OK(l.running.Addresses.Inspector + " answers")
	}
	ln, err := l.settings.listenInspector()
	switch {
	case err != nil:
		return checkup.Fail(err)
	case ln == nil:
		return checkup.Skip("it is off (--inspector off)")
	}
	defer ln.Close()
	return checkup.OK(ln.Addr().String() + " is free")
}

// tunnel checks the state of the running tunnel, and the connection to the provider's service.
func (l *look) tunnel() []checkup.Check {
	const name = "tunnel"
	online := false
	var checks []checkup.Check
	switch {
	case l.running != nil && (l.running.Tunnel == nil || l.running.Tunnel.Provider == publicURLProvider):
		return append(checks, checkup.Known(name, checkup.Skip("the running hubhook opens none")))
	case l.running != nil:
		t := l.running.Tunnel
		online = t.Phase == tunnel.Online.String() || t.Phase == tunnel.URLChanged.String()
		checks = append(checks, checkup.Known(name, tunnelState(t, online)))
	case l.settings.production():
		return append(checks, checkup.Known(name, checkup.Skip("none is opened (--no-tunnel, --public-url, or a Space)")))
	}
	answer, answered, err := l.answer()
	switch {
	case l.running != nil:
	case err != nil:
		checks = append(checks, checkup.Known(name, checkup.Warn(err.Error(), "the next start asks again; make the file readable, or remove it")))
	case answered && answer.provider == "":
		return append(checks, checkup.Known(name, checkup.Skip("none is opened, as you chose in this directory; --tunnel ask asks again")))
	case answered:
		checks = append(checks, checkup.Known(name, checkup.OK(cmp.Or(answer.value, answer.Name)+" opens it, as you chose in this directory; --tunnel ask asks again")))
	}
	provider, _ := tunnel.Lookup(cmp.Or(answer.provider, l.settings.Tunnel))
	if l.running != nil && l.running.Tunnel.Provider != provider.Name || provider.Steps == nil {
		return checks // its settings are not known here
	}
	failed := false
	for _, step := range provider.Steps(l.providerSettings(answer)) {
		checks = append(checks, checkup.Check{Name: provider.Name + " " + step.Name, Doing: step.Doing, Run: func(ctx context.Context) api.Finding {
			switch {
			case failed:
				return checkup.Skip("a step before it failed")
			case online && step.Session:
				return checkup.Skip("the running hubhook has a session")
			}
			found, err := step.Run(ctx)
			if err == nil {
				return checkup.OK(found)
			}
			failed = true
			var e *tunnel.Error
			if errors.As(err, &e) {
				err = text.WithHint(errors.New(cause(err)), e.Fix)
			}
			if online { // so the running one has gone this way; what this shell lacks, a token say, does not matter
				return checkup.Skip("not checked from here: " + err.Error())
			}
			return checkup.Fail(err)
		}})
	}
	return checks
}

// answer returns the answer of the terminal that the data directory keeps, if it decides how the public URL is opened.
func (l *look) answer() (c choice, ok bool, err error) {
	if l.settings.askAnew || !l.undecided() {
		return choice{}, false, nil
	}
	dir, err := l.directory()
	if err != nil {
		return choice{}, false, nil // the check of the directory says so
	}
	return keptChoice(dir)
}

func tunnelState(t *api.Tunnel, online bool) api.Finding {
	switch {
	case online:
		return checkup.OK(fmt.Sprintf("%s is online as %s", t.Provider, t.URL))
	case t.Error == "" && (t.Phase == "" || t.Phase == tunnel.Connecting.String()):
		return checkup.Warn(t.Provider+" is connecting", "wait a moment, and look again")
	}
	what := t.Provider + " is " + t.Phase
	if t.Error != "" {
		what += ": " + t.Error
	}
	fix := "see the checks below for the step that fails"
	if t.Phase == tunnel.Stopped.String() || t.Phase == "failed" {
		fix += "; correct it, and start hubhook again"
	}
	return checkup.Fail(text.WithHint(errors.New(what), fix))
}

// providerSettings are those of the provider that is chosen, by the settings or by an answer.
func (s *Server) providerSettings(answer choice) tunnel.Settings {
	of := s.settings.providerSetting
	if value := cmp.Or(answer.Value, answer.value); value != "" {
		of = func(flag string) (string, string) {
			if flag == answer.Flag {
				return value, "your answer"
			}
			return s.settings.providerSetting(flag)
		}
	}
	return tunnel.Settings{URL: s.settings.URL, Value: of, Getenv: s.settings.getenv, Version: version.String()}
}

// forwarder looks whether anything answers at Config.PublicURL before hubhook runs. Only a running one can prove that it leads there.
func (l *look) forwarder(ctx context.Context) api.Finding {
	url := l.settings.PublicURL
	err := l.prober.Check(ctx, url)
	if !errors.Is(err, tunnel.ErrElsewhere) {
		return checkup.Warn(fmt.Sprintf("%s can't be asked from here: %v", url, err),
			"check the name, the certificate and the program that forwards; or open "+url+"/healthz from another network, a phone say")
	}
	answer := strings.TrimPrefix(err.Error(), tunnel.ErrElsewhere.Error()+": ")
	if strings.HasPrefix(answer, "2") {
		return checkup.Warn(fmt.Sprintf("something answers at %s already: %s", url, answer), "if that is no hubhook of yours, have what forwards there forward to hubhook")
	}
	return checkup.OK(fmt.Sprintf("%s is answered (%s); whether it leads to hubhook is known once that runs", url, answer))
}

// public looks whether the public URL leads to the running server.
func (l *look) public(ctx context.Context) api.Finding {
	switch {
	case l.running == nil && l.settings.provesPublicURL():
		return l.forwarder(ctx)
	case l.running == nil:
		return checkup.Skip("no hubhook is running that could answer")
	}
	url := l.running.Addresses.Public
	if url == "" {
		return checkup.Skip("there is none")
	}
	err := l.prober.Leads(ctx, url, l.running.Addresses.Local)
	switch t := l.running.Tunnel; {
	case err == nil:
		return checkup.OK(url + " leads to the running hubhook")
	case errors.Is(err, tunnel.ErrElsewhere):
		return checkup.Fail(text.WithHint(fmt.Errorf("%s does not lead to the running hubhook: %w", url, err), "look whether another program has taken this URL, and start hubhook again"))
	case t != nil && t.LastProbe != nil && t.LastProbe.OK:
		return checkup.OK(fmt.Sprintf("%s can't be asked from here (%v); hubhook itself reached it at %s", url, err, t.LastProbe.Time.UTC().Format(time.RFC3339)))
	}
	return checkup.Warn(fmt.Sprintf("%s can't be asked from here, which proves nothing: %v", url, err), "open "+strings.TrimRight(url, "/")+"/healthz from another network, a phone say")
}
