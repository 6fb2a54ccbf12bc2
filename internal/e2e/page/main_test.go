//go:build unix

// Package page_test uses the inspector's page as people do: in a real Chromium, with mouse and keyboard, against a real server with a
// database. The tests send the server's webhooks over HTTP.
package page_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/testing/browser"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// patience bounds every wait. The race detector and other work of the machine take their time.
const patience = 30 * time.Second

const (
	secret = "s3cret-of-the-webhook"
	token  = "token-of-the-inspector"
)

func TestMain(m *testing.M) {
	if os.Getenv(childData) != "" {
		child()
		return
	}
	status := m.Run()
	if err := browser.CloseShared(); err != nil {
		log.Print(err)
		status = 1
	}
	os.Exit(status)
}

// site is a running server with its inspector.
type site struct {
	t       *testing.T
	public  string // its local URL
	private string // its inspector's
	release chan struct{}
	bodies  chan string // the bodies that the handler of train was called with
	stop    func()

	upstreams atomic.Pointer[[]api.Upstream] // what the status says that endpoints forward to
	changed   func(api.Upstream)             // to be told of a change of them
}

// serve starts a server that stops with the test. The test runs in parallel with others, because each waits more than it works.
func serve(t *testing.T, change ...func(*server.Config)) *site {
	t.Helper()
	t.Parallel()
	s := &site{t: t, release: make(chan struct{}), bodies: make(chan string, 64)}
	out, in := io.Pipe()
	config := server.Config{
		Addr:           "127.0.0.1:0",
		Inspector:      "127.0.0.1:0",
		InspectorToken: token,
		Data:           t.TempDir(),
		Secrets:        []string{secret},
		ReplyWithin:    -1,
		JSON:           true,
		Output:         in,
		Errors:         io.Discard,
		Getenv:         func(string) (string, bool) { return "", false },
	}
	for _, c := range change {
		c(&config)
	}
	srv, err := server.New(config)
	if err != nil {
		t.Fatal(err)
	}
	handlers(srv, s.release, s.bodies)

	ctx, cancel := context.WithCancel(companion.WithUpstreams(context.Background(), &companion.Upstreams{
		Attach: func(changed func(api.Upstream)) { s.changed = changed },
		Now:    func() []api.Upstream { return slices.Clone(*s.upstreams.Load()) },
	}))
	s.upstreams.Store(&[]api.Upstream{})
	ran, read := make(chan error, 1), make(chan struct{})
	ready := make(chan [2]string, 1)
	go func() {
		err := srv.Run(ctx)
		in.Close()
		ran <- err
	}()
	go func() {
		defer close(read)
		readOutput(out, ready)
	}()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		close(s.release)
		cancel()
		select {
		case err := <-ran:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run has not returned within %v", patience)
		}
		<-read
	}
	t.Cleanup(s.stop)
	select {
	case urls := <-ready:
		s.public, s.private = urls[0], urls[1]
	case err := <-ran:
		t.Fatalf("Run: %v", err)
	case <-time.After(patience):
		t.Fatalf("the server is not ready after %v", patience)
	}
	return s
}

// readOutput reads a server's lines of JSON to their end. Once the server is ready, it sends the local URL and the inspector's.
func readOutput(out io.Reader, ready chan<- [2]string) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line struct {
			Type      string `json:"type"`
			Local     string `json:"local_url"`
			Inspector string `json:"inspector_url"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Type == "ready" {
			private, _, _ := strings.Cut(line.Inspector, "/?")
			ready <- [2]string{line.Local, private}
		}
	}
}

// handlers registers an endpoint for each way in which a handler can end. The handler of slow waits for release.
func handlers(s *server.Server, release <-chan struct{}, bodies chan<- string) {
	s.Handle("train", func(_ context.Context, p *payload.Payload) (any, error) {
		select {
		case bodies <- string(p.Raw()):
		default: // nobody looks at them
		}
		return map[string]any{"run": 42, "started": true}, nil
	})
	s.Handle("evaluate", func(_ context.Context, p *payload.Payload) (any, error) {
		return nil, fmt.Errorf("evaluate %s: no model card", p.Repo.Name)
	}, server.Retry(1, time.Second))
	s.Handle("panics", func(context.Context, *payload.Payload) (any, error) { panic("index out of range [3] with length 3") }, server.Retry(1, time.Second))
	s.Handle("slow", func(ctx context.Context, _ *payload.Payload) (any, error) {
		select {
		case <-release:
			return "at last", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	s.Handle("prints", func(ctx context.Context, _ *payload.Payload) (any, error) {
		fmt.Fprintln(server.Output(ctx), "epoch 1 of 3")
		select {
		case <-release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		fmt.Fprint(server.Output(ctx), "epoch 2 <b>of</b> 3\n\x1b[32mdone\x1b[0m\n")
		return nil, nil
	})
	s.Handle("echo", func(ctx context.Context, p *payload.Payload) (any, error) {
		fmt.Fprintln(server.Output(ctx), p.Repo.Name)
		return json.RawMessage(p.Raw()), nil
	})
	s.Handle("complains", func(ctx context.Context, p *payload.Payload) (any, error) {
		fmt.Fprintln(server.Output(ctx), p.Repo.Name)
		return nil, errors.New(p.Repo.Name)
	}, server.Retry(1, time.Second))
	s.Handle("picky", nil, server.WhenBecause(func(p *payload.Payload) (bool, string) { return false, "<b>" + p.Repo.Name + "</b> is not ours" }))
	s.Handle("rambles", func(context.Context, *payload.Payload) (any, error) {
		return nil, errors.New(strings.Repeat("and so on ", 6<<10)) // little less than is kept of an error
	}, server.Retry(1, time.Second))
}

// event is the payload of a push to a dataset.
func event(repo string) string {
	return fmt.Sprintf(`{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":%s,"id":"621ffdc036468d709f17434d","private":false,`+
		`"url":{"web":"https://huggingface.co/datasets/me/data","api":"https://huggingface.co/api/datasets/me/data"},"headSha":"575db8b7a51b6f85eb06eee540738584589f131c","owner":{"id":"61d2000c3c2083e1c08af22d"}},`+
		`"updatedRefs":[{"ref":"refs/heads/main","oldSha":"ce9a4674fa833a68d5a73ec355f0ea95eedd60b7","newSha":"575db8b7a51b6f85eb06eee540738584589f131c"}],`+
		`"webhook":{"id":"6390e855e30d9209411de93b","version":3}}`, browser.Literal(repo))
}

// send posts a body to an endpoint, as the Hub does, and returns the delivery's ID.
func (s *site) send(endpoint, body string, headers ...string) string {
	s.t.Helper()
	status, id := s.post(endpoint, body, append([]string{"X-Webhook-Secret", secret}, headers...)...)
	if status/100 != 2 || id == "" {
		s.t.Fatalf("a delivery to %s was answered %d, delivery %q", endpoint, status, id)
	}
	return id
}

// post posts a body to an endpoint with headers of its own.
func (s *site) post(endpoint, body string, headers ...string) (status int, id string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.public+"/webhooks/"+endpoint, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Hubhook-Delivery")
}

// get asks the inspector's API.
func (s *site) get(path string, into any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.private+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s, %v", path, answer.StatusCode, body, err)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
}

// until waits until a delivery has a state, by the API.
func (s *site) until(id, state string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var record api.Record
		s.get("/api/deliveries/"+id, &record)
		if string(record.State) == state {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("delivery %s is %s after %v; want %s", id, record.State, patience, state)
		}
	}
}

// tab is a page that belongs to a test. Each of its methods ends the test if it fails. At the end of the test, any complaint of the page
// fails the test.
type tab struct {
	t      *testing.T
	finish func() // fails the test if the page complains, and closes it; the end of the test does it otherwise
	*browser.Page
	origins []string // that it may send requests to
}

// open opens the inspector's page with its token, at a path such as "/?state=dead".
func (s *site) open(path string, change ...func(*browser.PageConfig)) *tab {
	s.t.Helper()
	tab := s.emptyTab(change...)
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	tab.do(tab.Open(s.private + path + separator + "token=" + token))
	tab.wait("the page", `document.querySelector("main") !== null`)
	return tab
}

func (s *site) emptyTab(change ...func(*browser.PageConfig)) *tab {
	s.t.Helper()
	b, err := browser.Shared(needs.Program(s.t, browser.Program))
	if err != nil {
		s.t.Fatal(err)
	}
	config := browser.PageConfig{Patience: patience}
	for _, c := range change {
		c(&config)
	}
	p, err := b.NewPage(config)
	if err != nil {
		s.t.Fatal(err)
	}
	tab := &tab{t: s.t, Page: p, origins: []string{s.private}}
	tab.finish = sync.OnceFunc(func() {
		for _, c := range p.Complaints(tab.origins...) {
			s.t.Errorf("the page complains: %s", c)
		}
		p.Close()
	})
	s.t.Cleanup(tab.finish)
	return tab
}

func (b *tab) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) wait(what, expression string) { b.t.Helper(); b.do(b.Wait(what, expression)) }
func (b *tab) click(role, name string)      { b.t.Helper(); b.do(b.Click(role, name)) }
func (b *tab) press(keys string)            { b.t.Helper(); b.do(b.Press(keys)) }
func (b *tab) choose(selector, text string) { b.t.Helper(); b.do(b.Choose(selector, text)) }
func (b *tab) fill(role, name, text string) { b.t.Helper(); b.do(b.Fill(role, name, text)) }

// value evaluates an expression.
func value[T any](b *tab, expression string) T {
	b.t.Helper()
	var v T
	b.do(b.Evaluate(expression, &v))
	return v
}

// waitState waits for the list's row of a delivery to have a state.
func (b *tab) waitState(id, state string) {
	b.t.Helper()
	b.wait("the row of "+id+" to be "+state, fmt.Sprintf(`document.querySelector('.row[data-id="%s"]')?.dataset.state === "%s"`, id, state))
}

// waitText waits until the element of a CSS selector shows a text.
func (b *tab) waitText(selector, text string) {
	b.t.Helper()
	b.wait(fmt.Sprintf("%q in %s", text, selector), fmt.Sprintf(`[...document.querySelectorAll(%s)].some((e) => e.checkVisibility() && e.innerText.includes(%s))`, browser.Literal(selector), browser.Literal(text)))
}

// waitRows waits for the list to show these deliveries and no others, in any order.
func (b *tab) waitRows(ids ...string) {
	b.t.Helper()
	b.wait(fmt.Sprintf("the rows of %q", ids),
		fmt.Sprintf(`String([...document.querySelectorAll(".row[data-id]")].map((r) => r.dataset.id).sort()) === String(%s.sort())`, browser.Literal(append([]string{}, ids...))))
}

// waitAddress waits for the page's address to have this query.
func (b *tab) waitAddress(query string) {
	b.t.Helper()
	b.wait("the address "+query, `location.search === `+browser.Literal(query))
}
