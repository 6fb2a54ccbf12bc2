package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/hubhook/hubhook/tunnel"
)

// clientVersion is what servers are told of this program.
const clientVersion = "SSH-2.0-hubhook"

// dialer makes sessions, all with the same settings.
type dialer struct {
	service service
	config  Config
	pace    pace
	forward forward
	wanted  string // URL, or empty
	keys    *keys
	hosts   *hostKeys
	// trusting is told of a host key that is trusted from now on. Nil: it is not trusted for longer than this try.
	trusting func(string)

	// Of Dial, which is called one at a time.
	toldLimits   bool
	loggedIn     bool
	oldRefusals  int       // of the name that the tunnel had, in a row
	oldRefusedAt time.Time // the first of them
}

// plain finds servers that forward and say nothing: sshd and dropbear. Everything else is taken for a service that says a URL.
var plain = regexp.MustCompile(`^SSH-[0-9.]+-(OpenSSH|dropbear)`)

// Dial makes one try to come online.
func (d *dialer) Dial(ctx context.Context, url string, limit time.Duration) (tunnel.Session, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := d.connect(within)
	if err != nil {
		return nil, d.explain(causeOf(ctx, err))
	}
	stop := context.AfterFunc(within, s.Cut)
	err = d.open(within, s, url)
	if !stop() {
		err = errors.Join(err, within.Err())
	}
	if err == nil {
		d.loggedIn, d.oldRefusals = true, 0
		d.tellLimits(s)
		s.running.Go(s.keepAlive)
		return s, nil
	}
	s.Close()
	if e, ok := errors.AsType[*tunnel.Error](err); ok && ctx.Err() == nil {
		if e.Refused && e.Temporary {
			d.mindOldName(within, e, url)
		}
		return nil, e
	}
	return nil, d.explain(causeOf(ctx, fmt.Errorf("%s does not answer as an SSH server that forwards: %w", d.service.title, err)))
}

// mindOldName waits before the tunnel's old name is asked for once more. The server keeps that name for some seconds if it has not noticed
// the end of the last session. After a time mindOldName gives the old name up.
func (d *dialer) mindOldName(ctx context.Context, e *tunnel.Error, url string) {
	if url == "" || url == d.wanted {
		return
	}
	if d.oldRefusals++; d.oldRefusals == 1 {
		d.oldRefusedAt = time.Now()
	}
	if time.Since(d.oldRefusedAt) > d.pace.oldName {
		e.Temporary, d.oldRefusals = false, 0
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d.pace.firstWait << min(d.oldRefusals-1, 3)):
	}
}

// Wait returns at once: a try that fails has closed all that it began.
func (d *dialer) Wait() {}

// connect logs in.
func (d *dialer) connect(ctx context.Context) (*session, error) {
	addr := d.service.address()
	conn, err := d.config.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, &unreachableError{err}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	w := &wire{Conn: conn}
	login := d.keys.begin(ctx)
	defer login.end()
	client, chans, reqs, err := xssh.NewClientConn(w, addr, &xssh.ClientConfig{
		User:              d.service.user,
		Auth:              login.methods(),
		AuthCallback:      login.note,
		HostKeyCallback:   d.hosts.check(d.trusting),
		HostKeyAlgorithms: d.hosts.algorithms(),
		ClientVersion:     clientVersion,
	})
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, &loginError{err, login}
	}
	return newSession(w, client, chans, reqs, d.pace), nil
}

// open asks for the forward and finds out the URL.
func (d *dialer) open(ctx context.Context, s *session, url string) error {
	if d.isPlain(s) {
		return d.openPlain(ctx, s, url)
	}
	return d.openService(ctx, s, url)
}

// openPlain asks a server that only forwards. Such a server does not say which URL leads to it: that is the URL of the settings, or else the
// server's own host and port.
func (d *dialer) openPlain(ctx context.Context, s *session, url string) error {
	ask := forwardRequest{Host: d.forward.host, Port: d.forward.port}
	if !d.forward.set {
		ask.Port = portOf(url)
	}
	if d.wanted != "" && ask.Port == 0 {
		return configError(openAct, fmt.Sprintf("%s is a plain SSH server, which does not know which of its ports %s leads to", d.service.title, d.wanted), "say so with --ssh-forward PORT")
	}
	if d.wanted != "" && ask.Host == "" && portOf(d.wanted) == 0 {
		ask.Host = "localhost" // what leads there from the URL runs on the server
	}
	answer, err := d.answer(ctx, s, s.request(ask), ask)
	if err != nil {
		return err
	}
	if ask.Port == 0 {
		s.asked.Port = answer.port // which is what takes the forward back
	}
	if url = d.wanted; url == "" {
		url = "http://" + net.JoinHostPort(d.service.host, fmt.Sprint(s.asked.Port))
	}
	s.setURL(url, false)
	return nil
}

// openService is for a server that says the URL.
func (d *dialer) openService(ctx context.Context, s *session, url string) error {
	was := url != "" && url != d.wanted
	if was && !d.service.names {
		url = ""
	}
	// OpenSSH asks for localhost if its user names no address, so services take localhost as "no name wanted".
	ask := forwardRequest{Host: "localhost", Port: 80}
	if d.service.anyPort {
		ask.Port = 0
	}
	if url != "" {
		ask.Host = d.service.label(url, was)
	}
	if d.forward.set {
		ask = forwardRequest{Host: d.forward.host, Port: d.forward.port}
	}
	heard := newHearing(s, d.pace.announce)
	pending := s.request(ask)
	if err := s.run(d.service.command, heard.line); err != nil {
		return err
	}
	if _, err := d.answer(ctx, s, pending, ask); err != nil {
		return err
	}
	given, err := heard.wait(ctx)
	if refusal, ok := errors.AsType[*refusalError](err); ok {
		return d.refusal(s, ask, refusal.words)
	}
	if err != nil {
		return err
	}
	if url != "" && !grants(url, given) {
		return d.otherName(url, given, was)
	}
	s.setURL(given, false)
	heard.settle()
	return nil
}

// answer waits for the server's answer to the request for a forward.
func (d *dialer) answer(ctx context.Context, s *session, pending <-chan forwardAnswer, ask forwardRequest) (forwardAnswer, error) {
	select {
	case a := <-pending:
		switch {
		case a.err != nil:
			return a, a.err
		case a.refused:
			return a, d.refusal(s, ask, "")
		}
		return a, nil
	case <-ctx.Done():
		return forwardAnswer{}, errors.New("no answer to the request to forward")
	}
}

// errSilent says that a service took the forward and said no URL.
var errSilent = errors.New("it takes the forward and says no public URL")

// refusalError is a refusal that a service puts into words.
type refusalError struct{ words string }

func (e *refusalError) Error() string { return e.words }

// hearing waits for the URL in what a service says.
type hearing struct {
	session *session
	more    time.Duration
	found   chan struct{} // closed at the first URL
	secure  chan struct{} // closed at the first https URL
	refused chan string

	mu      sync.Mutex
	url     string
	settled bool
}

func newHearing(s *session, more time.Duration) *hearing {
	return &hearing{session: s, more: more, found: make(chan struct{}), secure: make(chan struct{}), refused: make(chan string, 1)}
}

// line takes one line of what is said.
func (h *hearing) line(line string) {
	h.session.words.add(line)
	a, refusal, ok := announced(line)
	if refusal != "" {
		select {
		case h.refused <- refusal:
		default: // the first one counts
		}
	}
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.url
	switch {
	case isSecure(before) && !isSecure(a.url):
		return // the same in two ways
	case h.settled && (a.lasting || a.url == before):
		return
	case isSecure(before) && !h.settled:
		return // services say several of both kinds: the first https URL counts
	}
	h.url = a.url
	if before == "" {
		close(h.found)
	}
	if isSecure(a.url) && !isSecure(before) {
		close(h.secure)
	}
	if h.settled {
		h.session.setURL(a.url, true)
	}
}

// wait returns the URL of the session. After an http URL it waits a moment for one with https.
func (h *hearing) wait(ctx context.Context) (string, error) {
	select {
	case <-h.found:
	case words := <-h.refused:
		return "", &refusalError{words}
	case <-ctx.Done():
		return "", errSilent
	}
	select {
	case <-h.secure:
	case <-time.After(h.more):
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.url, nil
}

// settle has URLs that differ from the session's count as news from now on.
func (h *hearing) settle() {
	h.session.words.forget() // a welcome is no reason of a loss
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = true
}

func isSecure(origin string) bool { return strings.HasPrefix(origin, "https://") }

// tellLimits says once what to expect of the server.
func (d *dialer) tellLimits(s *session) {
	if d.toldLimits {
		return
	}
	d.toldLimits = true
	url, _ := s.URL()
	switch {
	case d.service.preset:
		words := "What comes to the public URL passes through " + d.service.title + ", which can read it."
		if d.service.anonymous {
			words += " " + d.service.limits
		}
		d.config.Say(words)
	case d.isPlain(s) && d.wanted == "":
		d.config.Say(fmt.Sprintf("%s leads here if sshd_config on %s has GatewayPorts yes or clientspecified. What comes there is not encrypted on its way to %s.", url, d.service.host, d.service.host))
	}
}

// isPlain reports whether the server forwards and says nothing.
func (d *dialer) isPlain(s *session) bool {
	return !d.service.preset && plain.Match(s.client.ServerVersion())
}
