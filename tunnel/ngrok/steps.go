package ngrok

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	sdk "golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/terms"
)

// How long each step may take. All of them together stay below what opening a tunnel may.
const (
	lookUpLimit  = 3 * time.Second
	connectLimit = 4 * time.Second
	shakeLimit   = 5 * time.Second
	sessionLimit = 8 * time.Second
)

// way is the way to the ngrok service, step by step. Each step makes connections of its own.
type way struct {
	provider *Provider
	dialer   *dialer // from the first step on
	service  error   // how the service did not answer once TLS was done; found by tls, told by service
	answered sdk.DiagnoseResult
}

func (p *Provider) steps() []tunnel.Step {
	w := &way{provider: p}
	to := "the ngrok service"
	return []tunnel.Step{
		{Name: "credential", Run: w.credential},
		{Name: "look-up", Doing: "looking up " + to, Run: terms.Bound(lookUpLimit, w.lookUp)},
		{Name: "tcp", Doing: "connecting to " + to, Run: terms.Bound(connectLimit, w.tcp)},
		{Name: "tls", Doing: "checking the certificate of " + to, Run: terms.Bound(shakeLimit, w.tls)},
		{Name: "service", Run: w.answers},
		{Name: "session", Doing: "showing the authtoken to " + to, Session: true, Run: terms.Bound(sessionLimit, w.session)},
	}
}

// credential reads all settings.
func (w *way) credential(context.Context) (string, error) {
	d, _, err := w.provider.dialer()
	if err != nil {
		return "", err
	}
	w.dialer = d
	return "the authtoken is from " + d.settings.credential.source, nil
}

// proxy returns the host of the proxy that the connection goes through, and words that name the proxy. Both are "" without a proxy.
func (w *way) proxy() (host, words string, err error) {
	d := newServiceDialer(w.dialer.settings, w.dialer.getenv)
	via, err := d.proxyFor(w.dialer.address())
	switch {
	case err != nil:
		e := w.dialer.failure(err)
		e.Fix, e.Temporary = "write the proxy in "+d.proxySource+" as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT", false
		return "", "", e
	case via == nil:
		return "", "", nil
	}
	return via.Hostname(), fmt.Sprintf("the proxy %s (%s)", via.Redacted(), d.proxySource), nil
}

// lookUp asks for the addresses of the host that is connected to first: the proxy, where there is one.
func (w *way) lookUp(ctx context.Context) (string, error) {
	proxy, words, err := w.proxy()
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(w.dialer.address())
	if err != nil {
		return "", w.dialer.failure(err)
	}
	host = cmp.Or(proxy, host)
	through := ""
	if words != "" {
		through = "; the way goes through " + words
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host + " is an address, so there is no name to look up" + through, nil
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		e := w.dialer.failure(err)
		e.Cause = fmt.Sprintf("the name %s cannot be looked up: %s", host, w.dialer.hide.line(err.Error()))
		e.Fix = "check the network and its name servers; if this network needs a proxy, set HTTPS_PROXY or proxy_url in ngrok.yml"
		if proxy != "" {
			e.Fix = "check the name of " + words
		}
		return "", e
	}
	more := ""
	if len(addrs) > 1 {
		more = fmt.Sprintf(" and %d more", len(addrs)-1)
	}
	return host + " is " + addrs[0] + more + through, nil
}

func (w *way) tcp(ctx context.Context) (string, error) {
	d := newServiceDialer(w.dialer.settings, w.dialer.getenv)
	defer d.cutAll()
	began := time.Now()
	conn, err := d.DialContext(ctx, "tcp", w.dialer.address())
	if err != nil {
		return "", w.dialer.unreachable(d, err)
	}
	_ = conn.Close() // it has served its purpose
	return fmt.Sprintf("%s is reached in %s", w.dialer.address(), rounded(time.Since(began))), nil
}

// tls leaves the check to the SDK, which alone knows the authorities that it trusts. The SDK goes on until the service has answered.
func (w *way) tls(ctx context.Context) (string, error) {
	s, _, err := w.dialer.newSession()
	if err != nil {
		return "", err
	}
	defer s.end()
	defer s.service.cutAll()
	result, err := s.agent.(sdk.Diagnoser).Diagnose(ctx, "")
	switch {
	case sdk.IsMuxadoDiagnoseFailure(err):
		w.service = w.dialer.explainStep(s, err)
	case err != nil:
		return "", w.dialer.explainStep(s, err)
	}
	w.answered = result
	return "its certificate is signed by an authority that is trusted here (" + orDefault(w.dialer.settings.casSource, "ngrok's own") + ")", nil
}

func (w *way) answers(context.Context) (string, error) {
	if w.service != nil {
		return "", w.service
	}
	found := "it answers in " + rounded(w.answered.Latency)
	if w.answered.Region != "" {
		found += " from region " + w.dialer.hide.line(w.answered.Region)
	}
	return found, nil
}

// session shows the authtoken to the service, and ends the session at once. It asks for no URL, which could be in use.
func (w *way) session(ctx context.Context) (string, error) {
	d := w.dialer
	defer d.Wait()
	s, life, err := d.newSession()
	if err != nil {
		return "", err
	}
	done := make(chan error, 1)
	d.failed.Go(func() { done <- s.agent.Connect(life) })
	err = errors.New("no answer")
	select {
	case err = <-done:
		done <- err
	case event := <-s.events.C: // of a failure, since success ends Connect: the SDK would go on trying
		if event == nil {
			err = <-done
			done <- err
		} else {
			err = event
		}
	case <-ctx.Done():
	}
	if err == nil {
		s.Close()
		return "the service takes the authtoken", nil
	}
	s.Cut()
	d.failed.Go(func() { // Disconnect must not be called while Connect runs
		<-done
		s.Close()
	})
	if codeIn(err.Error()) != "" {
		return "", serviceError(err.Error(), d.settings.credential, d.hide)
	}
	e := d.failure(err)
	e.Cause = "the service does not take the authtoken and does not refuse it either: " + e.Cause
	return "", e
}

// unreachable is the error of a connection that d could not make to the service.
func (d *dialer) unreachable(service *serviceDialer, err error) *tunnel.Error {
	e := d.failure(err)
	addr := d.address()
	e.Cause = "the ngrok service at " + addr + " cannot be reached: " + d.hide.line(err.Error())
	e.Fix = "check your network; where a firewall stands in between, set HTTPS_PROXY or proxy_url in ngrok.yml"
	if via, err := service.proxyFor(addr); err != nil || via != nil {
		e.Fix = "check the proxy that " + service.proxySource + " names"
	} else if d.settings.connectURL != "" {
		e.Fix = "check your network and connect_url in ngrok.yml"
	}
	return e
}

// rounded writes a short time.
func rounded(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
