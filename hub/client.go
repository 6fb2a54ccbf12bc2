// Package hub is a client of the Hugging Face Hub: its webhooks, and what has to be read of repos and buckets to know what changed.
//
//	client, err := hub.New(hub.Config{}) // the token and endpoint that the environment names
//	webhooks, err := client.Webhooks.List(ctx)
//
// The client is tolerant where the Hub's API is not documented or has two shapes. It keeps fields that it does not know, so that an update
// of a webhook sends back what it read. It waits for the Hub's rate limit, and repeats calls that are safe to repeat.
//
// Every error of the Hub or of the connection to it is an [*Error]. Its text never contains the token or a webhook's secret.
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

// DefaultEndpoint is the Hub's address.
const DefaultEndpoint = "https://huggingface.co"

// Config says how a client reaches the Hub. The zero Config is what the environment says.
type Config struct {
	// Endpoint is the Hub's address, with http or https. "": HF_ENDPOINT, then DefaultEndpoint.
	Endpoint string
	// Token authenticates every call. "": the one that FindToken finds at each call, so that a token which another program renews
	// is taken up. Most reads of public repos need none.
	Token Secret
	// TokenSource names the origin of Token in messages: "--token", say. "": "Config.Token". It means nothing without Token.
	TokenSource string
	// HTTP sends the requests. Its Timeout bounds live feeds too, so it should have none. The token is sent to the endpoint's host alone,
	// whatever its CheckRedirect allows. Nil: a client of its own with the default transport.
	HTTP *http.Client
	// Timeout bounds one attempt of a call, from the connection to the end of the answer. 0: 30 s. The live feed of a bucket has its own.
	Timeout time.Duration
	// Attempts bounds how often a call that is safe to repeat is sent. 0: 5.
	Attempts int
	// LongestWait bounds a wait before a call is repeated or sent at all. Where the Hub asks for more, the call fails with the Hub's
	// answer. 0: 5 min and 10 s, somewhat more than the window of the Hub's rate limit.
	LongestWait time.Duration
	// LookupEnv reads the environment. Nil: os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Wait waits before an attempt until d has passed or ctx has ended. It returns an error only if ctx has ended. A test can give one that
	// returns at once. Nil: a timer.
	Wait func(ctx context.Context, d time.Duration) error
	// OnWarning gets the first warning of each topic that the Hub sends in the header X-HF-Warning. The topic can be empty. The goroutine of
	// the call calls OnWarning. Nil: warnings are dropped.
	OnWarning func(topic, message string)
	// OnWait is called before a call waits, by the goroutine of the call. err is the failure before the wait, nil if the wait is for the Hub's
	// rate limit. Nil: nobody is told.
	OnWait func(d time.Duration, err error)
}

// Client calls the Hub's API. It may be used by several goroutines at a time.
type Client struct {
	// Webhooks are the webhooks of the token's user.
	Webhooks *Webhooks

	config   Config
	endpoint *url.URL
	http     *http.Client
	quota    quota
	trees    treeCache

	warnedMu sync.Mutex
	warned   map[string]bool // topics of warnings that OnWarning got
}

// New returns a client. It does not ask the Hub anything.
func New(config Config) (*Client, error) {
	if config.LookupEnv == nil {
		config.LookupEnv = os.LookupEnv
	}
	source := "Config.Endpoint"
	if config.Endpoint == "" {
		config.Endpoint, _ = config.LookupEnv(env.HFEndpoint)
		source = env.HFEndpoint
	}
	endpoint, err := parseEndpoint(cmp.Or(strings.TrimSpace(config.Endpoint), DefaultEndpoint))
	if err != nil {
		return nil, text.WithHint(fmt.Errorf("read %s: %w", source, err), "it looks like "+DefaultEndpoint)
	}
	config.TokenSource = cmp.Or(config.TokenSource, "Config.Token")
	config.Timeout = cmp.Or(config.Timeout, 30*time.Second)
	config.Attempts = cmp.Or(config.Attempts, 5)
	config.LongestWait = cmp.Or(config.LongestWait, 310*time.Second)
	if config.Wait == nil {
		config.Wait = wait
	}
	c := &Client{config: config, endpoint: endpoint, warned: make(map[string]bool)}
	c.http = &http.Client{}
	if config.HTTP != nil {
		copied := *config.HTTP
		c.http = &copied
	}
	c.http.CheckRedirect = c.checkRedirect(c.http.CheckRedirect)
	c.Webhooks = &Webhooks{c}
	return c, nil
}

// Endpoint returns the Hub's address, without a slash at its end.
func (c *Client) Endpoint() string { return c.endpoint.String() }

// Token returns the token that the next call sends; its Value is empty where there is none.
func (c *Client) Token() (Token, error) {
	if c.config.Token != "" {
		return checkToken(Token{Value: c.config.Token, Source: c.config.TokenSource})
	}
	return FindToken(c.config.LookupEnv)
}

// NeedToken returns an error where there is no token, an *Error with [ErrNoToken], or where the token can't be read. Nothing is sent.
func (c *Client) NeedToken() error {
	token, err := c.Token()
	if err == nil && token.Value == "" {
		err = &Error{Op: "ask the Hub", TokenSource: token.Source, Err: ErrNoToken, endpoint: c.Endpoint()}
	}
	return err
}

func parseEndpoint(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	switch {
	case err != nil:
		return nil, errors.New("not a URL") // the parser's error repeats the address, which may hold a password
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("want a URL with http:// or https:// and a host")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("a user name, a query or a fragment has no place in it")
	}
	return u, nil
}

// ours reports whether u is on the endpoint's host, so that the token may be sent there.
func (c *Client) ours(u *url.URL) bool {
	return u.Scheme == c.endpoint.Scheme && strings.EqualFold(u.Host, c.endpoint.Host)
}

// checkRedirect lets reads follow redirects, as the Hub redirects from the old name of a repo that moved. Beyond the endpoint's host the
// token is dropped. A write is never redirected: its body can hold a secret.
func (c *Client) checkRedirect(users func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if via[0].Method != http.MethodGet {
			return http.ErrUseLastResponse
		}
		if !c.ours(req.URL) {
			req.Header.Del("Authorization")
		}
		if users != nil {
			return users(req, via)
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
}

// wait is the Wait of a Config that has none.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// warn passes on what the Hub warns of, each topic once. Beyond a hundred topics nothing is passed on.
func (c *Client) warn(header http.Header) {
	if c.config.OnWarning == nil {
		return
	}
	for _, warning := range header.Values("X-HF-Warning") {
		topic, message, ok := strings.Cut(warning, ";")
		if !ok {
			topic, message = "", warning
		}
		topic, message = text.OneLine(topic, 100), text.OneLine(message, 500)
		c.warnedMu.Lock()
		first := message != "" && !c.warned[topic] && len(c.warned) < 100
		if first {
			c.warned[topic] = true
		}
		c.warnedMu.Unlock()
		if first {
			c.config.OnWarning(topic, message)
		}
	}
}
