package ngrok

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"

	"github.com/hubhook/hubhook/internal/env"
)

// dialTimeout bounds one connection to the service, its proxy included. The SDK itself would wait for ever.
const dialTimeout = 10 * time.Second

// serviceDialer dials the ngrok service for one agent, through a proxy where one is configured, and can cut all that it dialed.
// That is the only sure way to end an SDK session that is in the middle of reconnecting.
type serviceDialer struct {
	proxyFor    func(addr string) (*url.URL, error)
	proxySource string // what names the proxy, in words for the user
	limit       time.Duration

	mu    sync.Mutex
	cut   bool
	conns map[*dialedConn]struct{}
}

func newServiceDialer(s settings, getenv func(string) string) *serviceDialer {
	d := &serviceDialer{limit: dialTimeout, conns: make(map[*dialedConn]struct{})}
	if s.proxyURL != nil {
		d.proxySource = "proxy_url in ngrok.yml"
		d.proxyFor = func(string) (*url.URL, error) { return s.proxyURL, nil }
		return d
	}
	var value string
	for _, name := range []string{env.HTTPSProxy, "https_proxy", env.AllProxy, "all_proxy"} {
		if value = getenv(name); value != "" {
			d.proxySource = name
			break
		}
	}
	if value == "" {
		d.proxyFor = func(string) (*url.URL, error) { return nil, nil }
		return d
	}
	// httpproxy says for which addresses there is a proxy. It takes one that it cannot read for none, so that it is not given this one.
	chosen, err := proxyURL(value)
	proxied := (&httpproxy.Config{
		HTTPSProxy: "http://proxy.invalid",
		NoProxy:    cmp.Or(getenv(env.NoProxy), getenv("no_proxy")),
	}).ProxyFunc()
	d.proxyFor = func(addr string) (*url.URL, error) {
		if via, err := proxied(&url.URL{Scheme: "https", Host: addr}); via == nil || err != nil {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("use the proxy that %s names: %w", d.proxySource, err)
		}
		return chosen, nil
	}
	return d
}

// Dial is DialContext without a context, for the SDK's Dialer interface.
func (d *serviceDialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects to addr, through the proxy where there is one.
func (d *serviceDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	via, err := d.proxyFor(addr)
	if err != nil {
		return nil, err
	}
	conn, err := dialVia(ctx, via, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		conn.Close()
		return nil, net.ErrClosed
	}
	dialed := &dialedConn{Conn: conn, dialer: d}
	d.conns[dialed] = struct{}{}
	return dialed, nil
}

// cutAll closes all connections and lets no new one come up.
func (d *serviceDialer) cutAll() {
	d.mu.Lock()
	d.cut = true
	conns := d.conns
	d.conns = nil
	d.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
}

// cutNow closes all connections and lets new ones come up: the SDK's session is lost and comes back.
func (d *serviceDialer) cutNow() {
	d.mu.Lock()
	conns := make([]*dialedConn, 0, len(d.conns))
	for c := range d.conns {
		conns = append(conns, c)
	}
	d.mu.Unlock()
	for _, c := range conns {
		c.Conn.Close()
	}
}

// local are the addresses at this end of the connections.
func (d *serviceDialer) local() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	var addrs []netip.Addr
	for c := range d.conns {
		if local, ok := c.LocalAddr().(*net.TCPAddr); ok {
			addrs = append(addrs, local.AddrPort().Addr().Unmap())
		}
	}
	return addrs
}

type dialedConn struct {
	net.Conn
	dialer *serviceDialer
}

func (c *dialedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

func dialVia(ctx context.Context, via *url.URL, network, addr string) (net.Conn, error) {
	var direct net.Dialer
	if via == nil {
		return direct.DialContext(ctx, network, addr)
	}
	if via.Scheme == "socks5" || via.Scheme == "socks5h" {
		d, err := proxy.FromURL(via, &direct)
		if err != nil {
			return nil, fmt.Errorf("use the proxy %s: %w", via.Redacted(), err)
		}
		conn, err := d.(proxy.ContextDialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, fmt.Errorf("through the proxy %s: %w", via.Redacted(), err)
		}
		return conn, nil
	}
	host := via.Host
	if via.Port() == "" {
		host = net.JoinHostPort(via.Hostname(), map[string]string{"http": "80", "https": "443"}[via.Scheme])
	}
	conn, err := direct.DialContext(ctx, network, host)
	if err != nil {
		return nil, fmt.Errorf("reach the proxy %s: %w", via.Redacted(), err)
	}
	if via.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: via.Hostname(), MinVersion: tls.VersionTLS12})
	}
	if err := connectThrough(ctx, conn, via, addr); err != nil {
		conn.Close()
		return nil, fmt.Errorf("through the proxy %s: %w", via.Redacted(), err)
	}
	return conn, nil
}

// connectThrough asks an HTTP proxy for a way to addr.
func connectThrough(ctx context.Context, conn net.Conn, via *url.URL, addr string) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: make(http.Header)}
	if via.User != nil {
		password, _ := via.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered CONNECT %s with %s", addr, resp.Status)
	}
	if r.Buffered() > 0 {
		return errors.New("it sent bytes before the TLS handshake")
	}
	if !stop() {
		return ctx.Err()
	}
	return nil
}
