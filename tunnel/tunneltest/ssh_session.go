package tunneltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// The messages of RFC 4254, section 7.
type (
	sshForward struct {
		Host string
		Port uint32
	}
	sshForwarded struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
)

// sshSession is one client's connection.
type sshSession struct {
	server    *SSH
	transport net.Conn
	conn      *xssh.ServerConn
	gone      chan struct{} // closed with the connection
	shell     chan struct{} // closed once there is a shell, or a command
	command   string        // before shell is closed
	serving   sync.WaitGroup
	way       *http.Transport // to the client

	mu       sync.Mutex
	terminal xssh.Channel
	forward  sshForward
	listener net.Listener // of a Plain server
}

func (c *sshSession) carrier() net.Conn { return c.transport }

var errNotLetIn = errors.New("not let in")

// config is for one connection: keys may have changed.
func (s *SSH) config() *xssh.ServerConfig {
	c := &xssh.ServerConfig{ServerVersion: "SSH-2.0-Go", MaxAuthTries: 6}
	anyone := func(xssh.ConnMetadata) (*xssh.Permissions, error) { return nil, nil }
	switch s.options.Kind {
	case Sish:
		c.NoClientAuth, c.NoClientAuthCallback = true, anyone
	case LocalhostRun:
		c.NoClientAuth = true
		c.NoClientAuthCallback = func(m xssh.ConnMetadata) (*xssh.Permissions, error) {
			if m.User() != "nokey" {
				return nil, errNotLetIn
			}
			return nil, nil
		}
	case Pinggy:
		c.PasswordCallback = func(_ xssh.ConnMetadata, password []byte) (*xssh.Permissions, error) {
			if len(password) != 0 {
				return nil, errNotLetIn
			}
			return nil, nil
		}
	case Serveo:
		c.PublicKeyCallback = func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) { return nil, nil }
	case Plain:
		c.ServerVersion = "SSH-2.0-OpenSSH_9.2p1"
	}
	if s.options.Keys != nil {
		c.NoClientAuth, c.PasswordCallback = false, nil
		c.PublicKeyCallback = func(_ xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
			for _, line := range s.options.Keys {
				if allowed, _, _, _, err := xssh.ParseAuthorizedKey([]byte(line)); err == nil && string(allowed.Marshal()) == string(key.Marshal()) {
					return nil, nil
				}
			}
			return nil, errNotLetIn
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.AddHostKey(s.key)
	return c
}

// serveClient speaks with a client until its connection ends.
func (s *SSH) serveClient(transport net.Conn) {
	transport, admitted := s.admit(transport)
	if !admitted {
		return
	}
	defer transport.Close()
	conn, chans, reqs, err := xssh.NewServerConn(transport, s.config())
	if err != nil {
		return
	}
	session := &sshSession{server: s, transport: transport, conn: conn, gone: make(chan struct{}), shell: make(chan struct{})}
	session.way = &http.Transport{DialContext: session.dial, DisableCompression: true, MaxIdleConnsPerHost: 256, IdleConnTimeout: idleFor}
	s.mu.Lock()
	s.sessions[session] = struct{}{}
	s.started++
	s.wakeLocked()
	s.mu.Unlock()
	session.serving.Go(func() { session.answerAll(reqs) })
	session.serving.Go(func() { session.takeAll(chans) })
	conn.Wait()
	session.end()
}

// end forgets the session.
func (c *sshSession) end() {
	close(c.gone)
	c.mu.Lock()
	if c.listener != nil {
		c.listener.Close()
	}
	c.mu.Unlock()
	s := c.server
	s.mu.Lock()
	delete(s.sessions, c)
	for host, bound := range s.bound {
		if bound == c {
			delete(s.bound, host)
		}
	}
	s.wakeLocked()
	s.mu.Unlock()
	c.way.CloseIdleConnections()
	c.serving.Wait()
}

// answerAll answers the client's requests.
func (c *sshSession) answerAll(reqs <-chan *xssh.Request) {
	for req := range reqs {
		switch req.Type {
		case "tcpip-forward":
			// It waits for a shell, and keepalives do not wait for it.
			c.serving.Go(func() { c.bind(req) })
		case "cancel-tcpip-forward":
			c.unbind()
			req.Reply(true, nil)
		case "keepalive@openssh.com":
			if !c.server.waitWhile(func(f faults) bool { return f.frozen || f.hanging }, c.gone) {
				return
			}
			req.Reply(true, nil)
		default:
			req.Reply(false, nil)
		}
	}
}

// bind grants a forward, or refuses it.
func (c *sshSession) bind(req *xssh.Request) {
	s := c.server
	var ask sshForward
	if xssh.Unmarshal(req.Payload, &ask) != nil {
		req.Reply(false, nil)
		return
	}
	if s.options.Kind != Plain {
		select {
		case <-c.shell:
		case <-c.gone:
			return
		}
	}
	s.mu.Lock()
	fail := s.faults.forwards != 0
	if s.faults.forwards > 0 {
		s.faults.forwards--
	}
	life, silent := s.faults.life, s.faults.silent
	s.mu.Unlock()
	if fail {
		req.Reply(false, nil)
		return
	}
	c.mu.Lock()
	c.forward = ask
	c.mu.Unlock()
	if life > 0 {
		time.AfterFunc(life, func() { c.transport.Close() })
	}
	if s.options.Kind == Plain {
		c.bindPort(req, ask)
		return
	}
	s.mu.Lock()
	host := s.hostLocked(ask.Host)
	s.bound[host] = c
	s.wakeLocked()
	s.mu.Unlock()
	var reply []byte
	if ask.Port == 0 {
		reply = xssh.Marshal(&struct{ Port uint32 }{8}) // which stands for nothing, as with pinggy
	}
	req.Reply(true, reply)
	if !silent {
		c.say(s.announce(host, c.command, false))
	}
}

// bindPort listens on a port of loopback, as an sshd without GatewayPorts does.
func (c *sshSession) bindPort(req *xssh.Request, ask sshForward) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ask.Port))))
	if err != nil {
		req.Reply(false, nil)
		return
	}
	s := c.server
	c.mu.Lock()
	c.listener, c.forward.Port = l, portOf(l.Addr())
	c.mu.Unlock()
	s.mu.Lock()
	s.bound[l.Addr().String()] = c
	s.wakeLocked()
	s.mu.Unlock()
	var reply []byte
	if ask.Port == 0 {
		reply = xssh.Marshal(&struct{ Port uint32 }{portOf(l.Addr())})
	}
	req.Reply(true, reply)
	c.serving.Go(func() {
		s.acceptAll(l, func(conn net.Conn) {
			out, err := c.open(conn.RemoteAddr())
			if err != nil {
				return
			}
			var both sync.WaitGroup
			both.Go(func() {
				io.Copy(out, conn)
				out.CloseWrite()
			})
			both.Go(func() {
				io.Copy(conn, out)
				conn.Close()
			})
			both.Wait()
			out.Close()
		})
	})
	select {
	case <-c.gone: // the connection may have ended meanwhile
		l.Close()
	default:
	}
}

func (c *sshSession) unbind() {
	c.mu.Lock()
	if c.listener != nil {
		c.listener.Close()
	}
	c.mu.Unlock()
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for host, bound := range s.bound {
		if bound == c {
			delete(s.bound, host)
		}
	}
	s.wakeLocked()
}

// takeAll takes the client's channels.
func (c *sshSession) takeAll(chans <-chan xssh.NewChannel) {
	for incoming := range chans {
		if incoming.ChannelType() != "session" || c.server.options.Kind == Plain {
			incoming.Reject(xssh.Prohibited, "not here")
			continue
		}
		ch, reqs, err := incoming.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.terminal = ch
		c.mu.Unlock()
		c.serving.Go(func() { io.Copy(io.Discard, ch) })
		c.serving.Go(func() {
			for req := range reqs {
				switch req.Type {
				case "exec":
					var run struct{ Command string }
					if xssh.Unmarshal(req.Payload, &run) == nil {
						c.command = run.Command
					}
				case "shell":
					if req.WantReply {
						req.Reply(true, nil)
					}
				default:
					continue
				}
				c.say("\x1b[41mPress Ctrl-C to close the session.\x1b[0m\r\n" + c.server.options.Welcome)
				close(c.shell)
			}
		})
	}
}

// say writes to the client's terminal.
func (c *sshSession) say(words string) error {
	c.mu.Lock()
	terminal := c.terminal
	c.mu.Unlock()
	if terminal == nil {
		return errors.New("the client has no terminal")
	}
	_, err := terminal.Write([]byte(words))
	return err
}

// open begins a connection from a public client.
func (c *sshSession) open(from net.Addr) (xssh.Channel, error) {
	c.mu.Lock()
	forwarded := sshForwarded{Host: c.forward.Host, Port: c.forward.Port, OriginHost: c.forward.Host}
	c.mu.Unlock()
	if c.server.options.Kind != Sish { // which has its own words in the place of the address
		host, _, err := net.SplitHostPort(from.String())
		if err != nil {
			return nil, err
		}
		forwarded.OriginHost, forwarded.OriginPort = host, portOf(from)
	}
	ch, reqs, err := c.conn.OpenChannel("forwarded-tcpip", xssh.Marshal(&forwarded))
	if err != nil {
		return nil, err
	}
	go xssh.DiscardRequests(reqs) // it ends with the channel
	return ch, nil
}

// from is the key of the public client's address in the context of a request.
type from struct{}

// dial begins a connection for an HTTP transport.
func (c *sshSession) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	addr, ok := ctx.Value(from{}).(net.Addr)
	if !ok {
		addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	}
	ch, err := c.open(addr)
	if err != nil {
		return nil, err
	}
	return channelConn{ch, addr}, nil
}

// channelConn is a channel for an HTTP transport, which sets no deadlines.
type channelConn struct {
	xssh.Channel
	addr net.Addr
}

func (c channelConn) LocalAddr() net.Addr              { return c.addr }
func (c channelConn) RemoteAddr() net.Addr             { return c.addr }
func (c channelConn) SetDeadline(time.Time) error      { return nil }
func (c channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c channelConn) SetWriteDeadline(time.Time) error { return nil }

// servePublic passes a public request on to the client that has its host.
func (s *SSH) servePublic(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(host)
	s.mu.Lock()
	session := s.bound[host]
	if session == nil {
		session = s.bound[strings.TrimPrefix(host, "other-")] // the second URL of pinggy
	}
	s.mu.Unlock()
	if session == nil {
		answerItself(w, Offline, http.StatusNotFound, "nobody has "+host)
		return
	}
	if addr, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		r = r.WithContext(context.WithValue(r.Context(), from{}, addr))
	}
	// An answer may begin before the body has been passed on: without this net/http would drop what is left of it.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	proxy := &httputil.ReverseProxy{
		Transport:     session.way,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "http", host
			pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
			pr.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			answerItself(w, Lost, http.StatusBadGateway, fmt.Sprintf("the client does not answer: %v", err))
		},
		ErrorLog: quiet,
	}
	proxy.ServeHTTP(w, r)
}
