package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/hub"
)

// A feed is a Hub in memory with one bucket. It answers request after request from a script, and ends the test when that is used up.
type feed struct {
	t      *testing.T
	script []scene
	seen   []string // the queries of the feed's requests
	told   []string
	ends   context.CancelFunc
}

// A scene answers one request for the feed, or for the bucket where updatedAt is set.
type scene struct {
	updatedAt  string
	status     int // 0: 200 with the stream
	retryAfter string
	stream     string
	silent     bool // the stream does not end
	pings      int  // the stream sends so many comments first, a minute apart
	limit      string
}

func (f *feed) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(f.script) == 0 {
		f.ends()
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	s := f.script[0]
	f.script = f.script[1:]
	answer := &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, ProtoMajor: 1, ProtoMinor: 1}
	body := s.stream
	wantPath := "/api/buckets/me/b/events"
	switch {
	case s.updatedAt == "refused":
		wantPath = "/api/buckets/me/b"
		answer.StatusCode = 400
	case s.updatedAt != "":
		wantPath = "/api/buckets/me/b"
		body = fmt.Sprintf(`{"id": "me/b", "private": false, "updatedAt": %q, "size": 1, "totalFiles": 1}`, s.updatedAt)
	case s.status != 0:
		answer.StatusCode = s.status
		body = `{"error": "no"}`
		if s.retryAfter != "" {
			answer.Header.Set("Retry-After", s.retryAfter)
		}
	default:
		answer.Header.Set("Content-Type", "text/event-stream; charset=utf-8")
		if got := r.Header.Get("Accept"); got != "text/event-stream" {
			f.t.Errorf("the feed was asked for as %q", got)
		}
	}
	if s.limit != "" {
		answer.Header.Set("RateLimit", s.limit)
	}
	if r.URL.Path != wantPath {
		f.t.Errorf("got a request for %s, want one for %s", r.URL, wantPath)
	}
	if s.updatedAt == "" {
		query, _ := url.QueryUnescape(r.URL.RawQuery)
		f.seen = append(f.seen, query)
	}
	answer.Body = io.NopCloser(strings.NewReader(body))
	if s.silent || s.pings > 0 {
		reader, writer := io.Pipe()
		context.AfterFunc(r.Context(), func() { writer.CloseWithError(r.Context().Err()) })
		go func() {
			for range s.pings {
				time.Sleep(time.Minute)
				io.WriteString(writer, ": ping\n\n")
			}
			io.WriteString(writer, body)
			if !s.silent {
				writer.Close()
			}
		}()
		answer.Body = reader
	}
	return answer, nil
}

// follow plays a script, and returns the queries of the feed's requests, what was told, how long it took and the error at the end.
func follow(t *testing.T, from hub.Resume, script ...scene) (f *feed, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f = &feed{t: t, script: script, ends: cancel}
		c, newErr := hub.New(hub.Config{
			Endpoint: "https://hub.example", Token: token, HTTP: &http.Client{Transport: f}, LookupEnv: func(string) (string, bool) { return "", false },
		})
		if newErr != nil {
			t.Fatal(newErr)
		}
		began := time.Now()
		err = c.FollowBucket(ctx, "me/b", from, func(e hub.BucketEvent) error {
			words := string(e.Kind)
			for _, change := range e.Changes {
				words += " " + change.Op + ":" + change.Path
			}
			if e.Overlap {
				words += " overlap"
			}
			if e.Reason != "" {
				words += " " + e.Reason
			}
			if e.Kind == hub.BucketLost && e.Wait <= 0 {
				t.Errorf("lost without a wait: %+v", e)
			}
			f.told = append(f.told, fmt.Sprintf("%s [%s %s]", words, e.Resume.Cursor, e.Resume.Since))
			return nil
		})
		took = time.Since(began)
	})
	return f, took, err
}

// compare fails where a list is not as expected.
func compare(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const (
	ready = "event: ready\ndata: {\"cursor\": \"c1\"}\n\n"
	added = "event: changes\ndata: {\"cursor\": \"c2\", \"changes\": [{\"path\": \"a\", \"op\": \"add\", \"uploadedAt\": \"2026-11-27T10:00:00Z\"}, {\"path\": \"b\", \"op\": \"delete\"}]}\n\n"
)

func TestFollowFromNow(t *testing.T) {
	t.Parallel()
	f, took, err := follow(t, hub.Resume{},
		scene{updatedAt: "2026-11-27T09:00:00.000Z"},
		scene{stream: ": hello\n\n" + ready + "event: novelty\ndata: {}\n\n" + added + "event: reconnect\ndata: {\"cursor\": \"c3\"}\n\n" + added},
		scene{stream: "event: ready\ndata: {}\n\n"},
	)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	compare(t, "asked", f.seen, "since=2026-11-27T09:00:00.000Z", "cursor=c3")
	compare(t, "told", f.told,
		"reset [ 2026-11-27T09:00:00.000Z]",
		"ready [c1 2026-11-27T09:00:00.000Z]",
		"changes add:a delete:b [c2 2026-11-27T10:00:00Z]",
		"ready [c3 2026-11-27T10:00:00Z]")
	if took != 2*time.Second {
		t.Errorf("two healthy sessions took %v, want 1 s after each", took)
	}
}

func TestFollowResumed(t *testing.T) {
	t.Parallel()
	f, _, _ := follow(t, hub.Resume{Cursor: "c0", Since: "2026-11-27T09:30:00Z"}, scene{stream: added + ready})
	compare(t, "asked", f.seen, "cursor=c0")
	compare(t, "told", f.told, "changes add:a delete:b [c2 2026-11-27T10:00:00Z]", "ready [c1 2026-11-27T10:00:00Z]")
}

// The Hub refuses the cursor, then the instant, then that of the bucket's last change.
func TestFollowRefused(t *testing.T) {
	t.Parallel()
	f, _, _ := follow(t, hub.Resume{Cursor: "c0", Since: "2026-11-27T09:30:00Z"}, scene{status: 400}, scene{stream: added + ready})
	compare(t, "asked", f.seen, "cursor=c0", "since=2026-11-27T09:30:00Z")
	compare(t, "told", f.told, "changes add:a delete:b overlap [c2 2026-11-27T10:00:00Z]", "ready [c1 2026-11-27T10:00:00Z]")

	f, _, _ = follow(t, hub.Resume{Cursor: "c0", Since: "2026-11-27T09:30:00Z"}, scene{status: 400}, scene{status: 400},
		scene{updatedAt: "2026-11-27T09:00:00Z"}, scene{status: 400}, scene{stream: added + ready})
	compare(t, "asked", f.seen, "cursor=c0", "since=2026-11-27T09:30:00Z", "since=2026-11-27T09:00:00Z", "")
	compare(t, "told", f.told, "reset refused [ 2026-11-27T09:00:00Z]", "reset refused [ ]",
		"changes add:a delete:b [c2 2026-11-27T10:00:00Z]", "ready [c1 2026-11-27T10:00:00Z]")

	f, _, err := follow(t, hub.Resume{Cursor: "c0"}, scene{status: 400}, scene{updatedAt: "2026-11-27T09:00:00Z"}, scene{status: 400}, scene{status: 400})
	var refused *hub.Error
	if !errors.As(err, &refused) || refused.Status != 400 || len(f.seen) != 3 {
		t.Errorf("a feed without a point was refused: %v, after %q", err, f.seen)
	}
}

// A bucket that can't be read is no feed that refuses a point: it is waited for, ever longer.
func TestFollowUnreadableBucket(t *testing.T) {
	t.Parallel()
	f, took, _ := follow(t, hub.Resume{}, scene{updatedAt: "refused"}, scene{updatedAt: "refused"}, scene{updatedAt: "2026-11-27T09:00:00Z"}, scene{stream: ready})
	compare(t, "told", f.told, "lost [ ]", "lost [ ]", "reset [ 2026-11-27T09:00:00Z]", "ready [c1 2026-11-27T09:00:00Z]")
	if took < 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestFollowReset(t *testing.T) {
	t.Parallel()
	tooOld := scene{stream: "event: reset\ndata: {\"reason\": \"cursor_too_old\"}\n\n"}
	f, _, _ := follow(t, hub.Resume{Cursor: "c0"}, tooOld, scene{updatedAt: "2026-11-27T09:00:00Z"}, scene{stream: added + ready + added})
	compare(t, "asked", f.seen, "cursor=c0", "since=2026-11-27T09:00:00Z")
	compare(t, "told", f.told, "reset cursor_too_old [ 2026-11-27T09:00:00Z]", "changes add:a delete:b overlap [c2 2026-11-27T10:00:00Z]",
		"ready [c1 2026-11-27T10:00:00Z]", "changes add:a delete:b [c2 2026-11-27T10:00:00Z]")

	// The bucket's own last change is too old as well: the listing is made once the feed is live.
	f, _, _ = follow(t, hub.Resume{Cursor: "c0"}, tooOld, scene{updatedAt: "2026-11-27T09:00:00Z"}, tooOld, scene{stream: ready + added})
	compare(t, "asked", f.seen, "cursor=c0", "since=2026-11-27T09:00:00Z", "")
	compare(t, "told", f.told, "reset cursor_too_old [ 2026-11-27T09:00:00Z]", "reset cursor_too_old [c1 ]", "ready [c1 ]",
		"changes add:a delete:b [c2 2026-11-27T10:00:00Z]")
}

// Changes that can't be read are not skipped: the caller has to list the bucket.
func TestFollowUnreadable(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`{"cursor": "c9", "changes": {}}`, `{"changes": []}`, `{"cursor": "c9", "changes": [{"op": "add"}]}`, `{"cur`} {
		f, _, _ := follow(t, hub.Resume{Cursor: "c0"}, scene{stream: "event: changes\ndata: " + data + "\n\n"}, scene{updatedAt: "2026-11-27T09:00:00Z"})
		compare(t, "told of "+data, f.told, "reset unreadable [ 2026-11-27T09:00:00Z]")
	}
}

func TestFollowWaits(t *testing.T) {
	t.Parallel()
	f, took, _ := follow(t, hub.Resume{Cursor: "c0"}, scene{status: 503, retryAfter: "7"}, scene{status: 429, retryAfter: "20"}, scene{stream: ready})
	compare(t, "told", f.told, "lost [c0 ]", "lost [c0 ]", "ready [c1 ]")
	if want := 8*time.Second + 21*time.Second + time.Second; took != want {
		t.Errorf("it took %v, want %v", took, want)
	}
	// A stream that ends before it was ready doubles the wait: 10, 20, 40, 80, 80 s, each less up to a quarter.
	f, took, _ = follow(t, hub.Resume{Cursor: "c0"}, scene{}, scene{}, scene{}, scene{status: 500}, scene{})
	if most := 230 * time.Second; took > most || took < most*3/4 || len(f.told) != 5 {
		t.Errorf("it took %v, want at most %v and at least three quarters of it; told %q", took, most, f.told)
	}
	// After one that was ready the waits begin with 10 s again: 10, 20, 1, 10 s.
	if _, took, _ = follow(t, hub.Resume{Cursor: "c0"}, scene{}, scene{}, scene{stream: ready}, scene{}); took > 41*time.Second {
		t.Errorf("after a stream that was ready it took %v, want 41 s at most", took)
	}
	// Where the rate limit is used up, the feed is asked for when the window has ended.
	f, took, _ = follow(t, hub.Resume{}, scene{updatedAt: "2026-11-27T09:00:00Z", limit: `"api";r=0;t=30`}, scene{stream: ready})
	compare(t, "told", f.told, "reset [ 2026-11-27T09:00:00Z]", "lost [ 2026-11-27T09:00:00Z]", "ready [c1 2026-11-27T09:00:00Z]")
	if want := 32 * time.Second; took != want {
		t.Errorf("with a used up limit it took %v, want %v", took, want)
	}
	// Comments keep a stream alive.
	f, took, _ = follow(t, hub.Resume{Cursor: "c0"}, scene{stream: ready, pings: 3})
	compare(t, "told", f.told, "ready [c1 ]")
	if want := 181 * time.Second; took != want {
		t.Errorf("with comments it took %v, want %v", took, want)
	}
	// Silence ends a stream, and the point is kept.
	f, took, _ = follow(t, hub.Resume{Cursor: "c0"}, scene{stream: ready, silent: true}, scene{stream: ready})
	compare(t, "asked", f.seen, "cursor=c0", "cursor=c1")
	if want := 92 * time.Second; took != want {
		t.Errorf("after silence it took %v, want %v", took, want)
	}
}

func TestFollowImpossible(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404, 501} {
		f, _, err := follow(t, hub.Resume{Cursor: "c0"}, scene{status: status})
		var refused *hub.Error
		if !errors.As(err, &refused) || refused.Status != status || len(f.seen) != 1 {
			t.Errorf("%d: %v", status, err)
		}
	}
	stop := errors.New("enough")
	s := newStub(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, ready)
	})
	if err := s.client(t, nil).FollowBucket(t.Context(), "me/b", hub.Resume{Cursor: "c0"}, func(hub.BucketEvent) error { return stop }); err != stop {
		t.Errorf("the caller's own error came back as %v", err)
	}
	if err := s.client(t, nil).FollowBucket(t.Context(), "b", hub.Resume{}, nil); err == nil || len(s.seen()) != 1 {
		t.Errorf("a bucket without an owner: %v", err)
	}
}
