package hubtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxRequests bounds the requests that are kept in the log.
const maxRequests = 100_000

// Requests is the log of the requests to a [Hub]'s API. It keeps the last 100,000.
type Requests struct {
	mu    sync.Mutex
	kept  []*Request
	began chan struct{} // closed and made anew when a request arrives
}

// Request is one request to the API.
type Request struct {
	// ID is the header X-Request-Id of the answer.
	ID string
	// Method, Path and Query are those of the request. Path has no percent-encoding.
	Method, Path, Query string
	// Started is when the request arrived, by [Options].Now.
	Started time.Time
	// Status is the answer's status, 0 before there is one or if the connection was cut.
	Status int
	// Received and Sent are the bytes of the bodies so far.
	Received, Sent int64
	// Ended is true after the whole answer was written.
	Ended bool
}

// All returns the requests that are kept, oldest first.
func (l *Requests) All() []Request { return l.Matching("", "") }

// Matching returns the kept requests with a method and a path, oldest first. Both are as in [Fault].
func (l *Requests) Matching(method, path string) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Request
	for _, r := range l.kept {
		if matches(method, path, r.Method, r.Path) {
			found = append(found, *r)
		}
	}
	return found
}

// Count returns the number of kept requests with a method and a path, both as in [Fault]. A request counts from its arrival on.
func (l *Requests) Count(method, path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := 0
	for _, r := range l.kept {
		if matches(method, path, r.Method, r.Path) {
			count++
		}
	}
	return count
}

// Wait waits until Count is at least count, and returns an error if ctx ends first.
func (l *Requests) Wait(ctx context.Context, method, path string, count int) error {
	for {
		l.mu.Lock()
		began := l.began
		l.mu.Unlock()
		is := l.Count(method, path)
		if is >= count {
			return nil
		}
		select {
		case <-began:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d requests %s %s: there were %d: %w", count, method, path, is, ctx.Err())
		}
	}
}

// Bytes returns the bytes of the kept requests' bodies and of their answers' bodies.
func (l *Requests) Bytes() (received, sent int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.kept {
		received, sent = received+r.Received, sent+r.Sent
	}
	return received, sent
}

// Reset forgets all requests.
func (l *Requests) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = nil
}

func (l *Requests) begin(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) >= maxRequests {
		l.kept = slices.Delete(l.kept, 0, maxRequests/10)
	}
	l.kept = append(l.kept, r)
	close(l.began)
	l.began = make(chan struct{})
}

// A recorder writes into the log what passes through it.
type recorder struct {
	http.ResponseWriter
	log   *Requests
	entry *Request
}

func (w *recorder) WriteHeader(status int) {
	w.log.mu.Lock()
	if w.entry.Status == 0 {
		w.entry.Status = status
	}
	w.log.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

// Write counts before it writes: a client that has read the answer finds it in the log.
func (w *recorder) Write(b []byte) (int, error) {
	w.log.mu.Lock()
	if w.entry.Status == 0 {
		w.entry.Status = http.StatusOK
	}
	w.entry.Sent += int64(len(b))
	w.log.mu.Unlock()
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) end() {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.entry.Ended = true
}

// A counter counts a request's body into the log.
type counter struct {
	io.ReadCloser
	log   *Requests
	entry *Request
}

func (b *counter) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.log.mu.Lock()
	b.entry.Received += int64(n)
	b.log.mu.Unlock()
	return n, err
}
