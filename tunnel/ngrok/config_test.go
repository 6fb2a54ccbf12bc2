package ngrok_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// TestProxy goes through an HTTP proxy that wants a password.
func TestProxy(t *testing.T) {
	t.Parallel()
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked sync.Map
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if r.Method != http.MethodConnect || password != "pass+word" {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		asked.Store(r.Host, true)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			out.Close()
			return
		}
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(out, in); out.Close() }()
		go func() { io.Copy(in, out); in.Close() }()
	})}
	go proxy.Serve(l)
	defer proxy.Close()

	config := configFor(t, edge, tunneltest.DefaultToken)
	via := &url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword("me", "pass+word")}
	text, err := os.ReadFile(config.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config.ConfigFile, fmt.Appendf(text, "    proxy_url: %q\n", via), 0o600); err != nil {
		t.Fatal(err)
	}
	o := open(t, edge, config, echo)
	o.flows()
	if _, ok := asked.Load(edge.Addr()); !ok {
		t.Error("the proxy was not asked for the edge")
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	const token = "secret_token_in_the_file"
	for _, test := range []struct {
		name, file, env, want string
	}{
		{"not YAML", "agent: {authtoken: " + token + "\n", "", "is not the YAML that ngrok writes"},
		{"a list for a token", "authtoken: [" + token + "]\n", "", "line 1"},
		{"no such CA", "version: 3\nagent:\n  authtoken: " + token + "\n  connect_cas: gone.pem\n", "", "gone.pem"},
		{"CA that is none", "version: 3\nagent:\n  authtoken: " + token + "\n  connect_cas: ngrok.yml\n", "", "no certificate in PEM form"},
		{"proxy of another kind", "authtoken: " + token + "\nproxy_url: gopher://proxy\n", "", "gopher"},
		{"URL with a path", "authtoken: " + token + "\n", "https://mine.example.com/hook", "without a path"},
		{"connect_url that is none", "authtoken: " + token + "\nconnect_url: 'a b'\n", "", "HOST:PORT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ngrok.yml")
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ngrok.New(ngrok.Config{ConfigFile: path, Getenv: environment("NGROK_DOMAIN", test.env)}).Open(context.Background())
			var e *tunnel.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), test.want) || e.Hint() == "" {
				t.Errorf("%#v", err)
			}
			if strings.Contains(fmt.Sprintf("%v %#v", err, err), token) {
				t.Errorf("the token is shown: %v", err)
			}
		})
	}
	_, err := ngrok.New(ngrok.Config{ConfigFile: filepath.Join(t.TempDir(), "gone.yml"), Getenv: environment("NGROK_AUTHTOKEN", token)}).Open(context.Background())
	if !errors.Is(err, os.ErrNotExist) && (err == nil || !strings.Contains(err.Error(), "gone.yml")) {
		t.Errorf("a file that was named and is not there: %v", err)
	}
}
