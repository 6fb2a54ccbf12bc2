package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/testing/tail"
	"github.com/hubhook/hubhook/payload"
)

func answeringWith(with string) Handler {
	return func(context.Context, *payload.Payload) (any, error) { return with, nil }
}

func TestReplaceAndRemoveWhileTheServerRuns(t *testing.T) {
	c := runConfig(t)
	c.Data = t.TempDir()
	s := newServer(t, c)
	s.Handle("before", answeringWith("first"))
	s.Handle("kept", answeringWith("first"))
	for _, err := range []error{s.Replace("before", answeringWith("second")), s.Replace("/early/", answeringWith("early")), s.Remove("kept")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, s)
	local := r.wait(t, "ready", nil).text("local_url")
	post := func(name, want string) {
		t.Helper()
		status, body := r.post(t, local, name, "me/data")
		if status != http.StatusOK || strings.TrimSpace(body) != want {
			t.Errorf("%s answers %d %s, want %s", name, status, body, want)
		}
	}
	gone := func(name string) {
		t.Helper()
		if status, body := r.post(t, local, name, "me/data"); status != http.StatusNotFound || !strings.Contains(body, "no endpoint is called") {
			t.Errorf("%s answers %d %s", name, status, body)
		}
	}
	post("before", `"second"`)
	post("early", `"early"`)
	gone("kept")

	never := func(*payload.Payload) bool { return false }
	for _, err := range []error{s.Replace("before", answeringWith("third")), s.Replace("kept", answeringWith("again")), s.Replace("early", nil, When(never)), s.Replace("late", nil)} {
		if err != nil {
			t.Error(err)
		}
	}
	post("before", `"third"`)
	post("kept", `"again"`)
	post("late", `{}`)
	if _, body := r.post(t, local, "early", "me/data"); !strings.Contains(body, `"skipped"`) {
		t.Errorf("with a condition: %s", body)
	}
	if names := s.names(); !slices.Equal(names, []string{"before", "early", "kept", "late"}) {
		t.Errorf("listed: %q", names)
	}
	if err := s.Remove("before"); err != nil {
		t.Error(err)
	}
	gone("before")
	for what, err := range map[string]error{
		"unknown": s.Remove("before"), "bad name": s.Replace("a b", nil), "bad option": s.Replace("late", nil, Concurrency(0)),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if err := s.Replace("before", answeringWith("back")); err != nil {
		t.Error(err)
	}
	post("before", `"back"`)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{"replace": s.Replace("before", nil), "new": s.Replace("other", nil), "remove": s.Remove("before")} {
		if err == nil || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
}

// An attempt that fails after its endpoint was removed leaves its delivery waiting, which is said then.
func TestRemoveWhileAnAttemptRuns(t *testing.T) {
	c := runConfig(t)
	c.Data, c.ReplyWithin = t.TempDir(), time.Millisecond
	printed := &tail.Tail{}
	c.Errors = printed
	s := newServer(t, c)
	running, fail := make(chan struct{}), make(chan struct{})
	s.Handle("failing", func(context.Context, *payload.Payload) (any, error) {
		close(running)
		<-fail
		return nil, errors.New("no")
	}, Retry(2, time.Minute))
	r := start(t, s)
	r.post(t, r.wait(t, "ready", nil).text("local_url"), "failing", "me/data")
	<-running
	if err := s.Remove("failing"); err != nil {
		t.Error(err)
	}
	const want = "1 delivery waits for endpoint failing, which is not served"
	if out := printed.String(); strings.Contains(out, want) {
		t.Errorf("a running delivery is said to wait: %s", out)
	}
	close(fail)
	r.wait(t, "attempt", nil)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if out := printed.String(); strings.Count(out, want) != 1 {
		t.Errorf("%q is not printed once: %s", want, out)
	}
}

// What endpoints forward to is in the status, and a change is said once, without the secret.
func TestUpstreams(t *testing.T) {
	c := runConfig(t)
	c.Data, c.Secrets = t.TempDir(), []string{"hidden-one"}
	printed := &tail.Tail{}
	c.Errors = printed
	var changed func(api.Upstream)
	down := api.Upstream{Endpoint: "mirror", URL: "http://localhost:1/", State: "failing", Since: &api.Time{Time: time.Now()}, Error: "it said hidden-one"}
	ctx := companion.WithUpstreams(context.Background(), &companion.Upstreams{
		Attach: func(f func(api.Upstream)) { changed = f },
		Now:    func() []api.Upstream { return []api.Upstream{down} },
	})
	s := newServer(t, c)
	s.Handle("mirror", nil)
	r := startIn(t, ctx, s)
	r.wait(t, "ready", nil)
	status, err := s.status(t.Context())
	if err != nil || len(status.Upstreams) != 1 || status.Upstreams[0].Error != "it said [secret]" || status.Upstreams[0].State != "failing" {
		t.Errorf("have %+v, %v", status.Upstreams, err)
	}
	changed(down)
	up := down
	up.State = "ok"
	changed(up)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"endpoint mirror: it said [secret]", "Endpoint mirror: http://localhost:1/ answers again."} {
		if out := printed.String(); strings.Count(out, want) != 1 {
			t.Errorf("%q is not printed once: %s", want, out)
		}
	}
}
