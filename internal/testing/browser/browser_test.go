package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/testing/needs"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if err := CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// newPage opens a document with that body and policy. It also returns the document's origin.
func newPage(t *testing.T, policy, body string) (*Page, string) {
	t.Helper()
	b, err := Shared(needs.Program(t, Program))
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		if policy != "" {
			w.Header().Set("Content-Security-Policy", policy)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>test</title><link rel="icon" href="data:,"><body>%s</html>`, body)
	}))
	t.Cleanup(web.Close)
	p, err := b.NewPage(PageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Open(web.URL + "/"); err != nil {
		t.Fatal(err)
	}
	return p, web.URL
}

// If Complaints missed errors, tests of the inspector's page would pass in spite of them.
func TestComplaints(t *testing.T) {
	for _, test := range []struct{ name, policy, body, want string }{
		{"an error on the console", "", `<script>console.error("it is", {broken: 1})</script>`, `console.error: "it is" Object`},
		{"a warning", "", `<script>console.warn("old")</script>`, `console.warning: "old"`},
		{"an exception", "", `<script>nothing.of.the.kind()</script>`, "ReferenceError: nothing is not defined"},
		{"a rejected promise", "", `<script>Promise.reject(new Error("left alone"))</script>`, "left alone"},
		{"an inline script that the policy forbids", "default-src 'none'; img-src data:", `<script>1</script>`, "Content Security Policy"},
		{"HTML from a string", "require-trusted-types-for 'script'", `<script>document.body.innerHTML = "<b>x</b>"</script>`, "TrustedHTML"},
		{"another origin", "", `<img src="http://127.0.0.1:9/x.png">`, "request to another origin: http://127.0.0.1:9/x.png"},
		{"a file that is missing", "", `<img src="/missing.png">`, "404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, origin := newPage(t, test.policy, test.body)
			err := p.Until("the complaint "+test.want, func() (bool, string, error) {
				all := strings.Join(p.Complaints(origin), "\n")
				return strings.Contains(all, test.want), all, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDialogs(t *testing.T) {
	p, origin := newPage(t, "", `<button onclick="this.textContent = confirm('Sure?') ? 'Yes' : 'No'">Ask</button>`)
	p.AnswerNext(true)
	if err := p.Click("button", "Ask"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Find("button", "Yes"); err != nil {
		t.Error(err)
	}
	if c := p.Complaints(origin); len(c) != 0 {
		t.Errorf("complaints about an expected dialog: %q", c)
	}
	if err := p.Click("button", "Yes"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Find("button", "No"); err != nil {
		t.Error(err)
	}
	if c := p.Complaints(origin); len(c) != 1 || c[0] != "confirm: Sure?" {
		t.Errorf("complaints about a dialog that nobody expected: %q", c)
	}
	if n := p.Forgive("Sure?"); n != 1 || len(p.Complaints(origin)) != 0 {
		t.Errorf("forgiven: %d, left: %q", n, p.Complaints(origin))
	}
}

func TestPageWithoutFault(t *testing.T) {
	p, origin := newPage(t, "", `<button onclick="this.textContent = 'Done'">Press <kbd>r</kbd></button><label>Name <input></label>`)
	for _, err := range []error{p.Click("button", "Press r"), p.Fill("textbox", "Name", `a "b" 漢`)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Find("button", "Done"); err != nil {
		t.Error(err)
	}
	var text string
	if err := p.Evaluate(`document.querySelector("input").value`, &text); err != nil || text != `a "b" 漢` {
		t.Errorf("the field has %q, %v", text, err)
	}
	if c := p.Complaints(origin); len(c) != 0 {
		t.Errorf("complaints: %q", c)
	}
}
