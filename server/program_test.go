package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

// notYet says that no attempt was made.
type notYet struct{ after time.Duration }

func (notYet) Error() string                { return "not yet" }
func (e notYet) PutBack() (d time.Duration) { return e.after }

// aProgram is the program's side of a server that is joined to one.
type aProgram struct {
	companion.Server
	waits   atomic.Int32
	handled chan string // endpoint and repo of each attempt
	answers chan error
}

func joinTo(t *testing.T, c Config) (*running, *aProgram) {
	p := &aProgram{handled: make(chan string, 100), answers: make(chan error, 100)}
	ctx := companion.With(context.Background(), &companion.Program{
		Attach: func(s companion.Server) { p.Server = s },
		Handler: func(name string) companion.Handler {
			return func(_ context.Context, body *payload.Payload) (any, error) {
				p.handled <- name + " " + body.Repo.Name
				return nil, <-p.answers
			}
		},
		Waits: func() { p.waits.Add(1) },
		Key:   func(rune) {},
		Quit:  func() {},
	})
	r := startIn(t, ctx, newServer(t, c))
	return r, p
}

func (r *running) post(t *testing.T, base, name, repo string) (status int, body string) {
	t.Helper()
	answer, err := http.Post(base+"/webhooks/"+name, "application/json", strings.NewReader(
		`{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"`+repo+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var b strings.Builder
	if err := answer.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ = strings.Cut(b.String(), "\r\n\r\n")
	return answer.StatusCode, body
}

// Until the program names its endpoints a delivery to any name is taken, and waits in order until the program listens.
func TestDeliveriesWaitForAProgram(t *testing.T) {
	c := runConfig(t)
	c.Data = t.TempDir()
	r, p := joinTo(t, c)
	base := r.wait(t, "ready", nil).text("local_url")
	<-p.Shown()
	for _, repo := range []string{"me/a", "me/b"} {
		if status, body := r.post(t, base, "hook", repo); status != http.StatusAccepted || !strings.Contains(body, `"waiting"`) {
			t.Errorf("while it is not known: %d %s", status, body)
		}
	}
	if status, _ := r.post(t, base, "not%20a%20name", "me/a"); status != http.StatusNotFound {
		t.Errorf("a name that is none: %d", status)
	}
	if p.waits.Load() != 2 {
		t.Errorf("%d were said to wait", p.waits.Load())
	}
	p.answers <- notYet{} // it was asked a moment too early
	p.answers <- notYet{time.Millisecond}
	p.answers <- nil
	p.answers <- text.WithHint(errors.New("it is broken"), "correct it")
	p.Resume()
	<-p.handled
	r.waitUntil(t, func() bool {
		q := r.queue.Load()
		n, err := q.Counts(t.Context())
		return err == nil && n["hook"]["waiting"] == 2
	})
	p.Resume()
	for _, want := range []string{"hook me/a", "hook me/a", "hook me/b"} {
		if got := <-p.handled; got != want {
			t.Errorf("handled %q; want %q", got, want)
		}
	}
	failed := r.wait(t, "attempt", func(l line) bool { return l.text("state") == "retrying" })
	if failed.text("error") != "it is broken; correct it" || failed["n"] != 1.0 {
		t.Errorf("the failure is shown as %v", failed)
	}
	p.answers <- nil
	if got := <-p.handled; got != "hook me/b" {
		t.Errorf("tried again: %q", got)
	}
	if err := p.Replay(t.Context(), failed.text("delivery")); err != nil {
		t.Error(err)
	}
	if got := <-p.handled; got != "hook me/b" {
		t.Errorf("replayed %q", got)
	}
	p.answers <- nil

	if err := p.Name([]string{"named"}); err != nil {
		t.Fatal(err)
	}
	p.Show(api.ProgramEvent{Program: "app.py", Phase: "ready", Endpoints: []api.Endpoint{{Name: "named"}}})
	shown := r.wait(t, "program", nil)
	if urls, ok := shown["endpoints"].([]any); !ok || urls[0].(map[string]any)["url"] != base+"/webhooks/named" {
		t.Errorf("shown as %v", shown)
	}
	p.answers <- nil
	if status, _ := r.post(t, base, "named", "me/c"); status != http.StatusOK {
		t.Errorf("once it is named: %d", status)
	}
	if status, _ := r.post(t, base, "other", "me/c"); status != http.StatusNotFound {
		t.Errorf("one that is not named: %d", status)
	}
	<-p.handled
	p.Pause()
	r.post(t, base, "named", "me/d")
	if err := r.stop(); err != nil {
		t.Error(err)
	}

	// What has waited is handled by the next run, which knows no endpoint yet.
	c = runConfig(t)
	c.Data = r.settings.Data
	next, p := joinTo(t, c)
	next.wait(t, "ready", nil)
	p.answers <- nil
	p.Resume()
	if got := <-p.handled; got != "named me/d" {
		t.Errorf("the next run handled %q", got)
	}
}

func (r *running) waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within a minute")
		}
	}
}
