package tunneltest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSHKind is what an [SSH] server behaves like.
type SSHKind int

const (
	// Sish lets anyone in, gives the name that is asked for where it is free, and says the URLs in colours on the session. It answers
	// no exec, and no forward before there is a shell.
	Sish SSHKind = iota
	// LocalhostRun lets the user nokey in, gives names of its own, and says them as JSON to `--output json`.
	LocalhostRun
	// Pinggy lets anyone in with an empty password, wants port 0, and says several bare URLs.
	Pinggy
	// Serveo lets anyone in who has a key, and gives the name that is asked for where it is free.
	Serveo
	// Plain is an sshd: it listens on a port of loopback and says nothing. It needs SSHOptions.Keys.
	Plain
)

// SSHOptions set up an [SSH] server.
type SSHOptions struct {
	Kind SSHKind
	// Keys are the public keys that are let in, as lines of authorized_keys. Nil: those that the Kind lets in.
	Keys []string
	// Stale is how long the server keeps a connection that was lost in a black hole, with its name, after the client has given it up. 0: 10 s.
	Stale time.Duration
	// Welcome is said on each session before anything else.
	Welcome string
}

// SSH is an SSH server on loopback that forwards what comes to its public side, over HTTP and over TLS, to the clients that have asked for it.
// All its methods may be called from any goroutine.
type SSH struct {
	standIn[*sshSession]
	options   SSHOptions
	authority *authority
	pool      *x509.CertPool
	logins    net.Listener
	public    net.Listener
	publicTLS net.Listener
	servers   []io.Closer // of public and publicTLS

	// Under the board's lock.
	key   xssh.Signer
	bound map[string]*sshSession // by public host, or by address where the kind is Plain
	names int
}

// NewSSH starts a server that ends with the test. If it can't, the test fails.
func NewSSH(t testing.TB, options SSHOptions) *SSH {
	t.Helper()
	s, err := StartSSH(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// StartSSH starts a server for a program that is not a test. The caller has to close it.
func StartSSH(options SSHOptions) (*SSH, error) {
	if options.Stale == 0 {
		options.Stale = staleAfter
	}
	s := &SSH{options: options, bound: make(map[string]*sshSession)}
	s.begin(s.urlsLocked, options.Stale)
	if err := s.listen(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the SSH server: %w", err), s.Close())
	}
	return s, nil
}

func (s *SSH) listen() (err error) {
	if s.authority, err = newAuthority(); err != nil {
		return err
	}
	s.pool = x509.NewCertPool()
	s.pool.AppendCertsFromPEM(s.authority.pem)
	if err := s.ChangeHostKey(); err != nil {
		return err
	}
	for _, l := range []*net.Listener{&s.logins, &s.public, &s.publicTLS} {
		if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	s.serving.Go(func() { s.acceptAll(s.logins, s.serveClient) })
	plain := &http.Server{Handler: http.HandlerFunc(s.servePublic)}
	secured := &http.Server{Handler: plain.Handler, TLSConfig: s.authority.config()}
	s.servers = []io.Closer{plain, secured}
	s.serving.Go(func() { plain.Serve(s.public) })
	s.serving.Go(func() { secured.ServeTLS(s.publicTLS, "", "") })
	return nil
}

// Close ends the server and all its connections.
func (s *SSH) Close() error { return s.end(append(s.servers, s.logins)...) }

// Addr is the host:port that clients log in at.
func (s *SSH) Addr() string { return s.logins.Addr().String() }

// PublicAddr is the host:port of the public side without TLS, and PublicTLSAddr the one with it. The server finds the client by the Host
// header.
func (s *SSH) PublicAddr() string { return s.public.Addr().String() }

// PublicTLSAddr is PublicAddr with TLS.
func (s *SSH) PublicTLSAddr() string { return s.publicTLS.Addr().String() }

// Client returns a client that connects to the public side for every host, with TLS for https. So it can use the public URLs unchanged. The
// URLs of a Plain server need no such client.
func (s *SSH) Client() *http.Client {
	if s.options.Kind == Plain {
		return &http.Client{Transport: &http.Transport{}}
	}
	return publicClient(s.PublicAddr(), s.PublicTLSAddr(), s.pool)
}

// KnownHost is the line of known_hosts for the server's present key.
func (s *SSH) KnownHost() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return knownhosts.Line([]string{knownhosts.Normalize(s.Addr())}, s.key.PublicKey())
}

// Fingerprint is that of the server's present key, as ssh-keygen says it.
func (s *SSH) Fingerprint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return xssh.FingerprintSHA256(s.key.PublicKey())
}

// ChangeHostKey gives the server another key, which the connections to come will see.
func (s *SSH) ChangeHostKey() error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := xssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = signer
	return nil
}

func (s *SSH) urlsLocked() []string {
	var urls []string
	for host := range s.bound {
		urls = append(urls, s.urlOf(host))
	}
	return urls
}

func (s *SSH) urlOf(host string) string {
	if s.options.Kind == Plain {
		return "http://" + host
	}
	return "https://" + host
}

// domain is where the names of a kind are.
func (s *SSH) domain() string {
	return map[SSHKind]string{Sish: "sish.test", LocalhostRun: "lhr.test", Pinggy: "run.pinggy-free.test", Serveo: "serveo.test"}[s.options.Kind]
}

// hostLocked chooses the public host for a request.
func (s *SSH) hostLocked(asked string) string {
	if s.faults.name != "" {
		return s.faults.name + "." + s.domain()
	}
	if takesNames := s.options.Kind == Sish || s.options.Kind == Serveo; takesNames && asked != "" && asked != "localhost" {
		host := asked
		if !strings.Contains(asked, ".") {
			host += "." + s.domain()
		}
		if s.bound[host] == nil {
			return host
		}
	}
	s.names++
	return fmt.Sprintf("name-%d.%s", s.names, s.domain())
}

// announce is what a client is told of its URL.
func (s *SSH) announce(host, command string, moved bool) string {
	switch s.options.Kind {
	case Sish:
		return fmt.Sprintf("Starting SSH Forwarding service for \x1b[32mhttp:80\x1b[0m. Forwarded connections can be accessed via the following methods:\r\n"+
			"Service console can be accessed here: https://%[1]s/_sish/console?x-authorization=%[2]s\r\n"+
			"\x1b[44mHTTP\x1b[0m: http://%[1]s\r\n\x1b[44mHTTPS\x1b[0m: https://%[1]s\r\n", host, ConsoleToken)
	case LocalhostRun:
		message := fmt.Sprintf("%[1]s tunneled with tls termination, https://%[1]s", host)
		if !strings.Contains(command, "--output json") {
			return message + "\r\ncreate an account and add your key for a longer lasting domain name. see https://localhost.run/docs/forever-free/ for more information.\r\n"
		}
		// Both forms that the service has had.
		event := map[string]any{"event": "tcpip-forward", "authz_code": "OK", "address": host, "listen_host": "localhost", "listen_port": 80, "message": message + "\nopen it on your mobile"}
		if moved {
			event = map[string]any{"specversion": "1.0", "id": "localhost/" + host, "type": "v1.tcpip_forward.register.accepted", "source": "ssh://localhost.run/", "data": message + "\r\nopen it on your mobile"}
		}
		line, err := json.Marshal(event)
		if err != nil {
			panic(err) // strings and numbers alone
		}
		return string(line) + "\n"
	case Pinggy:
		return fmt.Sprintf("You are not authenticated.\r\nYour tunnel will expire in 60 minutes. Upgrade to Pinggy Pro to get unrestricted tunnels. https://dashboard.pinggy.io\r\n\r\n"+
			"http://%[1]s\r\nhttp://other-%[1]s\r\nhttps://%[1]s\r\nhttps://other-%[1]s\r\n", host)
	case Serveo:
		return fmt.Sprintf("Forwarding HTTP traffic from https://%s\r\nPress g to start a GUI session and ctrl-c to quit.\r\n", host)
	}
	return ""
}

// ConsoleToken is a secret that a Sish server says on each session. It must show up nowhere.
const ConsoleToken = "ConsoleTokenThatNobodyShouldSee"

// portOf is the port of an address.
func portOf(addr net.Addr) uint32 {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return uint32(n)
}
