package tunneltest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.ngrok.com/muxado/v2"
)

// The stream types of the agent protocol.
const (
	streamAuth       muxado.StreamType = 0
	streamBind       muxado.StreamType = 1
	streamUnbind     muxado.StreamType = 2
	streamProxy      muxado.StreamType = 3
	streamSrvInfo    muxado.StreamType = 8
	streamStopTunnel muxado.StreamType = 9
	streamHeartbeat  muxado.StreamType = 0xFFFFFFFF
)

const region = "loopback"

type authRequest struct {
	Extra struct {
		Authtoken string
		Cookie    string // of the answer to an earlier login
	}
}

// authResponse has no ClientId: with one, the SDK (v2.4.0, raw_session.go) replaces its logger while its heartbeats use it. That is a race,
// and the race detector finds it in every test that lasts longer than a heartbeat. The edge knows a returning agent by its cookie.
type authResponse struct {
	Version string
	Error   string
	Extra   authResponseExtra
}

type authResponseExtra struct {
	Version        string
	Region         string
	Cookie         string
	AccountName    string
	PlanName       string
	AgentSessionID string
}

type bindRequest struct {
	ID    string `json:"Id"`
	Proto string
	Opts  struct {
		URL      string
		Domain   string
		Hostname string
	}
	Extra struct {
		Token          string
		PoolingEnabled bool
	}
}

type bindOptions struct {
	URL      string
	Hostname string
}

type bindResponse struct {
	ID    string `json:"Id"`
	URL   string
	Proto string
	Opts  bindOptions
	Error string
	Extra struct {
		Token    string
		TunnelID string
	}
}

type unbindRequest struct {
	ID string `json:"Id"`
}

type unbindResponse struct{ Error string }

type srvInfoResponse struct{ Region string }

type stopTunnel struct {
	ID        string `json:"Id"`
	Message   string
	ErrorCode string
}

type proxyHeader struct {
	ID             string `json:"Id"`
	ClientAddr     string
	Proto          string
	EdgeType       string
	PassthroughTLS bool
}

// session is one agent's connection.
type session struct {
	edge      *Edge
	transport net.Conn
	mux       muxado.TypedStreamSession
	gone      chan struct{} // closed with the connection

	// Under the edge's lock.
	cookie string // the agent's identity; empty before it has logged in
	over   bool   // a request that is still being answered changes nothing any more
}

func (s *session) carrier() net.Conn { return s.transport }

const sessionOver = "The session has ended."

// endpoint is a public URL that is bound to a session.
type endpoint struct {
	session *session
	id      string
	url     string
	scheme  string
}

var lastID atomic.Int64

func newID(kind string) string { return fmt.Sprintf("%s_%08d", kind, lastID.Add(1)) }

// serveAgent speaks with an agent until its connection ends.
func (e *Edge) serveAgent(transport net.Conn, config *tls.Config) {
	transport, admitted := e.admit(transport)
	if !admitted {
		return
	}
	gone := make(chan struct{})
	s := &session{edge: e, transport: transport, gone: gone}
	s.mux = muxado.NewTypedStreamSession(muxado.Server(tls.Server(transport, config), nil))
	defer s.end()
	for {
		stream, err := s.mux.AcceptTypedStream()
		if err != nil {
			return
		}
		e.serving.Go(func() {
			guarded := &agentStream{Stream: stream}
			defer guarded.Close()
			s.answer(guarded, stream.StreamType())
		})
	}
}

// agentStream is a stream of a session. When a session dies, muxado v2.0.2 lets a Write fail although the session may still be reading the
// bytes of that Write and the stream's frame. So the bytes are a copy, and nothing touches the frame after a failed Write.
type agentStream struct {
	muxado.Stream
	writing sync.Mutex
	over    bool // a Write has failed, or the stream is closed
}

func (s *agentStream) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.over {
		return 0, io.ErrClosedPipe
	}
	n, err := s.Stream.Write(bytes.Clone(b))
	s.over = err != nil
	return n, err
}

// CloseWrite sends the end of the stream.
func (s *agentStream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.over {
		return io.ErrClosedPipe
	}
	err := s.Stream.CloseWrite()
	s.over = err != nil
	return err
}

// Close ends both directions. A stream whose Write has failed has ended by itself.
func (s *agentStream) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.over {
		return nil
	}
	s.over = true
	return s.Stream.Close()
}

// end forgets the session.
func (s *session) end() {
	close(s.gone)
	s.mux.Close()
	e := s.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetLocked(s)
	e.wakeLocked()
}

func (e *Edge) forgetLocked(s *session) {
	s.over = true
	delete(e.sessions, s)
	for host, p := range e.bound {
		if p.session == s {
			delete(e.bound, host)
		}
	}
}

// answer answers one request of the agent. If the agent violates the protocol, it loses its connection.
func (s *session) answer(stream *agentStream, kind muxado.StreamType) {
	if kind == streamHeartbeat {
		s.beat(stream)
		return
	}
	if !s.edge.waitWhile(func(f faults) bool { return f.hanging }, s.gone) {
		return
	}
	var err error
	switch kind {
	case streamAuth:
		err = respond(stream, s.auth)
	case streamBind:
		err = respond(stream, s.bind)
	case streamUnbind:
		err = respond(stream, s.unbind)
	case streamSrvInfo:
		err = respond(stream, func(struct{}) srvInfoResponse { return srvInfoResponse{region} })
	default:
		err = fmt.Errorf("stream type %d is not known", kind)
	}
	if err != nil {
		s.transport.Close()
	}
}

// respond reads a request from the stream and writes the response that answer returns.
func respond[Q, A any](stream io.ReadWriter, answer func(Q) A) error {
	var q Q
	if err := json.NewDecoder(stream).Decode(&q); err != nil {
		return err
	}
	text, err := json.Marshal(answer(q))
	if err != nil {
		return err
	}
	_, err = stream.Write(text)
	return err
}

// beat echoes heartbeats, until none comes or an echo can't be written.
func (s *session) beat(stream io.ReadWriter) {
	var id [4]byte
	for {
		if _, err := io.ReadFull(stream, id[:]); err != nil {
			return
		}
		if !s.edge.waitWhile(func(f faults) bool { return f.frozen || f.hanging }, s.gone) {
			return
		}
		if _, err := stream.Write(id[:]); err != nil {
			return
		}
	}
}

var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (s *session) auth(q authRequest) authResponse {
	e := s.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	a := authResponse{Version: "3"}
	token := q.Extra.Authtoken
	text, fail := e.faults.auth.take()
	switch {
	case s.over:
		a.Error = sessionOver
	case fail:
		a.Error = text
	case token == "":
		a.Error = serviceText("An agent needs an authtoken of a verified account.", "ERR_NGROK_4018")
	case slices.Contains(e.options.Tokens, token):
		e.takeOverLocked(q.Extra.Cookie)
		if e.options.MaxSessions > 0 && len(e.sessions) >= e.options.MaxSessions {
			a.Error = serviceText(fmt.Sprintf("The account is limited to %d simultaneous agent sessions.", e.options.MaxSessions), "ERR_NGROK_108")
		}
	case !tokenForm.MatchString(token):
		a.Error = serviceText("That is not what an authtoken looks like.\nYour authtoken: "+token, "ERR_NGROK_105")
	default:
		// The real service repeats the token, too.
		a.Error = serviceText("That authtoken looks right but is not valid; it may have been reset or revoked.\nYour authtoken: "+token, "ERR_NGROK_107")
	}
	if a.Error != "" {
		return a
	}
	s.cookie = q.Extra.Cookie
	if s.cookie == "" {
		s.cookie = newID("cookie")
	}
	e.sessions[s] = struct{}{}
	e.started++
	e.wakeLocked()
	a.Extra = authResponseExtra{
		Version:        "stand-in",
		Region:         region,
		Cookie:         s.cookie,
		AccountName:    "Stand-in",
		PlanName:       "Free",
		AgentSessionID: newID("ts"),
	}
	return a
}

// takeOverLocked ends the old session of an agent that has come back. The edge may not have noticed yet that the old session is dead.
func (e *Edge) takeOverLocked(cookie string) {
	for s := range e.sessions {
		if cookie != "" && s.cookie == cookie {
			e.forgetLocked(s)
			s.transport.Close()
		}
	}
}

func (s *session) bind(q bindRequest) bindResponse {
	e := s.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	a := bindResponse{ID: q.ID, Proto: q.Proto}
	switch {
	case s.over:
		a.Error = sessionOver
		return a
	case s.cookie == "":
		a.Error = "The session has not been authenticated."
		return a
	}
	if text, fail := e.faults.bind.take(); fail {
		a.Error = text
		return a
	}
	if q.Proto != "http" && q.Proto != "https" {
		a.Error = fmt.Sprintf("The stand-in edge has no endpoints of protocol %q.", q.Proto)
		return a
	}
	host := wantedHost(q)
	// A returning agent asks for its assigned URL, and its token shows that the URL was assigned.
	assigned := host == "" || e.assigned[q.Extra.Token]
	if assigned {
		host = e.domain
	}
	if !assigned && host != e.domain && e.options.Domains != nil && !slices.Contains(e.options.Domains, host) {
		a.Error = serviceText(fmt.Sprintf("The domain %q is not reserved for this account.", host), "ERR_NGROK_319")
		return a
	}
	// A returning agent takes the URL over from its own old session.
	if other := e.bound[host]; other != nil && other.session != s && other.session.cookie != s.cookie {
		a.Error = serviceText(fmt.Sprintf("The endpoint %q is already online.", other.url), "ERR_NGROK_334")
		return a
	}
	if a.ID == "" {
		a.ID = newID("bind")
	}
	a.URL = q.Proto + "://" + host
	a.Opts = bindOptions{URL: a.URL, Hostname: host}
	a.Extra.Token = newID("token")
	a.Extra.TunnelID = newID("tn")
	if assigned {
		e.assigned[a.Extra.Token] = true
	}
	e.bound[host] = &endpoint{session: s, id: a.ID, url: a.URL, scheme: q.Proto}
	if e.faults.life > 0 {
		time.AfterFunc(e.faults.life, func() { s.transport.Close() })
	}
	e.wakeLocked()
	return a
}

// wantedHost returns the public host that an agent asks for, empty for none.
func wantedHost(q bindRequest) string {
	if u, err := url.Parse(q.Opts.URL); err == nil && u.Hostname() != "" {
		return strings.ToLower(u.Hostname())
	}
	if q.Opts.Hostname != "" {
		return strings.ToLower(q.Opts.Hostname)
	}
	return strings.ToLower(q.Opts.Domain)
}

func (s *session) unbind(q unbindRequest) unbindResponse {
	e := s.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	for host, p := range e.bound {
		if p.session == s && p.id == q.ID {
			delete(e.bound, host)
			e.wakeLocked()
			return unbindResponse{}
		}
	}
	return unbindResponse{Error: "The endpoint is not bound."}
}

func (s *session) stopEndpoint(p *endpoint, code, message string) error {
	opened, err := s.mux.OpenTypedStream(streamStopTunnel)
	if err != nil {
		return fmt.Errorf("stop the endpoint %s: %w", p.url, err)
	}
	stream := &agentStream{Stream: opened}
	defer stream.Close()
	if err := json.NewEncoder(stream).Encode(stopTunnel{p.id, message, code}); err != nil {
		return fmt.Errorf("stop the endpoint %s: %w", p.url, err)
	}
	return nil
}

// open begins a connection from client to the endpoint.
func (p *endpoint) open(client net.Addr) (*agentStream, error) {
	header, err := json.Marshal(proxyHeader{ID: p.id, ClientAddr: client.String(), Proto: p.scheme, EdgeType: "3"})
	if err != nil {
		return nil, err
	}
	opened, err := p.session.mux.OpenTypedStream(streamProxy)
	if err != nil {
		return nil, err
	}
	stream := &agentStream{Stream: opened}
	frame := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	if _, err := stream.Write(append(frame, header...)); err != nil {
		return nil, err
	}
	return stream, nil
}
