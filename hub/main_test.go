package hub_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
)

const token = "hf_tokenThatNobodyMaySee"

// fixture returns an example of the API's bodies. testdata/api holds them; they are put together from clients of the API, as no captured
// body is public.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "api", name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// A stub is a Hub that answers with what a test says.
type stub struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	waits    []time.Duration
}

type request struct {
	method, uri, auth string
	body              map[string]any
}

// newStub starts a Hub. answer gets the number of the request, from 1.
func newStub(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *stub {
	t.Helper()
	s := &stub{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := request{method: r.Method, uri: r.URL.RequestURI(), auth: r.Header.Get("Authorization")}
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			if err := json.Unmarshal(body, &seen.body); err != nil {
				t.Errorf("%s %s: the body is no object: %v", seen.method, seen.uri, err)
			}
		}
		s.mu.Lock()
		s.requests = append(s.requests, seen)
		n := len(s.requests)
		s.mu.Unlock()
		answer(n, w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *stub) seen() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.requests...)
}

func (s *stub) waited() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Duration(nil), s.waits...)
}

// client returns a client of the Hub that never waits.
func (s *stub) client(t *testing.T, change func(*hub.Config)) *hub.Client {
	t.Helper()
	config := hub.Config{
		Endpoint:  s.URL,
		Token:     token,
		LookupEnv: func(string) (string, bool) { return "", false },
		Wait: func(ctx context.Context, d time.Duration) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waits = append(s.waits, d)
			return ctx.Err()
		},
	}
	if change != nil {
		change(&config)
	}
	c, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// send answers with JSON.
func send(body []byte) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Write(body)
	}
}
