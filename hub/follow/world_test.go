package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Hub and what a process that follows it leaves behind, in a synctest bubble.
type world struct {
	*testing.T
	hub    *hubtest.Hub
	client *hub.Client
	items  []Item
	every  time.Duration
	names  []string // of the endpoints
	budget int
	waits  atomic.Int32 // calls that waited for the Hub

	limited int      // how often the follower told that the rate limit is used up
	paced   []string // what it told of the looks that the limit allows

	mu        sync.Mutex
	marks     map[string]Mark
	delivered []Delivery
	shown     []api.Followed
	at        func(op int) fate // what happens to a store's operation; nil: nothing
	ops       int

	stop func() // ends the follower that runs
	f    *Follower
}

// fate is what becomes of an operation of the store.
type fate int

const (
	fine        fate = iota
	lostBefore       // it fails, and nothing is stored
	lostAfter        // it fails, and yet all is stored
	diesBefore       // the process dies before it
	diesAfter        // the process dies after it
	takenBefore      // another process has begun to follow
)

// inWorld runs a test in a bubble, where time passes only while all wait.
func inWorld(t *testing.T, options hubtest.Options, test func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, marks: map[string]Mark{}, names: []string{"inbox"}}
		w.hub = hubtest.New(options)
		defer w.hub.Close()
		w.client = w.clientWith("")
		defer w.end()
		test(w)
	})
}

// clientWith returns a client of the Hub with a token, "" for none.
func (w *world) clientWith(token string) *hub.Client {
	w.Helper()
	c, err := hub.New(hub.Config{
		Endpoint: "http://hub.test", HTTP: &http.Client{Transport: direct{w.hub}}, Attempts: 2, Token: hub.Secret(token),
		LookupEnv: func(string) (string, bool) { return "", false },
		OnWait:    func(time.Duration, error) { w.waits.Add(1) },
	})
	w.must(err)
	return c
}

// direct brings requests to a handler without a network.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	served := r.Clone(ctx)
	served.RequestURI, served.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1"
	if served.Body == nil {
		served.Body = http.NoBody
	}
	body, write := io.Pipe()
	a := &answer{header: http.Header{}, body: write, begun: make(chan struct{})}
	go func() {
		defer func() {
			err := io.EOF
			if recover() != nil {
				err = io.ErrUnexpectedEOF
			} else {
				a.WriteHeader(http.StatusOK)
			}
			write.CloseWithError(err)
			cancel(err)
		}()
		d.handler.ServeHTTP(a, served)
	}()
	select {
	case <-a.begun:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: a.header.Clone(),
		Body: closer{body, func() { cancel(context.Canceled) }}, ContentLength: -1, Request: r,
	}, nil
}

type closer struct {
	*io.PipeReader
	cancel func()
}

func (c closer) Close() error {
	c.cancel()
	return c.PipeReader.Close()
}

// answer is the ResponseWriter of direct.
type answer struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan struct{}
	status int
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) Flush()              { a.WriteHeader(http.StatusOK) }
func (a *answer) WriteHeader(status int) {
	a.once.Do(func() {
		a.status = status
		close(a.begun)
	})
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

var errDied = errors.New("the process has died")

// run begins to follow, as a new process.
func (w *world) run() {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	w.f = New(Config{
		Hub: w.client, Store: &memory{w: w, die: cancel, versions: map[string]int64{}}, Items: w.items, Every: w.every, Budget: w.budget,
		Endpoints: w.endpoints, Limited: func(time.Duration) { w.limited++ },
		Paced: func(budget int, every time.Duration) {
			w.paced = append(w.paced, fmt.Sprintf("%d requests, every %s", budget, every))
		},
		Show: func(v api.Followed) {
			w.shown = append(w.shown, v)
		},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.f.Run(ctx)
	}()
	w.stop = func() { cancel(); <-done }
}

func (w *world) endpoints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names
}

func (w *world) end() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// restart ends the process and begins another one.
func (w *world) restart() { w.end(); w.run() }

// memory is a Store that outlives its process. A process that has died stores nothing more.
type memory struct {
	w        *world
	die      func()
	dead     bool
	versions map[string]int64
}

func (m *memory) Marks(ctx context.Context, prefix string) ([]Mark, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.dead {
		return nil, errDied
	}
	var all []Mark
	for key, mark := range m.w.marks {
		if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			all = append(all, mark)
		}
	}
	return all, nil
}

func (m *memory) SetMark(ctx context.Context, mark Mark) error { return m.do(mark, nil) }

func (m *memory) Deliver(ctx context.Context, d Delivery) error { return m.do(d.Mark, &d) }

func (m *memory) do(mark Mark, d *Delivery) error {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.dead {
		return errDied
	}
	what := fine
	if w.at != nil {
		what = w.at(w.ops)
	}
	w.ops++
	switch what {
	case lostBefore:
		return errors.New("the disk is full")
	case diesBefore:
		m.dead = true
		m.die()
		return errDied
	case takenBefore: // the marks get a new version
		for key, old := range w.marks {
			old.Version++
			w.marks[key] = old
		}
	}
	if w.marks[mark.Key].Version != mark.Version {
		return fmt.Errorf("version %d: %w", mark.Version, ErrMoved)
	}
	mark.Version++
	w.marks[mark.Key] = mark
	if d != nil {
		w.delivered = append(w.delivered, *d)
	}
	switch what {
	case lostAfter:
		return errors.New("the answer was lost")
	case diesAfter:
		m.dead = true
		m.die()
		return errDied
	}
	return nil
}

// follow adds items TYPE:NAME for every endpoint.
func (w *world) follow(items ...string) {
	w.Helper()
	for _, item := range items {
		id, err := hub.ParseRepoID(item)
		if err != nil {
			w.Fatal(err)
		}
		w.items = append(w.items, Item{Repo: id})
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// pass lets time pass, and all that is due happen.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// events returns what was delivered since the last call.
func (w *world) events() (all []*payload.Payload) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.delivered {
		p, err := payload.Parse(d.Body)
		if err != nil {
			w.Fatalf("%s: %v", d.Body, err)
		}
		all = append(all, p)
	}
	w.delivered = nil
	return all
}

// says describes events in short: scope, action, and what changed.
func says(all []*payload.Payload) (lines []string) {
	for _, p := range all {
		line := fmt.Sprintf("%s/%s %s", p.Event.Scope, p.Event.Action, p.Repo.Name)
		for _, ref := range p.UpdatedRefs {
			how := "moved"
			switch {
			case ref.Created():
				how = "new"
			case ref.Deleted():
				how = "gone"
			}
			line += fmt.Sprintf(" %s:%s", ref.Ref, how)
		}
		for _, file := range p.UpdatedFiles {
			line += fmt.Sprintf(" %s:%s", file.Path, file.Action)
		}
		if p.UpdatedFilesTruncated {
			line += " cut"
		}
		lines = append(lines, line)
	}
	return lines
}

// want compares what was delivered since the last call.
func (w *world) want(lines ...string) []*payload.Payload {
	w.Helper()
	all := w.events()
	if got := says(all); fmt.Sprint(got) != fmt.Sprint(lines) {
		w.Errorf("delivered were\n%q\nwant\n%q", got, lines)
	}
	return all
}

func (w *world) repo(kind payload.RepoType, name string) *hubtest.Repo {
	w.Helper()
	r, err := w.hub.CreateRepo(kind, name, hubtest.RepoOptions{})
	w.must(err)
	return r
}

func (w *world) push(r *hubtest.Repo, ref string) {
	w.Helper()
	_, err := r.Push(hubtest.Commit{Ref: ref, Files: []hubtest.File{{Path: "a", Content: []byte(time.Now().String() + ref)}}})
	w.must(err)
}

// shape returns a JSON value with its keys sorted and its scalars replaced, to compare with the Hub's.
func shape(t *testing.T, body []byte) string {
	var v any
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
			return v
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
			return v
		case nil:
			return nil
		}
		return fmt.Sprintf("%T", v)
	}
	b, err := json.Marshal(walk(v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
