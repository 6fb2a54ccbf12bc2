package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/checkup"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/server"
)

// hubLook checks the connection to the Hub, the token, and the webhooks of the token's user. Its checks run one after the other.
type hubLook struct {
	client      *hub.Client // nil where HF_ENDPOINT is no address
	failed      error       // why the Hub can't be asked; what depends on it is skipped
	set         bool        // HF_ENDPOINT names the Hub
	needed      bool        // something here needs the token: without it that fails
	here        ours
	readRecords func(context.Context) // of what hubhook keeps, into here

	// What the checks have found.
	asked, answered time.Time // around the first request
	date            string    // the Hub's time in its answer
	user            hub.User  // empty without a token, and if the Hub does not say whose token it is
	webhooks        []hub.Webhook
	listed          bool // webhooks are all webhooks of user
}

// hubTimeout bounds a request to the Hub. No request is repeated, so a Hub that hangs takes this long in all.
const hubTimeout = 5 * time.Second

// look prepares to look at the Hub. hooks is nil where the settings are wrong.
func (d *doctor) look(ctx context.Context, running *api.Status, hooks *server.Server) *hubLook {
	endpoint, _ := d.LookupEnv(env.HFEndpoint)
	l := &hubLook{set: endpoint != "", here: ours{running: running}}
	l.client, l.failed = hub.New(hub.Config{LookupEnv: d.LookupEnv, Timeout: hubTimeout, Attempts: 1, LongestWait: time.Millisecond})
	if l.client != nil {
		l.here.hub = l.client.Endpoint()
	}
	if hooks != nil {
		l.needed = hooks.KeepsWebhooks()
		l.here.accepts = hooks.Accepts
		l.here.configured = hooks.Secret() != ""
	}
	dir := d.where.data
	if running != nil {
		dir, l.needed = running.Data, l.needed || len(running.Webhooks) > 0
		l.here.earlier = d.earlier(ctx)
	}
	if dir == "" {
		if workspace, err := d.workspace(); err == nil {
			dir = filepath.Join(workspace, "hubhook")
		}
	}
	// A record that can't be read counts as empty here. hubhook shows its error at the start.
	l.readRecords = func(ctx context.Context) {
		l.here.record, _ = keep.InDirectory(dir).Load()
		if hooks != nil {
			l.here.shared, _ = hooks.SharedRecord(ctx)
		}
	}
	return l
}

// earlier returns the public URLs that the running hubhook has had.
func (d *doctor) earlier(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	changes, err := d.inspector.Tunnel(ctx)
	if err != nil {
		return nil // the URLs only make a finding more exact
	}
	var urls []string
	for _, change := range changes.Changes {
		if address := strings.TrimRight(change.URL, "/"); address != "" && !slices.Contains(urls, address) {
			urls = append(urls, address)
		}
	}
	return urls
}

// checks are those of every doctor, those of the user's webhooks left out.
func (l *hubLook) checks() []checkup.Check {
	return []checkup.Check{
		{Name: "hub", Doing: "asking the Hub", Run: l.reach},
		{Name: "clock", Run: l.clock},
		{Name: "token", Doing: "asking the Hub whose token it is", Run: l.token},
	}
}

// trouble is a finding that is a failure only where the Hub is needed.
func (l *hubLook) trouble(err error) api.Finding {
	f := checkup.Fail(err)
	if !l.needed {
		f.Result = api.Warn
	}
	if f.Fix == "" {
		f.Fix = "try again later"
	}
	return f
}

// unreachable remembers a failure after which further requests can't succeed: nothing answers, the answer is not one of the Hub's API, or the rate
// limit is used up.
func (l *hubLook) unreachable(err error) {
	var e *hub.Error
	if errors.As(err, &e) && (e.Status == 0 || e.Status == http.StatusTooManyRequests) {
		l.failed = err
	}
}

const notAsked = "not checked, because the check of the Hub before it failed"

// reach asks for the Hub's front page. If that fails, it says at which step of the connection.
func (l *hubLook) reach(ctx context.Context) api.Finding {
	if l.client == nil {
		return l.trouble(l.failed)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, hubTimeout, fmt.Errorf("no answer within %v", hubTimeout))
	defer cancel()
	way := new(way)
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, way.trace()), http.MethodHead, l.client.Endpoint()+"/", nil)
	if err != nil {
		l.failed = err
		return l.trouble(err)
	}
	r.Header.Set("User-Agent", "hubhook/"+version.String())
	through := ""
	if proxy, _ := http.ProxyFromEnvironment(r); proxy != nil {
		through = " through the proxy " + proxy.Redacted()
	}
	l.asked = time.Now()
	resp, err := oneRequest().Do(r)
	l.answered = time.Now()
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		step, fix := way.stuck()
		if l.set {
			fix += "\nHF_ENDPOINT sets the Hub's address; is it right?"
		}
		l.failed = fmt.Errorf("%s can't be reached%s: %s: %w", l.client.Endpoint(), through, step, err)
		return l.trouble(text.WithHint(l.failed, fix))
	}
	resp.Body.Close()
	l.date = resp.Header.Get("Date")
	if resp.StatusCode >= 500 {
		return l.trouble(text.WithHint(fmt.Errorf("%s answers %s", l.client.Endpoint(), resp.Status), "try again later; https://status.huggingface.co says whether the Hub has an outage"))
	}
	return checkup.OK(fmt.Sprintf("%s answers%s: %s", l.client.Endpoint(), through, way.passed()))
}

// oneRequest returns a client for one request, which does not follow redirects.
func oneRequest() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// way is how far a request has come. Its first connection counts: the one to the proxy, where there is one. The transport may still report
// after the request has failed.
type way struct {
	lookingUp, lookedUp, connecting, connected, handshaking, handshaken, sent atomic.Bool
}

func (w *way) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { w.lookingUp.Store(true) },
		DNSDone: func(info httptrace.DNSDoneInfo) {
			if info.Err == nil {
				w.lookedUp.Store(true)
			}
		},
		ConnectStart: func(string, string) { w.connecting.Store(true) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				w.connected.Store(true)
			}
		},
		TLSHandshakeStart: func() { w.handshaking.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				w.handshaken.Store(true)
			}
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { w.sent.Store(true) },
	}
}

// stuck returns the step that failed, and what to do about it.
func (w *way) stuck() (step, fix string) {
	const network = "check the network and the firewall; if this network needs a proxy, set HTTPS_PROXY"
	switch {
	case w.lookingUp.Load() && !w.lookedUp.Load():
		return "look-up", "check the network and its name servers; if this network needs a proxy, set HTTPS_PROXY"
	case w.connecting.Load() && !w.connected.Load():
		return "tcp", network
	case w.handshaking.Load() && !w.handshaken.Load():
		return "tls", "if a proxy here reads TLS connections, trust its certificate, with SSL_CERT_FILE for example; check the clock, too"
	case w.sent.Load():
		return "http", "try again later; https://status.huggingface.co says whether the Hub has an outage"
	}
	return "http", network
}

// passed names the steps that succeeded.
func (w *way) passed() string {
	var steps []string
	if w.lookedUp.Load() {
		steps = append(steps, "look-up")
	}
	steps = append(steps, "tcp")
	if w.handshaken.Load() {
		steps = append(steps, "tls")
	}
	return strings.Join(append(steps, "http"), ", ")
}

// clock compares this machine's clock with the Hub's.
func (l *hubLook) clock(context.Context) api.Finding {
	if l.client == nil || l.answered.IsZero() || l.failed != nil {
		return checkup.Skip("not checked: the Hub can't be asked for the time")
	}
	endpoint, _ := url.Parse(l.client.Endpoint()) // the client has checked it
	date, err := http.ParseTime(l.date)
	if err != nil {
		return checkup.Skip("not checked: " + endpoint.Host + " does not tell the time")
	}
	return skew(l.asked, l.answered, date, endpoint.Host)
}

// withoutToken says what is not checked without one.
const withoutToken = "no token is set, so its rights, your webhooks' state and their URLs are not checked; HF_TOKEN sets one"

// token asks whose token it is.
func (l *hubLook) token(ctx context.Context) api.Finding {
	if l.client == nil {
		return checkup.Skip(notAsked)
	}
	token, err := l.client.Token()
	switch {
	case err != nil:
		l.failed = err
		return checkup.Fail(err)
	case token.Value == "" && l.needed:
		return checkup.Fail(text.WithHint(errors.New("no token is set, and --watch and --webhook need one"), tokenHint(l.client.Endpoint())))
	case token.Value == "":
		return checkup.Skip(withoutToken)
	case l.failed != nil:
		return checkup.Skip(notAsked)
	}
	l.user, err = l.client.WhoAmI(ctx)
	if err != nil {
		l.unreachable(err)
		f := l.trouble(err)
		if errors.Is(err, hub.ErrUnauthorized) {
			l.failed, f.Result = err, api.Fail // with a wrong token the Hub refuses even requests for public repos
		}
		return f
	}
	return l.rights(token.Source)
}

func tokenHint(endpoint string) string {
	return "set HF_TOKEN to a token from " + endpoint + "/settings/tokens, or run hf auth login"
}

// The rights of a fine-grained token on webhooks, as whoami-v2 lists them.
const (
	mayRead  = "user.webhooks.read"
	mayWrite = "user.webhooks.write"
)

// rights says what the token may do with webhooks. The kinds of tokens are those that whoami-v2 names; of another one nothing is known.
func (l *hubLook) rights(source string) api.Finding {
	whose := fmt.Sprintf("the token from %s is of %s", source, text.OneLine(l.user.Name, 100))
	if l.user.TokenName != "" {
		whose = fmt.Sprintf("the token %q from %s is of %s", text.OneLine(l.user.TokenName, 100), source, text.OneLine(l.user.Name, 100))
	}
	lacks := func(what, fix string) api.Finding {
		return l.trouble(text.WithHint(errors.New(whose+", "+what), fix))
	}
	settings := l.client.Endpoint() + "/settings/tokens"
	has := func(right string) bool { return slices.Contains(l.user.Permissions, right) }
	switch {
	case l.user.Role == "fineGrained" && !has(mayRead) && !has(mayWrite):
		return lacks("and lacks the rights "+mayRead+" and "+mayWrite, "give it these rights at "+settings)
	case l.user.Role == "fineGrained" && !has(mayWrite) && l.needed:
		return lacks("and lacks the right "+mayWrite+", which --watch and --webhook need", "give it this right at "+settings)
	case l.user.Role == "read" && l.needed:
		return lacks("and may change nothing, which --watch and --webhook need", "make one that may write, or a fine-grained one with "+mayRead+" and "+mayWrite+", at "+settings)
	case l.user.Role == "read", l.user.Role == "fineGrained" && !has(mayWrite):
		return checkup.OK(whose + "; it may read webhooks")
	case l.user.Role == "write", l.user.Role == "fineGrained":
		return checkup.OK(whose + "; it may read and change webhooks")
	}
	return checkup.OK(whose + "; what it may do is not known")
}

// list asks for the webhooks. It returns a finding where there is no list.
func (l *hubLook) list(ctx context.Context) *api.Finding {
	skip := func(why string) *api.Finding {
		f := checkup.Skip(why)
		return &f
	}
	if l.client == nil || l.failed != nil {
		return skip(notAsked)
	}
	if token, err := l.client.Token(); err == nil && token.Value == "" {
		return skip("not checked: no token is set")
	}
	webhooks, err := l.client.Webhooks.List(ctx)
	if err != nil {
		l.unreachable(err)
		f := l.trouble(err)
		return &f
	}
	l.webhooks, l.listed = webhooks, true
	l.readRecords(ctx)
	return nil
}

// every judges the webhooks that post here, that should post here, or that the Hub has suspended. Of the others it only says how many there are.
func (l *hubLook) every(ctx context.Context) []api.Finding {
	if f := l.list(ctx); f != nil {
		return []api.Finding{*f}
	}
	var each []api.Finding
	here, others := 0, 0
	for _, w := range l.webhooks {
		v := l.here.judge(w)
		switch {
		case v.place == placeHere || v.place == placeEarlier:
			here++
		case v.bad() && l.here.running != nil, v.bad() && v.place == placeNowhere, w.State == hub.Suspended:
		default:
			others++
			continue
		}
		each = append(each, v.finding())
	}
	said := fmt.Sprintf("%s has %s", text.OneLine(cmp.Or(l.user.Name, "the token's user"), 100), countOf(len(l.webhooks), "webhook", "webhooks"))
	if others > 0 && len(l.webhooks) > 0 {
		said += fmt.Sprintf("; %d of them not of this hubhook", others)
	}
	first := checkup.OK(said)
	if running := l.here.running; here == 0 && running != nil && running.Addresses.Public != "" {
		first = checkup.Warn(said+", and none posts to this hubhook", "make one: hubhook hub create --url "+l.here.address()+" --watch TYPE:NAME\nor have hubhook keep one right: hubhook serve --watch TYPE:NAME")
	}
	return append([]api.Finding{first}, each...)
}

// littleLeft is the number of requests below which doctor warns, because hubhook may need more in a minute. It also warns at a tenth of the quota.
const littleLeft = 50

// rate says how much of the Hub's rate limit is left.
func (l *hubLook) rate(context.Context) api.Finding {
	if l.client == nil {
		return checkup.Skip(notAsked)
	}
	limit, ok := l.client.RateLimit()
	if !ok {
		return checkup.Skip("the Hub has not told how many requests are left")
	}
	said := countOf(limit.Left, "request is left", "requests are left")
	if limit.Quota > 0 {
		said = fmt.Sprintf("%d of %d requests are left", limit.Left, limit.Quota)
	}
	said += fmt.Sprintf(" for the next %v", limit.Reset)
	if limit.Left*10 <= limit.Quota || limit.Left < littleLeft {
		return checkup.Warn(said, "find out what else asks the Hub with this token, or from this address; hubhook waits once none is left")
	}
	return checkup.OK(said)
}
