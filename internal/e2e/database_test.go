//go:build unix

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// shared makes a home whose programs share a new database, and returns the texts that they must not show.
func shared(t *testing.T) (h *home, private []string) {
	t.Helper()
	address := pgserver.Database(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	h = newHome(t)
	h.env = append(h.env, "HUBHOOK_DATABASE="+address)
	return h, []string{address, password, u.User.String()}
}

// Programs that share a database act as one: repeats, keys, bursts and the log hold for all of them together.
func TestProgramsThatShareADatabase(t *testing.T) {
	t.Parallel()
	h, private := shared(t)
	flags := []string{"--port", "0", "--no-tunnel", "--reply-within", "20s"}
	a, b := h.serve(t, bot, flags...), h.serve(t, bot, flags...)
	for i, p := range []*program{a, b} {
		if want := []string{"bot-1", "bot-2"}[i]; filepath.Base(p.ready.Data) != want {
			t.Errorf("the data directory of program %d is %s; want one that ends in %s", i+1, p.ready.Data, want)
		}
	}
	third := h.start(t, bot, append(flags, "--data", a.ready.Data)...)
	if status := third.exit(); status != 1 || !strings.Contains(third.errs.String(), "is in use by process") || !strings.Contains(third.errs.String(), "  hint: ") {
		t.Errorf("one with the directory of another ended with status %d and\n%s", status, third.errs)
	}

	first := a.post("nothing", push(t), "Webhook-Id", "one")
	again := b.post("nothing", push(t), "Webhook-Id", "one")
	if !again.says(t, map[string]string{"delivery": first.delivery(), "state": "duplicate"}) {
		t.Errorf("the same Webhook-Id at another program is answered %d %s; want a duplicate of %s", again.status, again.body, first.delivery())
	}
	// An outcome is stored a moment after the answer.
	b.poll("the other program shows what became of it", func() (bool, string) {
		r := b.record(first.delivery())
		return r.State == string(queue.Done) && r.Duplicates == 1, fmt.Sprintf("it shows %+v", r.Delivery)
	})

	var burst []string
	for _, p := range []*program{a, b, a, b} {
		burst = append(burst, p.post("burst", push(t)).delivery())
	}
	running := make(chan answer, 1)
	go func() {
		defer close(running)
		if got, err := tryPost(t, a.client, a.base+"/webhooks/series", push(t)); err != nil {
			t.Error(err)
		} else {
			running <- got
		}
	}()
	var key []string
	a.poll("one with the key runs", func() (bool, string) {
		if list := a.list("series"); len(list) == 1 && list[0].State == string(queue.Running) {
			key = []string{list[0].ID}
		}
		return key != nil, ""
	})
	held := b.post("series", push(t))
	if held.status != 202 || !held.says(t, map[string]string{"delivery": held.delivery(), "state": "waiting"}) {
		t.Errorf("one whose key runs elsewhere is answered %d %s; want 202 waiting", held.status, held.body)
	}
	key = append(key, held.delivery())
	wantMergedUpTo(b, burst) // takes a while, in which the waiting delivery could start
	if r := a.record(held.delivery()); r.State != string(queue.Waiting) {
		t.Errorf("it is %s while another one with its key runs elsewhere; want waiting", r.State)
	}
	h.open(t)
	if got := <-running; got.status != 200 {
		t.Errorf("the one that ran is answered %d %s", got.status, got.body)
	}
	for _, id := range key {
		b.settled(id, queue.Done)
	}
	var order []string
	for _, line := range h.logged(t) {
		if slices.Contains(key, line[1]) {
			order = append(order, line[1])
		}
	}
	if want := []string{key[0], key[0], key[1], key[1]}; !slices.Equal(order, want) {
		t.Errorf("they started and ended in the order %v; want %v", order, want)
	}

	wantUnsaid(a, private)
	wantUnsaid(b, private)
	a.stop()
	next := h.serve(t, bot, flags...)
	if next.ready.Data != a.ready.Data {
		t.Errorf("the next program has the directory %s; want the one that is free, %s", next.ready.Data, a.ready.Data)
	}
	next.stop()
	b.stop()
	for _, p := range []*program{a, b, next, third} {
		if text := p.out.String() + p.errs.String(); containsAny(text, private) {
			t.Errorf("the database's URL or password was printed:\n%s", text)
		}
	}
}

// wantUnsaid checks that none of these texts is in the inspector's answers or in the data directory.
func wantUnsaid(p *program, private []string) {
	p.t.Helper()
	inspector, err := url.Parse(p.ready.InspectorURL)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, path := range []string{"/", "/api/status", "/api/deliveries", "/metrics"} {
		r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+inspector.Host+path, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+inspector.Query().Get("token"))
		resp, err := p.client.Do(r)
		if err != nil {
			p.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || containsAny(string(text), private) {
			p.t.Errorf("%s: %d, %v; it has to be served, without the database's URL:\n%s", path, resp.StatusCode, err, text)
		}
	}
	err = filepath.WalkDir(p.ready.Data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if containsAny(string(text), private) {
			p.t.Errorf("the database's URL or password is in %s", path)
		}
		return err
	})
	if err != nil {
		p.t.Error(err)
	}
}

func containsAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// A sender that waits at one program gets the delivery's outcome from another program.
func TestAnAnswerThatWaitsForAnotherProgram(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	flags := []string{"--port", "0", "--no-tunnel", "--answer", "handled"}
	a, b := h.serve(t, bot, flags...), h.serve(t, bot, flags...)
	answers := make(chan answer, 2)
	send := func(p *program) {
		go func() {
			got, err := tryPost(t, p.client, p.base+"/webhooks/held", push(t), "Webhook-Id", "one")
			if err != nil {
				t.Error(err)
			}
			answers <- got
		}()
	}
	send(a)
	id := ""
	a.poll("it runs", func() (bool, string) {
		if list := a.list("held"); len(list) == 1 && list[0].State == string(queue.Running) {
			id = list[0].ID
		}
		return id != "", ""
	})
	send(b)
	b.poll("its repeat came to the other program", func() (bool, string) { return b.record(id).Duplicates == 1, "" })
	select {
	case got := <-answers:
		t.Fatalf("answered %d %s before the handler came to its end", got.status, got.body)
	default:
	}
	h.open(t)
	for range 2 {
		if got := <-answers; got.status != 200 || got.delivery() != id {
			t.Errorf("answer %d %s for %s; want 200 for %s", got.status, got.body, got.delivery(), id)
		}
	}
	if starts, _ := h.handled(t); starts[id] != 1 || len(starts) != 1 {
		t.Errorf("handlers started: %v; want one", starts)
	}
	a.stop()
	b.stop()
}

// The handler's result is the answer, whichever program ran the handler.
func TestAResultFromAnotherProgram(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	flags := []string{"--port", "0", "--no-tunnel", "--answer", "handled"}
	a := h.serve(t, bot, flags...)
	b := h.serve(t, bot, flags...)
	var posts sync.WaitGroup
	const bursts = 10
	for i := range bursts {
		repo := fmt.Sprintf("me/data%d", i)
		for range 2 {
			posts.Go(func() {
				got, err := tryPost(t, a.client, a.base+"/webhooks/burst", pushTo(t, repo))
				if err != nil || got.status != 200 {
					t.Errorf("answer %d %s, %v; want 200", got.status, got.body, err)
					return
				}
				if r := b.record(got.delivery()); r.State == string(queue.Done) && string(r.AttemptList[0].Result) != got.body {
					t.Errorf("delivery %s returned %s, and was answered %s", r.ID, r.AttemptList[0].Result, got.body)
				}
			})
		}
	}
	posts.Wait()
	a.stop()
	b.stop()
}

// If the database can't be used, the program says why and what to do, without the password.
func TestADatabaseThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	right, err := url.Parse(pgserver.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	change := func(change func(*url.URL)) string {
		u := *right
		u.User = url.UserPassword(right.User.Username(), "p4ss of nobody")
		change(&u)
		return u.String()
	}
	for name, address := range map[string]string{
		"nobody listens":     change(func(u *url.URL) { u.Host = "127.0.0.1:" + freePort(t) }),
		"the password":       change(func(*url.URL) {}),
		"an unknown setting": change(func(u *url.URL) { u.RawQuery = "sslmode=perhaps" }),
		"several hosts":      change(func(u *url.URL) { u.Host = "127.0.0.1:" + freePort(t) + "," + u.Host }),
	} {
		t.Run(name, func(t *testing.T) {
			for how, start := range map[string]func(h *home) *program{
				"variable": func(h *home) *program {
					h.env = append(h.env, "HUBHOOK_DATABASE="+address)
					return h.run(t, hubhook, "serve", "--no-tunnel", "--port", "0")
				},
				"flag": func(h *home) *program { return h.run(t, bot, "--no-tunnel", "--port", "0", "--database", address) },
			} {
				p := start(newHome(t))
				status, said := p.exit(), p.errs.String()
				if status == 0 || !strings.HasPrefix(said, "hubhook: ") || !strings.Contains(said, "\n  hint: ") {
					t.Errorf("by %s: status %d and\n%s\nwant what went wrong, and a hint", how, status, said)
				}
				if strings.Contains(said+p.out.String(), "p4ss") {
					t.Errorf("by %s: the password was printed:\n%s", how, said)
				}
			}
		})
	}
}
