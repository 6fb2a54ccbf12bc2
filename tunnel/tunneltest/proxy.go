package tunneltest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// ProxyOptions set up a Proxy. The zero value lets every client through to every address.
type ProxyOptions struct {
	// User and Password are required of clients if User is not empty.
	User, Password string
	// Hosts maps a host:port to another: {"connect.example.com:443": edge.Addr()} gives an edge's address a name. Clients that obey
	// HTTPS_PROXY reach loopback addresses directly, so they need the name to use the proxy.
	Hosts map[string]string
}

// Proxy is an HTTP proxy for CONNECT and a SOCKS5 proxy, on one loopback address. All its methods may be called from any goroutine.
type Proxy struct {
	options  ProxyOptions
	listener net.Listener
	serving  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	asked  []string
	status int // of the answer to CONNECT; 0: the way is opened
	hangs  bool
}

// NewProxy starts a proxy that ends with the test. If it can't, the test fails.
func NewProxy(t testing.TB, options ProxyOptions) *Proxy {
	t.Helper()
	p, err := StartProxy(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy starts a proxy for a program that is not a test. The caller has to close it.
func StartProxy(options ProxyOptions) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	p := &Proxy{options: options, listener: l, conns: make(map[net.Conn]struct{})}
	p.serving.Go(p.accept)
	return p, nil
}

// URL is the proxy for CONNECT with its user and password, as HTTPS_PROXY and proxy_url of ngrok.yml take it.
func (p *Proxy) URL() *url.URL { return p.urlWith("http") }

// SOCKSURL is the proxy for SOCKS5, which looks names up itself, as ALL_PROXY takes it.
func (p *Proxy) SOCKSURL() *url.URL { return p.urlWith("socks5h") }

func (p *Proxy) urlWith(scheme string) *url.URL {
	u := &url.URL{Scheme: scheme, Host: p.listener.Addr().String()}
	if p.options.User != "" {
		u.User = url.UserPassword(p.options.User, p.options.Password)
	}
	return u
}

// Asked returns each host:port that clients have asked for, in order, with requests that lacked the right password.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// Refuse makes the proxy answer CONNECT with an HTTP status, 403 for example, and SOCKS5 with "not allowed". 0 ends that.
func (p *Proxy) Refuse(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// Hang makes the proxy accept new connections and never answer on them, not even after it is turned off.
func (p *Proxy) Hang(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangs = on
}

// Drop cuts all connections through the proxy.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// Close ends the proxy and all connections through it.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Drop()
	p.serving.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if !p.track(conn) {
			return
		}
		p.serving.Go(func() {
			defer p.untrack(conn)
			p.serve(conn)
		})
	}
}

// track makes Drop and Close close conn.
func (p *Proxy) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *Proxy) untrack(conn net.Conn) {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	conn.Close()
}

func (p *Proxy) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	p.mu.Lock()
	hangs := p.hangs
	p.mu.Unlock()
	if hangs {
		io.Copy(io.Discard, in)
		return
	}
	first, err := in.Peek(1)
	if err != nil {
		return
	}
	var out net.Conn
	if first[0] == socksVersion {
		out, err = p.openSOCKS(in, conn)
	} else {
		out, err = p.openCONNECT(in, conn)
	}
	if err != nil || !p.track(out) {
		return // the client has been told
	}
	defer p.untrack(out)
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(conn, out)
		conn.Close()
	})
	io.Copy(out, in)
	out.Close()
	back.Wait()
}

// dial records addr for Asked, and connects to it unless the proxy refuses.
func (p *Proxy) dial(addr string) (conn net.Conn, status int) {
	p.mu.Lock()
	p.asked = append(p.asked, addr)
	status = p.status
	p.mu.Unlock()
	if status != 0 {
		return nil, status
	}
	if to, ok := p.options.Hosts[addr]; ok {
		addr = to
	}
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, http.StatusBadGateway
	}
	return conn, http.StatusOK
}

var errNoWay = errors.New("no way through the proxy")

func (p *Proxy) openCONNECT(in *bufio.Reader, conn net.Conn) (net.Conn, error) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, err
	}
	answer := func(status int, header string) {
		fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\n\r\n", status, http.StatusText(status), header)
	}
	if r.Method != http.MethodConnect {
		answer(http.StatusMethodNotAllowed, "Allow: CONNECT\r\n")
		return nil, errNoWay
	}
	if p.options.User != "" {
		given := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		user, password, _ := given.BasicAuth()
		if user != p.options.User || password != p.options.Password {
			p.note(r.Host)
			answer(http.StatusProxyAuthRequired, "Proxy-Authenticate: Basic realm=\"stand-in\"\r\n")
			return nil, errNoWay
		}
	}
	out, status := p.dial(r.Host)
	if out == nil {
		answer(status, "")
		return nil, errNoWay
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func (p *Proxy) note(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, addr)
}

// The part of SOCKS5 (RFC 1928) and its passwords (RFC 1929) that the proxy uses.
const (
	socksVersion         = 5
	socksNoPassword      = 0
	socksPassword        = 2
	socksNoMethod        = 0xFF
	socksPasswordVersion = 1
	socksConnect         = 1
	socksIPv4            = 1
	socksName            = 3
	socksIPv6            = 4
	socksOK              = 0
	socksNotAllowed      = 2
)

func (p *Proxy) openSOCKS(in *bufio.Reader, conn net.Conn) (net.Conn, error) {
	greeting, err := take(in, 2)
	if err != nil {
		return nil, err
	}
	methods, err := take(in, int(greeting[1]))
	if err != nil {
		return nil, err
	}
	method := byte(socksNoPassword)
	if p.options.User != "" {
		method = socksPassword
	}
	if !slices.Contains(methods, method) {
		conn.Write([]byte{socksVersion, socksNoMethod})
		return nil, errNoWay
	}
	if _, err := conn.Write([]byte{socksVersion, method}); err != nil {
		return nil, err
	}
	if method == socksPassword {
		if err := p.checkSOCKSPassword(in, conn); err != nil {
			return nil, err
		}
	}
	addr, err := socksAddr(in)
	if err != nil {
		return nil, err
	}
	out, _ := p.dial(addr)
	reply := []byte{socksVersion, socksOK, 0, socksIPv4, 0, 0, 0, 0, 0, 0}
	if out == nil {
		reply[1] = socksNotAllowed
	}
	if _, err := conn.Write(reply); err != nil || out == nil {
		if out != nil {
			out.Close()
		}
		return nil, errors.Join(errNoWay, err)
	}
	return out, nil
}

func (p *Proxy) checkSOCKSPassword(in *bufio.Reader, conn net.Conn) error {
	version, err := take(in, 1)
	if err != nil {
		return err
	}
	var given [2]string // user, password
	for i := range given {
		length, err := take(in, 1)
		if err != nil {
			return err
		}
		text, err := take(in, int(length[0]))
		if err != nil {
			return err
		}
		given[i] = string(text)
	}
	if version[0] != socksPasswordVersion || given != [2]string{p.options.User, p.options.Password} {
		conn.Write([]byte{socksPasswordVersion, socksNotAllowed})
		return errNoWay
	}
	_, err = conn.Write([]byte{socksPasswordVersion, socksOK})
	return err
}

// socksAddr reads the address that a client asks for.
func socksAddr(in *bufio.Reader) (string, error) {
	head, err := take(in, 4)
	if err != nil {
		return "", err
	}
	if head[0] != socksVersion || head[1] != socksConnect {
		return "", errNoWay
	}
	size := map[byte]int{socksIPv4: net.IPv4len, socksIPv6: net.IPv6len}[head[3]]
	if head[3] == socksName {
		length, err := take(in, 1)
		if err != nil {
			return "", err
		}
		size = int(length[0])
	}
	if size == 0 {
		return "", errNoWay
	}
	host, err := take(in, size)
	if err != nil {
		return "", err
	}
	port, err := take(in, 2)
	if err != nil {
		return "", err
	}
	name := string(host)
	if head[3] != socksName {
		name = net.IP(host).String()
	}
	return net.JoinHostPort(name, strconv.Itoa(int(binary.BigEndian.Uint16(port)))), nil
}

func take(in io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(in, b)
	return b, err
}
