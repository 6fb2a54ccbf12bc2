package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/hubhook/hubhook/payload"
)

// answerSink is a ResponseWriter that costs nothing, so that what is measured is this package's and the queue's.
type answerSink struct {
	header http.Header
	status int
}

func (a *answerSink) Header() http.Header         { return a.header }
func (a *answerSink) WriteHeader(status int)      { a.status = status }
func (a *answerSink) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkDelivery measures a delivery from where net/http hands it over to its answer: admitted, stored, handled, answered.
func BenchmarkDelivery(b *testing.B) {
	body, err := os.ReadFile(filepath.Join("..", "payload", "testdata", "synthetic_repo_content_update_main_model.json"))
	if err != nil {
		b.Fatal(err)
	}
	screen, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer screen.Close()
	s, err := New(Config{Data: b.TempDir(), Secrets: []string{"a-secret-of-usual-length-0123456789"}, Output: screen,
		Getenv: func(string) (string, bool) { return "", false }})
	if err != nil {
		b.Fatal(err)
	}
	s.Handle("inbox", func(context.Context, *payload.Payload) (any, error) { return nil, nil })
	face := handler(b, s)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		in := bytes.NewReader(body)
		for pb.Next() {
			in.Reset(body)
			request, err := http.NewRequest(http.MethodPost, "/webhooks/inbox", io.NopCloser(in))
			if err != nil {
				b.Error(err)
				return
			}
			request.ContentLength = int64(len(body))
			request.Header = http.Header{"Content-Type": {"application/json"}, "X-Webhook-Secret": {"a-secret-of-usual-length-0123456789"},
				"Webhook-Id": {fmt.Sprintf("%016x", n.Add(1))}}
			answer := answerSink{header: http.Header{}}
			face.ServeHTTP(&answer, request)
			if answer.status != http.StatusOK {
				b.Errorf("status %d, want 200", answer.status)
				return
			}
		}
	})
	b.StopTimer()
	if err := s.Shutdown(context.Background()); err != nil {
		b.Fatal(err)
	}
}
