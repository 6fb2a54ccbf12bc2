package tunneltest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// DefaultToken is the token that an edge without Options.Tokens accepts.
const DefaultToken = "2abcDEFghiJKLmnoPQRstuVWXyz_1TestTokenOfTheEdge"

// DefaultDomain is the domain that an edge without Options.Domain assigns. Its last label is reserved for tests, so that no DNS server knows it.
const DefaultDomain = "stand-in-edge.ngrok-free.test"

// Options set up an Edge. The zero value accepts DefaultToken, assigns DefaultDomain and grants any other domain.
type Options struct {
	// Tokens are the authtokens that are valid. Nil: DefaultToken alone.
	Tokens []string
	// Domain is assigned to an endpoint that asks for no URL, as a free account gets its one stable domain. Empty: DefaultDomain.
	Domain string
	// Domains are the domains that an endpoint may ask for besides Domain; any other is refused with ERR_NGROK_319. Nil: any domain.
	Domains []string
	// MaxSessions is how many agents may be connected at once; one more is refused with ERR_NGROK_108. 0: no limit.
	MaxSessions int
}

// Edge is an ngrok edge on loopback: the side that agents connect to, over TLS with a certificate authority of its own, and the
// public side, over HTTP and over TLS with the same authority. All its methods may be called from any goroutine.
type Edge struct {
	standIn[*session]
	options   Options
	dir       string // has the CA file
	pool      *x509.CertPool
	agents    net.Listener
	public    net.Listener
	publicTLS net.Listener

	// Under the board's lock.
	bound    map[string]*endpoint // by public host
	assigned map[string]bool      // the tokens of endpoints that asked for no URL
	domain   string
}

// NewEdge starts an edge that ends with the test. If it can't, the test fails.
func NewEdge(t testing.TB, options Options) *Edge {
	t.Helper()
	e, err := StartEdge(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// StartEdge starts an edge for a program that is not a test. The caller has to close it.
func StartEdge(options Options) (*Edge, error) {
	if options.Tokens == nil {
		options.Tokens = []string{DefaultToken}
	}
	if options.Domain == "" {
		options.Domain = DefaultDomain
	}
	dir, err := os.MkdirTemp("", "ngrok-edge-")
	if err != nil {
		return nil, fmt.Errorf("start the edge: %w", err)
	}
	e := &Edge{
		options:  options,
		dir:      dir,
		bound:    make(map[string]*endpoint),
		assigned: make(map[string]bool),
		domain:   options.Domain,
	}
	e.begin(e.urlsLocked, staleAfter)
	if err := e.listen(); err != nil {
		e.Close()
		return nil, fmt.Errorf("start the edge: %w", err)
	}
	return e, nil
}

func (e *Edge) listen() error {
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	if err := os.WriteFile(e.CAFile(), authority.pem, 0o600); err != nil {
		return err
	}
	e.pool = x509.NewCertPool()
	e.pool.AppendCertsFromPEM(authority.pem)
	config := authority.config()
	for _, l := range []*net.Listener{&e.agents, &e.public, &e.publicTLS} {
		if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	e.serving.Go(func() { e.acceptAll(e.agents, func(conn net.Conn) { e.serveAgent(conn, config) }) })
	e.serving.Go(func() { e.acceptAll(e.public, e.servePublic) })
	e.serving.Go(func() { e.acceptAll(e.publicTLS, func(conn net.Conn) { e.servePublic(tls.Server(conn, config)) }) })
	return nil
}

// Close ends the edge and all its connections.
func (e *Edge) Close() error {
	return errors.Join(e.end(e.agents, e.public, e.publicTLS), os.RemoveAll(e.dir))
}

// Addr is the host:port that agents connect to: connect_url of ngrok.yml, [golang.ngrok.com/ngrok/v2.WithAgentConnectURL].
func (e *Edge) Addr() string { return e.agents.Addr().String() }

// CAFile is the path of the edge's certificate authority in PEM form: connect_cas of ngrok.yml.
func (e *Edge) CAFile() string { return filepath.Join(e.dir, "ca.pem") }

// CAs is the same for [golang.ngrok.com/ngrok/v2.WithAgentConnectCAs].
func (e *Edge) CAs() *x509.CertPool { return e.pool }

// Domain is the domain that the edge assigns to an endpoint that asks for no URL.
func (e *Edge) Domain() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.domain
}

// WriteConfig writes an ngrok.yml of version 3 that leads ngrok's clients to this edge. It makes the file's folders. An empty token is
// left out.
func (e *Edge) WriteConfig(path, token string) error {
	type agent struct {
		Authtoken  string `yaml:"authtoken,omitempty"`
		ConnectURL string `yaml:"connect_url"`
		ConnectCAs string `yaml:"connect_cas"`
	}
	text, err := yaml.Marshal(struct {
		Version string `yaml:"version"`
		Agent   agent  `yaml:"agent"`
	}{"3", agent{token, e.Addr(), e.CAFile()}})
	if err != nil {
		return fmt.Errorf("write the edge's ngrok.yml: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the edge's ngrok.yml: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write the edge's ngrok.yml: %w", err)
	}
	return nil
}

// PublicAddr is the host:port of the public side without TLS. The edge finds the endpoint by the Host header. If the host is an address
// of this machine, the only endpoint gets the request. X-Forwarded-Proto has the scheme of the endpoint's URL, so that a test may do
// without TLS.
func (e *Edge) PublicAddr() string { return e.public.Addr().String() }

// PublicTLSAddr is PublicAddr with TLS, HTTP/1.1 alone. Its certificate has any name that a client asks for, and is signed by the
// authority of CAFile.
func (e *Edge) PublicTLSAddr() string { return e.publicTLS.Addr().String() }

// Client returns a client that connects to the edge's public side for every host, with TLS for https. So it can use the public URLs
// unchanged.
func (e *Edge) Client() *http.Client { return publicClient(e.PublicAddr(), e.PublicTLSAddr(), e.pool) }

// publicClient connects to the two public addresses of a stand-in for every host.
func publicClient(plain, secured string, pool *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			if _, port, err := net.SplitHostPort(addr); err == nil && port == "443" {
				return d.DialContext(ctx, network, secured)
			}
			return d.DialContext(ctx, network, plain)
		},
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
	}}
}

func (e *Edge) urlsLocked() []string {
	urls := make([]string, 0, len(e.bound))
	for _, p := range e.bound {
		urls = append(urls, p.url)
	}
	return urls
}

// lookUp finds the endpoint of a public request.
func (e *Edge) lookUp(host string) *endpoint {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.bound[host]; p != nil {
		return p
	}
	if len(e.bound) == 1 && (host == "localhost" || net.ParseIP(host) != nil) {
		for _, p := range e.bound {
			return p
		}
	}
	return nil
}

// errorBody is the body that ngrok sends to programs in place of an answer.
func errorBody(code, text string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n%s\n", text, code)
	return b.Bytes()
}
