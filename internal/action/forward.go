package action

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// Bounds of forwarding.
const (
	// keptConnections is how many idle connections an upstream may have from us.
	keptConnections = 64
	// keptIdle is how long a connection is kept without use.
	keptIdle = 30 * time.Second
	// maxResult is how many bytes of an upstream's answer are kept as the result.
	maxResult = 64 << 10
	// maxDrained is how much more of an answer is read so that its connection can be used again.
	maxDrained = 256 << 10
	// dialAfter is how long localhost may take over IPv6 before IPv4 is tried beside it.
	dialAfter = 250 * time.Millisecond
)

// secretHeader carries the webhook secret. Its stored value is masked.
const secretHeader = "X-Webhook-Secret"

// Forward posts deliveries to a URL, its upstream. Make one with NewForward, and Close it at the end.
type Forward struct {
	target    *url.URL
	shown     string // the target without credentials
	secret    func() string
	transport *http.Transport
	user      string // the Authorization header that the target's user makes, "" for none

	// changed is called when an upstream stops answering and when it answers again, in this order; nil for nobody. It must be quick.
	changed func(Health)

	mu     sync.Mutex
	health Health
	closed bool // changed is not called any more
}

// Health is whether an upstream answers at all, with whatever status.
type Health struct {
	URL   string    // of the upstream, without credentials
	Up    bool      // it answered the last request that came to an end
	Since time.Time // when it was first seen so; zero before the first request
	Error string    // of the last attempt that failed, "" where none has

	Failed time.Time // when that was; zero where none has
}

// NewForward returns a Forward to an http or https URL. secret returns the webhook secret that the upstream is to get, "" for none; it is
// asked for each attempt, and nil means none.
func NewForward(target string, secret func() string) (*Forward, error) {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL, which may have a password in it
		}
		return nil, fmt.Errorf("the URL can't be read: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("want a URL that begins with http:// or https://, have %q", oneLine(u.Redacted(), maxShown))
	case u.Hostname() == "":
		return nil, fmt.Errorf("the URL %q names no host", oneLine(u.Redacted(), maxShown))
	}
	f := &Forward{secret: secret, transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment, // never for this machine's own addresses
		DialContext:         dialBoth,
		MaxIdleConns:        keptConnections,
		MaxIdleConnsPerHost: keptConnections,
		IdleConnTimeout:     keptIdle,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression:  true,
	}}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(u.User.Username(), password)
		f.user = r.Header.Get("Authorization")
	}
	bare := *u
	bare.User, bare.Fragment, bare.RawFragment = nil, "", ""
	f.target = &bare
	shown := bare
	if shown.RawQuery != "" {
		shown.RawQuery = "..."
	}
	f.shown = shown.String()
	f.health.URL = f.shown
	return f, nil
}

// Close closes idle connections. Attempts that run go on; nobody is told of the upstream any more.
func (f *Forward) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.transport.CloseIdleConnections()
}

// Health returns what is known of the upstream.
func (f *Forward) Health() Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}

// Handle is a server.Handler. It posts the payload to the upstream byte for byte, with the headers it came with, and returns the answer:
// JSON as it is, other text as a string, nil for an empty one. Of much text the first 64 KiB are kept. A status other than 2xx, a redirect
// too, is an error with the beginning of the answer.
//
// Not forwarded are headers that belong to one connection, those that ask for a compressed answer, and credentials, which are masked
// where deliveries are stored. The secret is the one configured today. It stands in X-Webhook-Secret, and in ?secret= too where it did
// not come in the header.
func (f *Forward) Handle(ctx context.Context, p *payload.Payload) (any, error) {
	answer, _, err := f.send(ctx, p)
	return answer, err
}

// send is Handle, and returns the headers of a 2xx too.
func (f *Forward) send(ctx context.Context, p *payload.Payload) (any, http.Header, error) {
	d, _ := server.DeliveryFrom(ctx)
	r, err := f.request(ctx, d.Header, p.Raw())
	if err != nil {
		return nil, nil, err
	}
	response, err := f.transport.RoundTrip(r) // which follows no redirect
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%s has not answered: %w", f.shown, context.Cause(ctx))
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				f.note(false, err)
			}
			return nil, nil, err
		}
		err = fmt.Errorf("forward to %s: %w", f.shown, err)
		f.note(false, err)
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxResult+1))
	if err == nil && len(text) > maxResult {
		_, err = io.CopyN(io.Discard, response.Body, maxDrained)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		err = f.refusal(response, text)
	case err != nil:
		err = fmt.Errorf("read the answer of %s: %w", f.shown, err)
	}
	f.note(true, err)
	if err != nil {
		return nil, nil, err
	}
	return result(response.Header.Get("Content-Type"), text), response.Header, nil
}

// request makes the request for a delivery that came with header.
func (f *Forward) request(ctx context.Context, header http.Header, body []byte) (*http.Request, error) {
	target := f.target
	secret := ""
	if f.secret != nil {
		secret = f.secret()
	}
	if _, inHeader := header[secretHeader]; secret != "" && !inHeader {
		withSecret := *target
		query := withSecret.Query()
		query.Set("secret", secret)
		withSecret.RawQuery = query.Encode()
		target = &withSecret
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.URL, r.Host = target, target.Host
	named := header["Connection"]
	for name, values := range header {
		if !left[name] && !names(named, name) {
			r.Header[name] = values
		}
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // or Go's own is sent
	}
	if secret != "" {
		r.Header[secretHeader] = []string{secret}
	}
	if f.user != "" {
		r.Header["Authorization"] = []string{f.user}
	}
	// With such an entry, which is not sent, the transport repeats a request whose connection the upstream has just closed, as it does
	// with those that change nothing: upstreams have to take repeats of a delivery anyway.
	if _, ok := r.Header["X-Idempotency-Key"]; !ok {
		r.Header["X-Idempotency-Key"] = nil
	}
	return r, nil
}

// left are the headers that are not forwarded.
var left = map[string]bool{
	// of a connection
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	// of the answer, which is read here
	"Accept-Encoding": true, "Expect": true,
	// made anew
	"Content-Length": true, "Host": true, secretHeader: true,
	// masked
	"Authorization": true, "Proxy-Authorization": true, "Cookie": true,
}

// names reports whether values, those of a Connection header, name a header.
func names(values []string, header string) bool {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(name), header) {
				return true
			}
		}
	}
	return false
}

// RefusedError is an answer that is not 2xx.
type RefusedError struct {
	Status int
	Header http.Header
	Body   []byte // the first 64 KiB

	said string
}

func (e *RefusedError) Error() string { return e.said }

// refusal is the error of an answer that is not 2xx.
func (f *Forward) refusal(response *http.Response, text []byte) error {
	return &RefusedError{Status: response.StatusCode, Header: response.Header, Body: text, said: f.refused(response, text)}
}

func (f *Forward) refused(response *http.Response, text []byte) string {
	said := fmt.Sprintf("%s answered %d %s", f.shown, response.StatusCode, http.StatusText(response.StatusCode))
	if location := response.Header.Get("Location"); location != "" && response.StatusCode < 400 {
		return fmt.Sprintf("%s to %s: redirects are not followed, so forward to that URL", strings.TrimSpace(said), oneLine(location, maxShown))
	}
	if body := oneLine(string(text[:min(len(text), 4*maxShown)]), maxShown); body != "" {
		return fmt.Sprintf("%s: %s", strings.TrimSpace(said), body)
	}
	return strings.TrimSpace(said)
}

// note keeps what an attempt has shown of the upstream.
func (f *Forward) note(up bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first, news := f.health.Since.IsZero(), f.health.Up != up // before the first request it counts as not up
	if first || news {
		f.health.Up, f.health.Since = up, time.Now()
	}
	if err != nil {
		f.health.Error, f.health.Failed = err.Error(), time.Now()
	}
	if first {
		news = !up // that all is well needs no word
	}
	if news && f.changed != nil && !f.closed {
		f.changed(f.health)
	}
}

// result is what a handler returns of an answer.
func result(contentType string, text []byte) any {
	if len(text) == 0 {
		return nil
	}
	cut := len(text) > maxResult
	if kind, _, err := mime.ParseMediaType(contentType); !cut && json.Valid(text) {
		if err != nil || kind == "application/json" || strings.HasSuffix(kind, "+json") {
			return json.RawMessage(text)
		}
	}
	kept := strings.ToValidUTF8(string(text[:min(len(text), maxResult)]), "\uFFFD")
	if cut {
		kept += "..."
	}
	return kept
}

// dialBoth connects to localhost over IPv6 and IPv4 whatever the system's resolver says: some programs listen on one of the two alone, and
// some systems know localhost by one alone. Other names and addresses are the standard library's work.
func dialBoth(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	var d net.Dialer
	if err != nil || !strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return d.DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the slower one
	type dialed struct {
		conn net.Conn
		err  error
	}
	results := make(chan dialed, 2)
	dial := func(address string) {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(address, port))
		results <- dialed{conn, err}
	}
	go dial("::1")
	second := time.NewTimer(dialAfter)
	defer second.Stop()
	pending, both := 1, false
	start := func() {
		if !both {
			pending, both = pending+1, true
			go dial("127.0.0.1")
		}
	}
	var failed error
	for pending > 0 {
		select {
		case <-second.C:
			start()
		case r := <-results:
			pending--
			if r.err == nil {
				go func(late int) { // a connection that was made too late
					for range late {
						if r := <-results; r.conn != nil {
							r.conn.Close()
						}
					}
				}(pending)
				return r.conn, nil
			}
			failed = r.err
			start()
		}
	}
	return nil, failed
}
