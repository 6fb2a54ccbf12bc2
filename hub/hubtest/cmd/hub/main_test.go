package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/browser"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if err := browser.CloseShared(); err != nil {
		log.Print(err)
		status = 1
	}
	os.Exit(status)
}

var address = regexp.MustCompile(`page:  (http://127\.0\.0\.1:\d+)\n`)

// start runs the program on a free port until the test ends, and returns its address.
func start(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), in, in)
		in.CloseWithError(fmt.Errorf("it ended: %w", errors.Join(err, io.EOF)))
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	var printed []byte
	for {
		b := make([]byte, 1024)
		n, err := out.Read(b)
		printed = append(printed, b[:n]...)
		if found := address.FindSubmatch(printed); found != nil {
			go io.Copy(io.Discard, out) // ends when run does
			return string(found[1])
		}
		if err != nil {
			t.Fatalf("%v: %s", err, printed)
		}
	}
}

// receiver receives deliveries and keeps what they are about.
func receiver(t *testing.T) (address string, got func() []string) {
	t.Helper()
	var mu sync.Mutex
	var events []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p, err := payload.Parse(body)
		if err != nil {
			t.Errorf("a delivery: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprintf("%s %s %s", p.Event.Scope, p.Event.Action, p.Repo.Name))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), events...)
	}
}

// post sends a form without a browser. It returns the status and the page.
func post(t *testing.T, at string, fields url.Values, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", at+"/do", strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestPageInABrowser(t *testing.T) {
	t.Parallel()
	b, err := browser.Shared(needs.Program(t, browser.Program))
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.NewPage(browser.PageConfig{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	at := start(t)
	to, got := receiver(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// submit fills the form that has a button, and presses the button.
	submit := func(do string, fields map[string]string) {
		t.Helper()
		var missing string
		check(p.Evaluate(fmt.Sprintf(`(() => {
			const button = document.querySelector("button[value=" + %s + "]");
			if (!button) return "the button";
			for (const [name, value] of Object.entries(%s ?? {})) {
				const field = button.form.elements[name];
				if (!field) return name;
				if (field.type === "checkbox") field.checked = true; else field.value = value;
			}
			button.click();
			return "";
		})()`, browser.Literal(do), browser.Literal(fields)), &missing))
		if missing != "" {
			t.Fatalf("the form to %s lacks %s", do, missing)
		}
	}
	shows := func(text string) {
		t.Helper()
		check(p.Wait(text, fmt.Sprintf("document.body.innerText.replace(/\\s+/g, ' ').includes(%s)", browser.Literal(text))))
	}

	check(p.Open(at))
	submit("webhook", map[string]string{"url": to + "/?secret=hidden", "watched": "dataset:me/data bucket:me/files"})
	shows("enabled " + to + "/?… dataset:me/data bucket:me/files")
	check(p.Open(at + "/datasets/me/data"))
	submit("push", map[string]string{"path": "a/new.csv", "title": "Add it"})
	shows("a/new.csv 3")
	submit("discuss", map[string]string{"title": "Why so?", "pull": "on"})
	shows("#1 Why so? open pull request")
	submit("comment", map[string]string{"text": "Because."})
	shows("discussion.comment create me/data")
	submit("merge", nil)
	shows("#1 Why so? merged")
	check(p.Open(at + "/buckets/me/files"))
	submit("upload", map[string]string{"path": "/wrong"})
	shows(`change the bucket me/files: "/wrong" is not a path of a file`)
	submit("upload", map[string]string{"path": "b.txt"})
	shows("b.txt 3 Remove")
	// What happens elsewhere appears by itself.
	documents := p.Documents()
	if status, page := post(t, at, url.Values{"do": {"upload"}, "item": {"bucket:me/files"}, "path": {"c.txt"}, "content": {"12345"}}); status != 303 {
		t.Errorf("upload: %d: %s", status, page)
	}
	shows("c.txt 5 Remove")
	if p.Documents() != documents {
		t.Error("the page was loaded anew")
	}
	p.Forgive("400 (Bad Request)") // the upload to /wrong
	if complaints := p.Complaints(at); len(complaints) > 0 {
		t.Errorf("the browser says %q", complaints)
	}
	want := map[string]int{"repo.content update me/data": 3, "discussion create me/data": 1, "discussion.comment create me/data": 1,
		"discussion update me/data": 1, "repo.content update me/files": 2}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		all := map[string]int{}
		for _, e := range got() {
			all[e]++
		}
		if fmt.Sprint(all) == fmt.Sprint(want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("received %v; want %v", all, want)
		}
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	at := start(t, "-repo", "model:jo/m", "-user", "jo")
	for _, test := range []struct {
		status int
		says   string
		fields url.Values
	}{
		{303, "", url.Values{"do": {"ref"}, "item": {"model:jo/m"}, "ref": {"refs/tags/v1"}, "commit": {"main"}}},
		{303, "", url.Values{"do": {"delete-ref"}, "item": {"model:jo/m"}, "ref": {"refs/tags/v1"}}},
		{303, "", url.Values{"do": {"private"}, "item": {"model:jo/m"}}},
		{400, "there is no discussion", url.Values{"do": {"comment"}, "item": {"model:jo/m"}, "num": {"1"}}},
		{400, "there is no model called", url.Values{"do": {"push"}, "item": {"model:jo/none"}}},
		{400, "there is no delivery", url.Values{"do": {"replay"}, "id": {"x"}}},
		{400, "is none of bucket, dataset", url.Values{"do": {"webhook"}, "url": {"http://127.0.0.1:1"}, "watched": {"paper:x"}}},
		{303, "", url.Values{"do": {"create"}, "type": {"bucket"}, "name": {"jo/b"}}},
		{303, "", url.Values{"do": {"reset"}, "item": {"bucket:jo/b"}}},
		{303, "", url.Values{"do": {"delete"}, "item": {"bucket:jo/b"}}},
		{303, "", url.Values{"do": {"move"}, "item": {"model:jo/m"}, "name": {"jo/n"}}},
	} {
		if status, page := post(t, at, test.fields); status != test.status || !strings.Contains(page, test.says) {
			t.Errorf("%v: %d, want %d with %q: %s", test.fields, status, test.status, test.says, page)
		}
	}
	if status, _ := post(t, at, url.Values{"do": {"delete"}, "item": {"model:jo/n"}}, "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("another site's form: %d; want 403", status)
	}
	for path, want := range map[string]int{"/jo/n": 200, "/jo/n/commit/abc": 200, "/jo/m": 404, "/datasets/jo/n": 404, "/static/style.css": 200, "/api/none": 404} {
		resp, err := http.Get(at + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s; want %d", path, resp.Status, want)
		}
	}
	if resp, err := http.Post(at+"/jo/n", "application/json", strings.NewReader("{}")); err != nil || resp.StatusCode != 405 {
		t.Errorf("a delivery to the page itself: %v, %v; want 405", resp, err)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		says string // in the error or what is printed
	}{
		{[]string{"-none"}, "flag provided but not defined"},
		{[]string{"more"}, `unexpected argument "more"`},
		{[]string{"-h"}, "to try webhooks by hand"},
		{[]string{"-addr", "127.0.0.1:0", "-repo", "paper:me/x"}, "such as dataset:me/data"},
		{[]string{"-addr", "127.0.0.1"}, "choose another address"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), test.args, &out, &out)
		if text := fmt.Sprint(err, " ", out.String()); err == nil || !strings.Contains(text, test.says) {
			t.Errorf("%q: %s; want %q", test.args, text, test.says)
		}
	}
}
