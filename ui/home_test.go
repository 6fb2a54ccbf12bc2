package ui

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/hubhook/hubhook/internal/api"
)

var homeView = HomeView{
	Endpoints: []api.Endpoint{
		{Name: "trigger_training", URL: "https://example.ngrok-free.app/webhooks/trigger_training"},
		{Name: "a/<b>", URL: "https://example.ngrok-free.app/webhooks/a/<b>'"},
	},
	PublicURL: "https://example.ngrok-free.app",
	SecretSet: true,
	Version:   "1.2.3",
}

func visit(t *testing.T, v HomeView, method string, accept ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "/", nil)
	r.Header["Accept"] = accept
	w := httptest.NewRecorder()
	Home(func(*http.Request) HomeView { return v }).ServeHTTP(w, r)
	return w.Result()
}

// page is the home page as a browser sees it.
func page(t *testing.T, v HomeView) (*http.Response, *html.Node) {
	t.Helper()
	res := visit(t, v, http.MethodGet, "text/html,application/xhtml+xml,*/*;q=0.8")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	doc, err := html.Parse(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, doc
}

func attr(n *html.Node, key string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

func elements(doc *html.Node, tag string) (found []*html.Node) {
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag {
			found = append(found, n)
		}
	}
	return found
}

func TestHomePage(t *testing.T) {
	res, doc := page(t, homeView)
	ids := map[string]*html.Node{}
	for n := range doc.Descendants() {
		if id, ok := attr(n, "id"); ok {
			if ids[id] != nil {
				t.Errorf("id %q is there twice", id)
			}
			ids[id] = n
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("<%s %s> is against the page's own policy", n.Data, a.Key)
			}
			if a.Key == "src" || a.Key == "href" && n.Data == "link" && !strings.HasPrefix(a.Val, "data:") {
				t.Errorf("<%s> loads %s", n.Data, a.Val)
			}
			if a.Key == "aria-labelledby" && !strings.Contains(idsOf(doc), " "+a.Val+" ") {
				t.Errorf("<%s> is labelled by %q, which isn't there", n.Data, a.Val)
			}
		}
	}
	if lang, _ := attr(elements(doc, "html")[0], "lang"); lang != "en" {
		t.Errorf("lang is %q", lang)
	}

	var copied []string
	for _, b := range elements(doc, "button") {
		from, _ := attr(b, "data-copy")
		source := ids[from]
		if source == nil {
			t.Fatalf("a button copies %q, which isn't there", from)
		}
		if label, _ := attr(b, "aria-label"); label == "" {
			t.Errorf("the button for %q has no label of its own", from)
		}
		if _, hidden := attr(b, "hidden"); !hidden {
			t.Errorf("the button for %q shows without the script that it needs", from)
		}
		copied = append(copied, words(source))
	}
	want := []string{homeView.Endpoints[0].URL, homeView.Endpoints[1].URL, curlExample(homeView)}
	if diff := cmp.Diff(want, copied); diff != "" {
		t.Errorf("what the buttons copy (-want +got):\n%s", diff)
	}

	text := words(elements(doc, "main")[0])
	for _, w := range []string{"huggingface.co/settings/webhooks", "Enter the secret", "a/<b>"} {
		if !strings.Contains(text, w) {
			t.Errorf("the page doesn't say %q", w)
		}
	}
	if got := len(elements(elements(doc, "ol")[0], "li")); got != 5 {
		t.Errorf("%d steps, want 5", got)
	}
	if got, want := res.Header.Get("X-Robots-Tag"), "noindex, nofollow"; got != want {
		t.Errorf("X-Robots-Tag is %q, want %q", got, want)
	}
	if got, want := res.Header.Get("Cache-Control"), "no-store"; got != want {
		t.Errorf("Cache-Control is %q, want %q", got, want)
	}
}

func idsOf(doc *html.Node) string {
	all := " "
	for n := range doc.Descendants() {
		if id, ok := attr(n, "id"); ok {
			all += id + " "
		}
	}
	return all
}

// TestHomePolicy holds the page against its Content-Security-Policy as a browser does: by the hash of what stands between the tags.
func TestHomePolicy(t *testing.T) {
	res, doc := page(t, homeView)
	policy := map[string]string{}
	for d := range strings.SplitSeq(res.Header.Get("Content-Security-Policy"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), " ")
		policy[name] = value
	}
	for name, want := range map[string]string{"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "img-src": "data:"} {
		if policy[name] != want {
			t.Errorf("%s is %q, want %q", name, policy[name], want)
		}
	}
	for _, tag := range []string{"style", "script"} {
		all := elements(doc, tag)
		if len(all) != 1 {
			t.Fatalf("%d <%s>, want one", len(all), tag)
		}
		sum := sha256.Sum256([]byte(words(all[0])))
		if got, want := policy[tag+"-src"], "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'"; got != want {
			t.Errorf("%s-src is %s, a browser would want %s", tag, got, want)
		}
	}
}

func TestHomePageSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name string
		view HomeView
		want []string
		not  []string
	}{
		{"local and open", HomeView{Endpoints: []api.Endpoint{{Name: "inbox", URL: "http://127.0.0.1:7860/webhooks/inbox"}}},
			[]string{"No public URL", "Leave the secret empty", "curl 'http://127.0.0.1:7860/webhooks/inbox'"}, []string{"X-Webhook-Secret"}},
		{"no endpoint", HomeView{PublicURL: "https://a.example"}, []string{"No endpoint is served yet"}, []string{"No public URL", "curl"}},
		{"public", homeView, []string{"X-Webhook-Secret: $WEBHOOK_SECRET"}, []string{"No public URL", "Leave the secret empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, doc := page(t, c.view)
			text := words(elements(doc, "main")[0])
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("the page doesn't say %q:\n%s", w, text)
				}
			}
			for _, w := range c.not {
				if strings.Contains(text, w) {
					t.Errorf("the page says %q:\n%s", w, text)
				}
			}
		})
	}
}

func TestHomeJSON(t *testing.T) {
	res := visit(t, homeView, http.MethodGet, "application/json")
	var got map[string]any
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"endpoints": []any{
			map[string]any{"name": "trigger_training", "url": homeView.Endpoints[0].URL},
			map[string]any{"name": "a/<b>", "url": homeView.Endpoints[1].URL},
		},
		"public_url": "https://example.ngrok-free.app",
		"secret":     true,
		"settings":   "https://huggingface.co/settings/webhooks",
		"docs":       "https://huggingface.co/docs/hub/webhooks",
		"version":    "1.2.3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := res.Header.Get("Vary"); got != "Accept" {
		t.Errorf("Vary is %q", got)
	}
}

func TestHomeMethods(t *testing.T) {
	server := httptest.NewServer(Home(func(*http.Request) HomeView { return homeView }))
	defer server.Close()
	head, err := http.Head(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	head.Body.Close()
	if head.StatusCode != http.StatusOK || head.ContentLength < 1000 {
		t.Errorf("HEAD: %s with Content-Length %d", head.Status, head.ContentLength)
	}
	post := visit(t, homeView, http.MethodPost)
	var answer struct{ Error string }
	if err := json.NewDecoder(post.Body).Decode(&answer); err != nil || answer.Error == "" {
		t.Errorf("POST: %v, %+v, want an error in JSON", err, answer)
	}
	if post.StatusCode != http.StatusMethodNotAllowed || post.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s, Allow %q", post.Status, post.Header.Get("Allow"))
	}
}

func TestPrefersJSON(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                  false,
		"*/*":                               false,
		"text/html":                         false,
		"text/html,application/json":        false,
		"text/html,application/json;q=0.9":  false,
		"text/html;q=0.8,application/json":  true,
		"application/json":                  true,
		"Application/JSON":                  true,
		"application/json, text/plain, */*": true,
		"application/*":                     true,
		"application/json;q=0":              false,
		"application/json;q=0, */*":         false,
		"application/json;q=0.1":            true,
		"application/json;q=nonsense":       false,
		"application/json; charset=utf-8":   true,
		"text/html;q=0, */*":                true,
		"*/*;q=0.5, application/json;q=0.4": false,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": false,
	} {
		if got := prefersJSON([]string{accept}); got != want {
			t.Errorf("%q: %t, want %t", accept, got, want)
		}
	}
	if !prefersJSON([]string{"text/html;q=0.5", "application/json"}) {
		t.Error("two header lines are one list")
	}
}
