package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are made by the test.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A client that sends a byte now and then, or nothing, is cut off: it holds a connection, and its body memory, for so long at most.
func TestSlowClientsAreCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		sends string        // at once
		more  time.Duration // between further bytes
		most  time.Duration
	}{
		"nothing":             {"", time.Hour, 10 * time.Second},
		"a head byte by byte": {"POST / HTTP/1.1\r\nHost: x\r\nX: ", time.Second, 10 * time.Second},
		"a body byte by byte": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", 5 * time.Second, time.Minute},
		"chunk by chunk":      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", 5 * time.Second, time.Minute},
		"a second request":    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", time.Hour, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := (&run{Server: &Server{}}).httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadAll(r.Body); err != nil {
						w.WriteHeader(http.StatusBadRequest)
					}
				}))
				listener := make(pipes)
				go srv.Serve(listener)
				client, far := net.Pipe()
				listener <- far
				began := time.Now()
				go func() {
					piece := test.sends
					for ctx := t.Context(); ctx.Err() == nil; piece = "1" {
						if _, err := io.WriteString(client, piece); err != nil {
							return
						}
						select {
						case <-ctx.Done():
						case <-time.After(test.more):
						}
					}
				}()
				answer, _ := io.ReadAll(client)
				if took := time.Since(began); took > test.most+time.Second {
					t.Errorf("cut off after %v; want %v", took, test.most)
				}
				if strings.Contains(string(answer), "200 OK") != (name == "a second request") {
					t.Errorf("answered %q", answer)
				}
				client.Close()
				close(listener)
				srv.Close()
			})
		})
	}
}
