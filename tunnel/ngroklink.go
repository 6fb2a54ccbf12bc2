package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.ngrok.com/ngrok/v2"
)

const (
	// The service is taken for gone after heartbeatInterval + heartbeatTolerance without an answer, 8 s, so that deliveries flow again
	// 10 s after a connection died without a word. The SDK's own are 10 s and 15 s.
	heartbeatInterval  = 3 * time.Second
	heartbeatTolerance = 5 * time.Second

	// diagnoseLimit bounds the search for the step that failed.
	diagnoseLimit = 2500 * time.Millisecond

	// dropLimit bounds each step of taking a session down; the SDK's own Close can hang for ever.
	dropLimit = time.Second
)

// sessionEvent is what the SDK tells about the session: connected, with a nil error, or why it is not.
type sessionEvent struct{ err error }

// link is one agent of the SDK with its session and its one endpoint. It is never used again after an Accept error: the SDK
// would bind an endpoint whose requests hang.
type link struct {
	agent  ngrok.Agent
	dialer *serviceDialer
	events *latest[sessionEvent]
	end    context.CancelFunc // ends the session; its context is the session's life
	online time.Time

	listener ngrok.EndpointListener
	url      string
	dropped  chan struct{} // closed when drop begins
	ended    chan error    // the pump's last error
	open     openConns
}

// newLink makes an agent that has not connected yet.
func (c ngrokClient) newLink() (*link, context.Context, error) {
	l := &link{
		dialer:  newServiceDialer(c.settings, c.getenv),
		events:  newLatest[sessionEvent](64),
		dropped: make(chan struct{}),
		ended:   make(chan error, 1),
	}
	options := []ngrok.AgentOption{
		ngrok.WithAuthtoken(c.settings.credential.token),
		ngrok.WithLogger(c.logger),
		ngrok.WithDialer(l.dialer),
		ngrok.WithClientInfo("hubhook", c.version),
		ngrok.WithHeartbeatInterval(heartbeatInterval),
		ngrok.WithHeartbeatTolerance(heartbeatTolerance),
		ngrok.WithEventHandler(func(e ngrok.Event) {
			// The SDK waits for this function while it holds its locks.
			switch e := e.(type) {
			case *ngrok.EventAgentConnectSucceeded:
				l.events.send(sessionEvent{})
			case *ngrok.EventAgentDisconnected:
				if e.Error != nil {
					l.events.send(sessionEvent{e.Error})
				}
			}
		}),
	}
	if addr := c.settings.connectURL; addr != "" {
		options = append(options, ngrok.WithAgentConnectURL(addr), ngrok.WithTLSConfig(func(config *tls.Config) {
			// The SDK takes what stands before the first colon, which is wrong for an IPv6 address.
			if host, _, err := net.SplitHostPort(addr); err == nil {
				config.ServerName = host
			}
		}))
	}
	if c.settings.connectCAs != nil {
		options = append(options, ngrok.WithAgentConnectCAs(c.settings.connectCAs))
	}
	agent, err := ngrok.NewAgent(options...)
	if err != nil {
		return nil, nil, c.failure(err)
	}
	l.agent = agent
	// Never with a deadline: the SDK ends the session with this context.
	life, end := context.WithCancel(context.Background())
	l.end = end
	return l, life, nil
}

// ngrokClient makes links, all with the same settings.
type ngrokClient struct {
	settings ngrokSettings
	getenv   func(string) string
	logger   *slog.Logger
	hide     redactor
	version  string
}

// connect makes one try to come online. The SDK would go on trying for ever, so its first word about a failure ends the try.
// A renewal ends it, too, for it may be waiting for an answer on a network that is gone. background is told of the goroutine that a
// failed try leaves behind for a moment.
func (c ngrokClient) connect(ctx context.Context, limit time.Duration, renewals <-chan renewal, background *sync.WaitGroup) (*link, *Error) {
	l, life, err := c.newLink()
	if err != nil {
		return nil, c.failure(err)
	}
	type result struct {
		listener ngrok.EndpointListener
		err      error
	}
	done := make(chan result, 1)
	background.Add(1)
	go func() {
		defer background.Done()
		if err := l.agent.Connect(life); err != nil {
			done <- result{nil, err}
			return
		}
		var options []ngrok.EndpointOption
		if c.settings.url != "" {
			options = append(options, ngrok.WithURL(c.settings.url))
		}
		listener, err := l.agent.Listen(life, options...)
		done <- result{listener, err}
	}()
	// abandon must not call Disconnect while Connect or Listen run: the first would wait for them, the second panic.
	abandon := func() {
		l.end()
		l.dialer.cutAll()
		background.Add(1)
		go func() {
			defer background.Done()
			if r := <-done; r.err == nil {
				l.listener = r.listener
				close(l.ended)
			}
			l.drop()
		}()
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil {
				done <- r
				abandon()
				return nil, c.explain(ctx, r.err)
			}
			l.listener, l.url, l.online = r.listener, r.listener.URL().String(), time.Now()
			return l, nil
		case event := <-l.events.c:
			if event.err != nil {
				abandon()
				return nil, c.explain(ctx, event.err)
			}
		case r := <-renewals:
			abandon()
			return nil, r.why
		case <-timer.C:
			abandon()
			return nil, c.explain(ctx, fmt.Errorf("no answer within %v", limit))
		case <-ctx.Done():
			abandon()
			return nil, c.failure(context.Cause(ctx))
		}
	}
}

// pump accepts until the SDK fails, whatever becomes of the tunnel: a connection that nobody accepts makes the SDK hang.
func (l *link) pump(handOver func(net.Conn, *link)) {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			l.ended <- err
			close(l.ended)
			return
		}
		handOver(conn, l)
	}
}

// unbind takes the URL off the service and keeps what is in flight. It reports whether that was done within limit: the SDK (v2.4.0,
// session.go, handleProxy) locks itself out where a new stream arrives at the wrong moment, and the service keeps the URL then.
func (l *link) unbind(background *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	background.Add(1)
	go func() {
		defer background.Done()
		defer close(done)
		// A service that does not answer keeps the URL until the session ends, which is next.
		_ = l.listener.Close()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// drop ends the session and cuts what is in flight. It returns when the pump has ended, after 3 s at most.
func (l *link) drop() {
	close(l.dropped)
	l.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What they return is that the session is gone, which is the purpose.
		_ = l.agent.Disconnect()
		if l.listener != nil {
			_ = l.listener.Close()
		}
	}()
	timer := time.NewTimer(dropLimit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	l.dialer.cutAll()
	if l.listener == nil {
		return
	}
	timer.Reset(dropLimit)
	for {
		select {
		case _, running := <-l.ended:
			if !running {
				return
			}
		case <-timer.C:
			return
		}
	}
}

// failure is an error of ours or of the network, with nothing more known about it.
func (c ngrokClient) failure(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{
		Op:        openNgrok,
		Cause:     c.hide.line(err.Error()),
		Fix:       "check the network between here and " + c.address(),
		Temporary: true,
		Err:       c.redacted(err),
	}
}

// redacted keeps what errors.Is can tell of an error, without its text.
func (c ngrokClient) redacted(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New(c.hide.line(err.Error()))
}

func (c ngrokClient) address() string { return c.settings.address() }

// explain finds out what is behind an error of the SDK. Where the service has not said so with a code, it takes the way step by
// step, for the SDK reports a certificate it does not trust as a session that was closed.
func (c ngrokClient) explain(ctx context.Context, err error) *Error {
	if codeIn(err.Error()) != "" {
		return serviceError(err.Error(), c.settings.credential, c.hide)
	}
	l, _, newErr := c.newLink()
	if newErr != nil {
		return c.failure(newErr)
	}
	defer l.end()
	defer l.dialer.cutAll()
	ctx, cancel := context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	_, step := l.agent.(ngrok.Diagnoser).Diagnose(ctx, "")
	if step == nil {
		return c.failure(err)
	}
	e := c.failure(step)
	addr := c.address()
	switch {
	case ngrok.IsTCPDiagnoseFailure(step):
		e.Cause = "the ngrok service at " + addr + " cannot be reached: " + c.hide.line(errors.Unwrap(step).Error())
		e.Fix = "check your network; where a firewall stands in between, set HTTPS_PROXY or proxy_url in ngrok.yml"
		if via, err := l.dialer.proxyFor(addr); err != nil || via != nil {
			e.Fix = "check the proxy that " + l.dialer.proxySource + " names"
		} else if c.settings.connectURL != "" {
			e.Fix = "check your network and connect_url in ngrok.yml"
		}
	case ngrok.IsTLSDiagnoseFailure(step):
		c.explainTLS(e, errors.Unwrap(step), addr)
	case ngrok.IsMuxadoDiagnoseFailure(step):
		e.Cause = addr + " accepts connections but does not answer as the ngrok service does: " + c.hide.line(errors.Unwrap(step).Error())
		e.Fix = "try again in a minute; https://status.ngrok.com tells of outages"
		if c.settings.connectURL != "" {
			e.Fix = "check connect_url in ngrok.yml"
		}
	}
	return e
}

func (c ngrokClient) explainTLS(e *Error, err error, addr string) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	trusted := orDefault(c.settings.casSource, "ngrok's own")
	switch {
	case errors.As(err, &unknown):
		e.Cause = "the certificate of " + addr + " is not signed by an authority that is trusted here (" + trusted + ")"
	case errors.As(err, &hostname):
		e.Cause = "the certificate of " + addr + " is for another name: " + c.hide.line(hostname.Error())
	case errors.As(err, &invalid):
		e.Cause = "the certificate of " + addr + " is not valid: " + c.hide.line(invalid.Error())
	default:
		e.Cause = addr + " does not complete a TLS handshake: " + c.hide.line(err.Error())
		e.Fix = "check the network between here and " + addr + ", and connect_url in ngrok.yml if it is set"
		return
	}
	e.Temporary = false
	e.Fix = "name the right authority in connect_cas of ngrok.yml"
	if c.settings.casSource == "" {
		e.Fix = "a proxy that looks into TLS is in the way: name its authority in connect_cas of ngrok.yml, or go around it"
	}
}

// openConns counts connections that have been handed out and not closed.
type openConns struct {
	mu      sync.Mutex
	n       int
	waiting chan struct{} // closed at the next zero; nil as long as nobody waits
}

func (o *openConns) add() {
	o.mu.Lock()
	o.n++
	o.mu.Unlock()
}

func (o *openConns) done() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n--
	if o.n == 0 && o.waiting != nil {
		close(o.waiting)
		o.waiting = nil
	}
}

// none reports whether none is open.
func (o *openConns) none() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n == 0
}

// drained is closed as soon as none is open.
func (o *openConns) drained() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if o.waiting == nil {
		o.waiting = make(chan struct{})
	}
	return o.waiting
}
