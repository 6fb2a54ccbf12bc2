//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

const (
	secret = "a-secret-of-the-pictures"
	token  = "a-token-of-the-pictures"

	userAgent = "sender of the pictures" // the Hub's own is not documented
)

// siteConfig says what a server shows.
type siteConfig struct {
	end  time.Time // of the history stored before the start; zero for no history
	busy bool      // many deliveries before the newest ones
}

// domain is the public domain of all sites.
const domain = "data-bot.ngrok.app"

// openEdge starts a stand-in for ngrok's service. Until close is called, this process's requests to the sites' domain go to it. The
// process must not have made an HTTP request before.
func openEdge() (edge *tunneltest.Edge, closeAll func() error, err error) {
	if edge, err = tunneltest.StartEdge(tunneltest.Options{Domain: domain}); err != nil {
		return nil, nil, err
	}
	proxy, err := tunneltest.StartProxy(tunneltest.ProxyOptions{Hosts: map[string]string{domain + ":443": edge.PublicTLSAddr()}})
	if err != nil {
		return nil, nil, errors.Join(err, edge.Close())
	}
	closeAll = func() error {
		proxy.Close()
		return edge.Close()
	}
	for name, value := range map[string]string{"HTTPS_PROXY": proxy.URL().String(), "NO_PROXY": "", "SSL_CERT_FILE": edge.CAFile()} {
		if err := os.Setenv(name, value); err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
	}
	return edge, closeAll, nil
}

// site is a running server.
type site struct {
	public, private string
	ids             map[string]string // of deliveries that pictures are taken of
}

// address returns a URL of the page with the token.
func (s *site) address(path string) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return s.private + path + separator + "token=" + token
}

// withSite starts a server, calls do, and stops the server.
func withSite(ctx context.Context, edge *tunneltest.Edge, config siteConfig, do func(*site) error) (err error) {
	dir, err := os.MkdirTemp("", "hubhook-screenshots-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &site{}
	// The status page shows this directory.
	data := filepath.Join(dir, "data-bot")
	if !config.end.IsZero() {
		if s.ids, err = storeHistory(ctx, data, config); err != nil {
			return err
		}
	}

	out, in := io.Pipe()
	c := server.Config{
		Addr:           "127.0.0.1:0",
		Inspector:      "127.0.0.1:0",
		InspectorToken: token,
		Data:           data,
		Secrets:        []string{secret},
		Keep:           100 * 365 * 24 * time.Hour,
		ReplyWithin:    -1,
		JSON:           true,
		Output:         in,
		Errors:         io.Discard,
		Getenv:         func(string) (string, bool) { return "", false },
		Provider: ngrok.New(ngrok.Config{
			Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(),
			Getenv: func(string) string { return "" },
		}),
	}
	srv, err := server.New(c)
	if err != nil {
		return err
	}
	over := make(chan struct{}) // the pictures are taken
	for _, name := range endpoints {
		srv.Handle(name, handler(over), server.Retry(3, time.Hour))
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() {
		err := srv.Run(ctx)
		in.Close()
		ran <- err
	}()
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var line struct {
				Type      string `json:"type"`
				Local     string `json:"local_url"`
				Inspector string `json:"inspector_url"`
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Type == "ready" {
				s.public = line.Local
				s.private, _, _ = strings.Cut(line.Inspector, "/?")
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, out) // drain the output, so that the server need not wait
	}()
	select {
	case <-ready:
		err = do(s)
	case err := <-ran:
		return fmt.Errorf("start a server: %w", err)
	}
	close(over)
	cancel()
	return errors.Join(err, <-ran)
}

// handler returns the handler of all endpoints, for deliveries that are unfinished when a server starts.
func handler(over <-chan struct{}) server.Handler {
	return func(ctx context.Context, p *payload.Payload) (any, error) {
		if p.Repo.Name == "acme/reranker" {
			return nil, errors.New("upload scores: connection reset by peer")
		}
		fmt.Fprintln(server.Output(ctx), "epoch 1/3  loss 0.812\nepoch 2/3  loss 0.574")
		select {
		case <-over:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}
}

// refuse sends requests that are refused: several with an old secret, one with half a payload, one to an unknown endpoint.
func (s *site) refuse(ctx context.Context) error {
	for _, r := range []struct{ endpoint, secret, body string }{
		{"index_datasets", secret, `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset"`},
		{"train_on_push", "", "{}"},
		{"train_on_push", "the-secret-of-last-year", "{}"},
		{"train_on_push", "the-secret-of-last-year", "{}"},
		{"train_on_push", "the-secret-of-last-year", "{}"},
	} {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.public+"/webhooks/"+r.endpoint, strings.NewReader(r.body))
		if err != nil {
			return err
		}
		request.Header.Set("User-Agent", userAgent)
		if r.secret != "" {
			request.Header.Set("X-Webhook-Secret", r.secret)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode < 400 {
			return fmt.Errorf("a request that is wrong was answered %d", answer.StatusCode)
		}
	}
	return nil
}
