package ngrok

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	sdk "golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/internal/latest"
)

const (
	// The service is taken for gone after heartbeatInterval + heartbeatTolerance without an answer, 8 s, so that deliveries flow again
	// 10 s after a connection died without a word. The SDK's own are 10 s and 15 s.
	heartbeatInterval  = 3 * time.Second
	heartbeatTolerance = 5 * time.Second

	// dropLimit is how long the goodbye to the service may take; the SDK's own Close can hang for ever.
	dropLimit = time.Second
)

// dialer makes sessions, all with the same settings.
type dialer struct {
	settings settings
	getenv   func(string) string
	logger   *slog.Logger
	hide     redactor
	version  string
	failed   sync.WaitGroup // what failed tries leave behind for a moment
}

// session is one agent of the SDK with its one endpoint. It is never used again after an Accept error: the SDK would bind an
// endpoint whose requests hang.
type session struct {
	agent   sdk.Agent
	service *serviceDialer
	events  *latest.Chan[error]
	end     context.CancelFunc // ends the session; its context is the session's life

	listener sdk.EndpointListener
	asked    bool // for its URL, which the service keeps then
}

// newSession makes an agent that has not connected yet.
func (d *dialer) newSession() (*session, context.Context, error) {
	s := &session{service: newServiceDialer(d.settings, d.getenv), events: latest.New[error](64)}
	options := []sdk.AgentOption{
		sdk.WithAuthtoken(d.settings.credential.token),
		sdk.WithLogger(d.logger),
		sdk.WithDialer(s.service),
		sdk.WithClientInfo("hubhook", d.version),
		sdk.WithHeartbeatInterval(heartbeatInterval),
		sdk.WithHeartbeatTolerance(heartbeatTolerance),
		sdk.WithEventHandler(func(e sdk.Event) {
			// The SDK waits for this function while it holds its locks.
			switch e := e.(type) {
			case *sdk.EventAgentConnectSucceeded:
				s.events.Send(nil)
			case *sdk.EventAgentDisconnected:
				if e.Error != nil {
					s.events.Send(e.Error)
				}
			}
		}),
	}
	if addr := d.settings.connectURL; addr != "" {
		options = append(options, sdk.WithAgentConnectURL(addr), sdk.WithTLSConfig(func(config *tls.Config) {
			// The SDK takes what stands before the first colon, which is wrong for an IPv6 address.
			if host, _, err := net.SplitHostPort(addr); err == nil {
				config.ServerName = host
			}
		}))
	}
	if d.settings.connectCAs != nil {
		options = append(options, sdk.WithAgentConnectCAs(d.settings.connectCAs))
	}
	agent, err := sdk.NewAgent(options...)
	if err != nil {
		return nil, nil, d.failure(err)
	}
	s.agent = agent
	// Never with a deadline: the SDK ends the session with this context.
	life, end := context.WithCancel(context.Background())
	s.end = end
	return s, life, nil
}

// Dial makes one try to come online. The SDK would go on trying for ever, so its first word about a failure ends the try.
func (d *dialer) Dial(ctx context.Context, url string, limit time.Duration) (tunnel.Session, error) {
	s, life, err := d.newSession()
	if err != nil {
		return nil, err
	}
	type result struct {
		listener sdk.EndpointListener
		err      error
	}
	done := make(chan result, 1)
	d.failed.Go(func() {
		if err := s.agent.Connect(life); err != nil {
			done <- result{nil, err}
			return
		}
		var options []sdk.EndpointOption
		if url != "" {
			options = append(options, sdk.WithURL(url))
		}
		listener, err := s.agent.Listen(life, options...)
		done <- result{listener, err}
	})
	// abandon must not call Disconnect while Connect or Listen run: the first would wait for them, the second panic.
	abandon := func() {
		s.Cut()
		d.failed.Go(func() {
			if r := <-done; r.err == nil {
				s.listener = r.listener
			}
			s.Close()
		})
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil {
				done <- r
				abandon()
				return nil, d.explain(ctx, r.err)
			}
			s.listener, s.asked = r.listener, url != ""
			return s, nil
		case event := <-s.events.C:
			if event != nil {
				abandon()
				return nil, d.explain(ctx, event)
			}
		case <-timer.C:
			abandon()
			return nil, d.explain(ctx, fmt.Errorf("no answer within %v", limit))
		case <-ctx.Done():
			abandon()
			return nil, d.failure(context.Cause(ctx))
		}
	}
}

// Wait returns once the goroutines of failed tries have ended.
func (d *dialer) Wait() { d.failed.Wait() }

// Accept returns the next connection; see [tunnel.Session].
func (s *session) Accept() (net.Conn, error) {
	c, err := s.listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

// URL is the public URL. One that was assigned may have become another when the SDK brought the session back: the SDK keeps saying
// the old one.
func (s *session) URL() (string, bool) { return s.listener.URL().String(), s.asked }

// Events are the SDK's: it brings a lost session back by itself, as the agent that it was.
func (s *session) Events() <-chan error { return s.events.C }

// Resume makes the SDK lose the session and bring it back.
func (s *session) Resume() bool {
	s.service.cutNow()
	return true
}

// Local are the addresses at this end of the connections to the service.
func (s *session) Local() []netip.Addr { return s.service.local() }

// Retire takes the URL off the service. It can hang: the SDK (v2.4.0, session.go, handleProxy) locks itself out where a new stream
// arrives at the wrong moment.
func (s *session) Retire() {
	// A service that does not answer keeps the URL until the session ends, which is next.
	_ = s.listener.Close()
}

// Cut closes the connections to the service and lets no new one come up.
func (s *session) Cut() {
	s.end()
	s.service.cutAll()
}

// Close ends the session and cuts what is in flight.
func (s *session) Close() {
	s.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What they return is that the session is gone, which is the purpose.
		_ = s.agent.Disconnect()
		if s.listener != nil {
			_ = s.listener.Close()
		}
	}()
	timer := time.NewTimer(dropLimit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	s.service.cutAll()
}
