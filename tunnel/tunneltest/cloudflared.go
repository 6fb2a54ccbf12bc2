package tunneltest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// CloudflaredVariable is set in the environment of the stand-in program, and nowhere else.
const CloudflaredVariable = "TUNNELTEST_CLOUDFLARED"

// Cloudflared is a stand-in for the program cloudflared and for the side of Cloudflare that it connects to, both on loopback. The program
// takes the flags, answers the requests and prints the log lines that matter to those who run it. It is the test's own executable, started
// once more, so the test's TestMain has to begin with
//
//	if status, ran := tunneltest.RunCloudflared(os.Args[1:]); ran {
//		os.Exit(status)
//	}
//
// It needs a POSIX shell. All methods may be called from any goroutine.
type Cloudflared struct {
	board
	dir     string
	pool    *x509.CertPool
	plain   string // the address of the public side without TLS
	secured string // and the one with it
	servers []*http.Server
	serving sync.WaitGroup
	closed  chan struct{}

	// Under the board's lock.
	runs    []*cloudflaredRun
	named   map[string]string // hosts by tunnel
	next    string            // the host of the next quick tunnel
	refuse  []string          // what the next runs are refused with
	deaf    bool
	offline bool // new runs do not get connected
}

// cloudflaredRun is one run of the program that has registered.
type cloudflaredRun struct {
	pid      int
	host     string
	proxy    *httputil.ReverseProxy
	commands chan string
	up       bool
	ended    bool
}

// cloudflaredStart is what the program tells when it starts, and cloudflaredStarted the answer.
type cloudflaredStart struct {
	Tunnel string // of a named tunnel
	Proxy  string // the address that takes requests for it
	PID    int
}

type cloudflaredStarted struct {
	Refused  string // the log line to end with
	Hostname string
	Run      int
	Deaf     bool
}

// NewCloudflared makes a stand-in that ends with the test, and all programs with it. If it can't, the test fails.
func NewCloudflared(t testing.TB) *Cloudflared {
	t.Helper()
	c, err := StartCloudflared()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// StartCloudflared makes a stand-in for a program that is not a test. The caller has to close it.
func StartCloudflared() (*Cloudflared, error) {
	dir, err := os.MkdirTemp("", "cloudflared-")
	if err != nil {
		return nil, fmt.Errorf("start the stand-in for cloudflared: %w", err)
	}
	c := &Cloudflared{dir: dir, named: map[string]string{}, closed: make(chan struct{})}
	c.changed, c.now = make(chan struct{}), c.onlineLocked
	if err := c.listen(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the stand-in for cloudflared: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cloudflared) listen() error {
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	c.pool = x509.NewCertPool()
	c.pool.AppendCertsFromPEM(authority.pem)
	control := http.NewServeMux()
	control.HandleFunc("POST /tunnel", c.register)
	control.HandleFunc("GET /connect/{run}", c.connect)
	var addrs [3]string
	for i, handler := range []http.Handler{control, http.HandlerFunc(c.servePublic), http.HandlerFunc(c.servePublic)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addrs[i] = l.Addr().String()
		if i == 2 {
			l = tls.NewListener(l, authority.config())
		}
		server := &http.Server{Handler: handler, ErrorLog: quiet}
		c.servers = append(c.servers, server)
		c.serving.Go(func() { server.Serve(l) })
	}
	c.plain, c.secured = addrs[1], addrs[2]
	self, err := os.Executable()
	if err != nil {
		return err
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", CloudflaredVariable, quote("http://"+addrs[0]), quote(self))
	// Start no process meanwhile: it would inherit the open file for a moment, and a file that is open for writing can't be run.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(c.Program(), []byte(script), 0o700)
}

// quiet is for errors that the other side sees as well.
var quiet = log.New(io.Discard, "", 0)

// Close ends the stand-in, and all its programs with it.
func (c *Cloudflared) Close() error {
	close(c.closed)
	c.mu.Lock()
	for _, r := range c.runs {
		r.end()
	}
	c.mu.Unlock()
	var failed error
	for _, server := range c.servers {
		failed = errors.Join(failed, server.Close())
	}
	c.serving.Wait()
	return errors.Join(failed, os.RemoveAll(c.dir))
}

// Dir is the directory of the program, for PATH.
func (c *Cloudflared) Dir() string { return c.dir }

// Program is the path of the program.
func (c *Cloudflared) Program() string { return filepath.Join(c.dir, "cloudflared") }

// PublicAddr is the host:port of the public side without TLS, where Cloudflare has none for quick tunnels. It finds the program by the Host
// header.
func (c *Cloudflared) PublicAddr() string { return c.plain }

// Client returns a client that connects to the public side for every host, with TLS for https. So it can use the public URLs unchanged.
func (c *Cloudflared) Client() *http.Client { return publicClient(c.plain, c.secured, c.pool) }

// AddTunnel makes a named tunnel and routes host to it. Programs may run it with a configuration that names it.
func (c *Cloudflared) AddTunnel(tunnel, host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.named[tunnel] = host
}

// NextHost names the next quick tunnel, which has a name of its own otherwise.
func (c *Cloudflared) NextHost(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = host
}

// RefuseStart has the next programs end before they are connected, each with one of these lines in its log.
func (c *Cloudflared) RefuseStart(lines ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = append(c.refuse, lines...)
}

// Deaf has programs that start from now on ignore SIGTERM and SIGINT.
func (c *Cloudflared) Deaf() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = true
}

// Disconnect cuts the programs off from Cloudflare, those that start from now on too: their /ready is 503 until Connect.
func (c *Cloudflared) Disconnect() { c.setConnected(false) }

// Connect ends what Disconnect has begun. A program that had been connected first says at /ready, once, that it was cut off.
func (c *Cloudflared) Connect() { c.setConnected(true) }

// Drop cuts the programs off from Cloudflare for a moment.
func (c *Cloudflared) Drop() {
	c.Disconnect()
	c.Connect()
}

// Refuse cuts the programs off from Cloudflare for d.
func (c *Cloudflared) Refuse(d time.Duration) {
	c.Disconnect()
	c.serving.Go(func() {
		select {
		case <-time.After(d):
			c.Connect()
		case <-c.closed:
		}
	})
}

// FreezeHeartbeats has the newest program stop answering, as Hang. That program does not recover where it is turned off.
func (c *Cloudflared) FreezeHeartbeats(on bool) {
	if on {
		c.Hang()
	}
}

func (c *Cloudflared) setConnected(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offline = !up
	for _, r := range c.runs {
		r.up = up && !r.ended
		r.tell(upOrDown(up))
	}
	c.wakeLocked()
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// Hang has the newest program stop answering, /ready included. It lives on and ignores SIGTERM.
func (c *Cloudflared) Hang() { c.tellNewest("hang") }

// Crash ends the newest program with status 1.
func (c *Cloudflared) Crash() { c.tellNewest("crash") }

func (c *Cloudflared) tellNewest(command string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.runs); n > 0 {
		c.runs[n-1].tell(command)
	}
}

// onlineLocked counts a program as a session from when it has asked for a tunnel until its connection ends.
func (c *Cloudflared) onlineLocked() (urls []string, sessions, total int) {
	for _, r := range c.runs {
		if r.up {
			urls = append(urls, "https://"+r.host)
		}
		if !r.ended {
			sessions++
		}
	}
	return urls, sessions, len(c.runs)
}

// PIDs are the process ids of all programs that have asked for a tunnel so far, in order.
func (c *Cloudflared) PIDs() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	for _, r := range c.runs {
		pids = append(pids, r.pid)
	}
	return pids
}

// tell sends a command to the program. A test that sends many more than are read loses some.
func (r *cloudflaredRun) tell(command string) {
	if r.ended {
		return
	}
	select {
	case r.commands <- command:
	default:
	}
}

func (r *cloudflaredRun) end() {
	if !r.ended {
		r.ended, r.up = true, false
		close(r.commands)
	}
}

// register gives a program its tunnel.
func (c *Cloudflared) register(w http.ResponseWriter, req *http.Request) {
	var start cloudflaredStart
	if err := json.NewDecoder(io.LimitReader(req.Body, 64<<10)).Decode(&start); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &cloudflaredRun{pid: start.PID, commands: make(chan string, 16)}
	r.proxy = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: start.Proxy})
	setUp(r.proxy)
	c.runs = append(c.runs, r)
	answer := cloudflaredStarted{Run: len(c.runs) - 1, Deaf: c.deaf}
	switch host, known := c.named[start.Tunnel]; {
	case len(c.refuse) > 0:
		answer.Refused, c.refuse = c.refuse[0], c.refuse[1:]
	case start.Tunnel != "" && !known:
		answer.Refused = `ERR Register tunnel error from server side error="Unauthorized: Tunnel not found" connIndex=0`
	case start.Tunnel != "":
		answer.Hostname = host
	case c.next != "":
		answer.Hostname, c.next = c.next, ""
	default:
		answer.Hostname = fmt.Sprintf("stand-in-%d.trycloudflare.test", len(c.runs))
	}
	select {
	case <-c.closed:
		r.end()
	default:
		if answer.Refused != "" {
			r.end()
		}
	}
	r.host = answer.Hostname
	c.wakeLocked()
	json.NewEncoder(w).Encode(answer)
}

// connect is a program's connection: it sends commands, and its end takes the program's public name away.
func (c *Cloudflared) connect(w http.ResponseWriter, req *http.Request) {
	var n int
	if _, err := fmt.Sscan(req.PathValue("run"), &n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	if n < 0 || n >= len(c.runs) {
		c.mu.Unlock()
		http.Error(w, "there is no such run", http.StatusNotFound)
		return
	}
	r := c.runs[n]
	r.up = !c.offline && !r.ended
	r.tell(upOrDown(r.up))
	c.wakeLocked()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.end()
		c.wakeLocked()
	}()
	for {
		select {
		case command, open := <-r.commands:
			if !open {
				return
			}
			if _, err := fmt.Fprintln(w, command); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		case <-req.Context().Done():
			return
		}
	}
}

// servePublic passes a public request to the program that has its host, as Cloudflare does: with Cf-Connecting-Ip and X-Forwarded-For.
func (c *Cloudflared) servePublic(w http.ResponseWriter, req *http.Request) {
	c.mu.Lock()
	var to *cloudflaredRun
	known := false
	for _, r := range c.runs {
		if strings.EqualFold(r.host, req.Host) {
			known = true
			if r.up {
				to = r
			}
		}
	}
	c.mu.Unlock()
	switch {
	case !known:
		answerItself(w, Offline, http.StatusNotFound, "there is no such host")
	case to == nil:
		answerItself(w, Offline, 530, "error code: 1033")
	default:
		client, _, err := net.SplitHostPort(req.RemoteAddr)
		if err != nil {
			client = req.RemoteAddr
		}
		req.Header.Set("Cf-Connecting-Ip", client)
		to.proxy.ServeHTTP(w, req)
	}
}

// setUp makes a reverse proxy keep more than two idle connections, and answer as Cloudflare does if its target does not answer.
func setUp(proxy *httputil.ReverseProxy) {
	proxy.ErrorLog, proxy.Transport = quiet, &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: idleFor, DisableCompression: true}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, context.Canceled) {
			answerItself(w, Lost, http.StatusBadGateway, "error code: 502")
		}
	}
}
