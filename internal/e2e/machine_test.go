//go:build unix

package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// beside answers in this process, so that nothing but the machine makes it late.
var beside = sync.OnceValue(func() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // a client that goes away ends it
	}))
})

// machineTime posts to a server in this process, over a new connection, and returns how long that took: about a millisecond on an
// idle machine. A test that asserts how soon the program answers adds a multiple of it to its limit, for the work of other tests.
func machineTime(t *testing.T) time.Duration {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	began := time.Now()
	if a, err := tryPost(t, client, beside().URL, "{}"); err != nil || !a.ok() {
		t.Errorf("a server in this process answers %d, %v", a.status, err)
	}
	return time.Since(began)
}
