package hub

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
)

// maxAnswer bounds the body of an answer, in bytes: a page of a thousand files has about 300 kB.
const maxAnswer = 32 << 20

// call is one request of the API.
type call struct {
	op      string // what is tried, as in Error.Op
	method  string
	url     *url.URL
	body    []byte // JSON; nil for none
	secrets []string
	// safe says that the call may be sent again when its answer was lost.
	safe bool
	// signed says that the Hub refuses the call without a token.
	signed bool
}

// answer is a successful answer of the Hub, read in full.
type answer struct {
	header http.Header
	body   []byte
	// repeated says that an earlier attempt may have reached the Hub too. It is set where the call failed as well.
	repeated bool
}

// address returns the URL of a path of the API. The path is escaped already.
func (c *Client) address(path string, query url.Values) *url.URL {
	u := *c.endpoint
	escaped := u.EscapedPath() + path
	u.RawPath = escaped
	if plain, err := url.PathUnescape(escaped); err == nil {
		u.Path = plain
	}
	u.RawQuery = query.Encode()
	return &u
}

// path is what an Error says of a call's URL.
func (c *Client) path(u *url.URL) string {
	path := strings.TrimPrefix(u.EscapedPath(), c.endpoint.EscapedPath())
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return path
}

// get reads one JSON answer.
func (c *Client) get(ctx context.Context, op, path string, query url.Values, into any) error {
	return c.answered(ctx, call{op: op, method: http.MethodGet, url: c.address(path, query), safe: true}, into)
}

// answered sends a call and reads the JSON of the answer.
func (c *Client) answered(ctx context.Context, call call, into any) error {
	answer, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	return c.decode(call, answer, into)
}

// decode reads the JSON of an answer.
func (c *Client) decode(call call, answer answer, into any) error {
	err := json.Unmarshal(answer.body, into)
	if err == nil {
		return nil
	}
	e := c.failed(call, Token{})
	e.RequestID = requestID(answer.header, func(s string) string { return text.OneLine(s, maxMessage) })
	media := text.OneLine(answer.header.Get("Content-Type"), 100)
	var syntax *json.SyntaxError
	switch {
	case strings.HasPrefix(media, "text/html"), bytes.HasPrefix(bytes.TrimSpace(answer.body), []byte("<")):
		e.Err = fmt.Errorf("the answer is a page of HTML, %w", errNotJSON)
	case errors.As(err, &syntax):
		e.Err = fmt.Errorf("the answer (%s) is %w", media, errNotJSON)
	default:
		e.Err = fmt.Errorf("the answer has another shape than hubhook knows: %w", err)
	}
	return e
}

// failed returns an Error of a call that the caller completes.
func (c *Client) failed(call call, token Token) *Error {
	return &Error{Op: call.op, Method: call.method, Path: c.path(call.url), TokenSource: token.Source, endpoint: c.Endpoint()}
}

// send sends a call, again and again until it succeeds, can't succeed, or must not be repeated.
func (c *Client) send(ctx context.Context, call call) (answer, error) {
	repeated := false
	for attempt := 1; ; attempt++ {
		if d := c.quota.left(time.Now()); d > 0 {
			if err := c.pause(ctx, d, nil); err != nil {
				return answer{}, c.usedUp(call, d, fmt.Errorf("%w: %w", errUsedUp, err))
			}
		}
		answer, err := c.once(ctx, call)
		answer.repeated = repeated
		if err == nil {
			return answer, nil
		}
		var e *Error
		if !errors.As(err, &e) || attempt >= c.config.Attempts || ctx.Err() != nil || !again(call, e) {
			return answer, err
		}
		repeated = repeated || !untouched(e)
		d := e.RetryAfter
		if d <= 0 {
			d = backoff(attempt)
		}
		if c.pause(ctx, d, e) != nil {
			return answer, err // the Hub's error tells more than the error of the wait
		}
	}
}

// usedUp returns the error of a call that is not sent, because no request is allowed for d.
func (c *Client) usedUp(call call, d time.Duration, err error) *Error {
	token, _ := c.Token() // the next call reports a token that can't be read
	e := c.failed(call, token)
	e.RetryAfter, e.Err = d, err
	return e
}

// errUsedUp says that a call was not sent, because the Hub would refuse it.
var errUsedUp = errors.New("the Hub's rate limit is used up")

// errTooLong says that the Hub asks for a longer wait than the caller has.
var errTooLong = errors.New("there is no time to wait so long")

// pause waits for d. It fails at once where ctx or the client's own limit leaves no time for it.
func (c *Client) pause(ctx context.Context, d time.Duration, why error) error {
	deadline, ok := ctx.Deadline()
	if d > c.config.LongestWait || ok && time.Until(deadline) < d {
		return errTooLong
	}
	if c.config.OnWait != nil {
		c.config.OnWait(d, why)
	}
	return c.config.Wait(ctx, d)
}

// backoff returns the wait after a number of failures: 1 s, doubled with each failure up to 30 s. Up to half of the wait is taken off at random, so
// that many clients don't come back together.
func backoff(failures int) time.Duration {
	d := min(time.Second<<min(failures-1, 10), 30*time.Second)
	return d - rand.N(d/2)
}

// again reports whether a call that failed may be sent again, with a chance of success.
func again(call call, e *Error) bool {
	switch e.Status {
	case 0:
		var distrusted *tls.CertificateVerificationError // asking again does not make a certificate valid
		return errors.Is(e, errConnection) && !errors.As(e, &distrusted) && (call.safe || untouched(e))
	case http.StatusTooManyRequests: // the Hub refused the call before it did anything
		return true
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return call.safe
	}
	return false
}

// untouched reports whether a call that failed changed nothing: the rate limit refused it, or no connection was made to send it on.
func untouched(e *Error) bool {
	var op *net.OpError
	return e.Status == http.StatusTooManyRequests || e.Status == 0 && errors.As(e.Err, &op) && op.Op == "dial"
}

// once sends a call once.
func (c *Client) once(ctx context.Context, call call) (answer, error) {
	attempt, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, fmt.Errorf("no answer within %v", c.config.Timeout))
	defer cancel()
	response, hide, err := c.open(attempt, call, "application/json")
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		e := c.failed(call, Token{})
		e.Err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
		return answer{}, e
	}
	if err != nil {
		return answer{}, c.lost(attempt, call, err, hide)
	}
	return answer{header: response.Header, body: body}, nil
}

// open sends a call and returns the answer where it is a success; the caller closes its body. The redactor knows the call's secrets.
func (c *Client) open(ctx context.Context, call call, accept string) (*http.Response, *text.Redactor, error) {
	token, err := c.Token()
	if err != nil {
		return nil, nil, err
	}
	hide := text.NewRedactor(hidden, append([]string{string(token.Value)}, call.secrets...)...)
	if token.Value == "" && call.signed {
		e := c.failed(call, token)
		e.Method, e.Path, e.Err = "", "", ErrNoToken // nothing was sent
		return nil, nil, e
	}
	var body io.Reader
	if call.body != nil {
		body = bytes.NewReader(call.body)
	}
	request, err := http.NewRequestWithContext(ctx, call.method, call.url.String(), body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %s", call.op, hide.Redact(err.Error()))
	}
	request.Header.Set("Accept", accept)
	request.Header.Set("User-Agent", "hubhook/"+version.String())
	if call.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token.Value != "" && c.ours(call.url) {
		request.Header.Set("Authorization", "Bearer "+string(token.Value))
	}
	response, err := c.http.Do(request)
	if err != nil {
		e := c.lost(ctx, call, err, hide)
		e.TokenSource = token.Source
		return nil, nil, e
	}
	c.warn(response.Header)
	limit := readLimit(response.Header)
	c.quota.note(time.Now(), limit)
	if response.StatusCode/100 == 2 {
		return response, hide, nil
	}
	defer response.Body.Close()
	e := c.failed(call, token)
	e.Status = response.StatusCode
	if at := response.Request.URL; !c.ours(at) {
		e.redirected, e.TokenSource = at.Scheme+"://"+at.Host, ""
	} else if to, err := response.Location(); err == nil && response.StatusCode/100 == 3 {
		e.redirected = to.Scheme + "://" + to.Host // a write does not follow redirects
	}
	e.RetryAfter = retryAfter(response.StatusCode, response.Header, limit, time.Now())
	said, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // a part of the body is better than none
	return nil, nil, readError(e, response.Header, said, hide)
}

// errConnection marks an error of the connection to the Hub.
var errConnection = errors.New("the connection failed")

// lost makes an Error of a connection that failed.
func (c *Client) lost(ctx context.Context, call call, err error, hide *text.Redactor) *Error {
	e := c.failed(call, Token{})
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // url.Error adds the URL, which could have a secret after a redirect
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	why := hide.Redact(err.Error())
	if errors.Is(err, context.Canceled) {
		why = "interrupted"
	}
	e.Err = &connectionError{err: err, text: why}
	return e
}

// connectionError is an error of the connection to the Hub. Its text has no secret.
type connectionError struct {
	err  error
	text string
}

func (e *connectionError) Error() string { return e.text }
func (e *connectionError) Unwrap() []error {
	return []error{e.err, errConnection}
}
