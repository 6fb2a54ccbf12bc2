package inspector

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// browserAccept is what Chromium sends when it is to show a page.
const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"

func TestSignIn(t *testing.T) {
	f := newFixture(t)
	f.accept(arrival(t, "inbox", "real_repo_content_update_bucket.json"))
	anonymous := func(r *http.Request) { r.Header.Del("Authorization") }

	response, _ := f.request("GET", "/?state=dead&token="+testToken, "", anonymous)
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/?state=dead" {
		t.Fatalf("status %d to %q, want 303 to the same URL without the token", response.StatusCode, response.Header.Get("Location"))
	}
	cookies := response.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies, want 1", len(cookies))
	}
	c := cookies[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || !strings.HasSuffix(c.Name, portOf(response.Request.URL.Host)) {
		t.Errorf("cookie %v, want HttpOnly, SameSite=Strict, Path=/, no domain and the port in its name", c)
	}
	if strings.Contains(c.Value, testToken) {
		t.Errorf("cookie %v tells the token to all ports of this host", c)
	}
	response, body := f.request("GET", "/", "", anonymous, func(r *http.Request) { r.AddCookie(c) })
	if response.StatusCode != 200 || !strings.Contains(body, "/assets/app.js") {
		t.Errorf("the page with the cookie: status %d: %s", response.StatusCode, body)
	}
	if response, _ = f.request("GET", "/?token=wrong", "", anonymous); response.StatusCode != 401 || len(response.Cookies()) != 0 {
		t.Errorf("a wrong token in the URL: status %d, cookies %v", response.StatusCode, response.Cookies())
	}
}

// signInPage holds what a person sees on the sign-in page.
type signInPage struct {
	action   string
	fields   url.Values // of the form
	says     string     // the first paragraph
	alarming bool
	elements int
}

// parsePage reads the sign-in page, and fails the test if the page has anything else on it.
func parsePage(t testing.TB, response *http.Response, body string) signInPage {
	t.Helper()
	if response.StatusCode != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("status %d, WWW-Authenticate %q, want 401 and Bearer", response.StatusCode, response.Header.Get("WWW-Authenticate"))
	}
	if kind := response.Header.Get("Content-Type"); kind != "text/html; charset=utf-8" {
		t.Fatalf("Content-Type %q: %s", kind, body)
	}
	policy := response.Header.Values("Content-Security-Policy")
	want := "default-src 'none'; style-src " + sourceHash(signInCSS) + "; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	if len(policy) != 1 || policy[0] != want {
		t.Errorf("Content-Security-Policy %q, want %q", policy, want)
	}
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	page := signInPage{fields: url.Values{}}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		page.elements++
		attrs := map[string]string{}
		for _, a := range n.Attr {
			attrs[a.Key] = a.Val
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || a.Key == "formaction" || a.Key == "href" && a.Val != "data:," {
				t.Errorf("<%s> has %s=%q", n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "html", "head", "meta", "title", "link", "body", "main", "h1", "ul", "li", "code", "kbd", "label", "div", "button":
		case "style":
			if n.FirstChild.Data != signInCSS {
				t.Errorf("the style is %q, which its policy does not allow", n.FirstChild.Data)
			}
		case "p":
			if page.says == "" {
				page.says, page.alarming = n.FirstChild.Data, attrs["role"] == "alert"
			}
		case "form":
			page.action = attrs["action"]
			if attrs["method"] != "get" {
				t.Errorf("the form's method is %q", attrs["method"])
			}
		case "input":
			page.fields.Add(attrs["name"], attrs["value"])
		default:
			t.Errorf("the page has a <%s>", n.Data)
		}
	}
	if token, ok := page.fields["token"]; page.action != "/" || !ok || len(token) != 1 || token[0] != "" {
		t.Errorf("a form that leads to %q with the fields %v, want / and one empty field for the token", page.action, page.fields)
	}
	return page
}

func TestBrowserIsAskedForTheToken(t *testing.T) {
	f := newFixture(t)
	browse := func(path string, change ...func(*http.Request)) (*http.Response, string) {
		return f.request("GET", path, "", append([]func(*http.Request){func(r *http.Request) {
			r.Header.Del("Authorization")
			r.Header.Set("Accept", browserAccept)
			r.Header.Set("Sec-Fetch-Site", "none")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}}, change...)...)
	}
	response, body := browse("/?delivery=01M849CJVX00001QXHJ4FF67Y6&state=dead&state=done")
	page := parsePage(t, response, body)
	if page.alarming || !strings.Contains(page.says, "wants its token") {
		t.Errorf("it says %q", page.says)
	}
	if len(response.Cookies()) > 0 {
		t.Errorf("it sets a cookie: %v", response.Cookies())
	}

	// The form, with a wrong token.
	page.fields.Set("token", "guessed-by-somebody")
	response, body = browse(page.action + "?" + page.fields.Encode())
	page = parsePage(t, response, body)
	if !page.alarming || !strings.Contains(page.says, "not the token") {
		t.Errorf("with a wrong token it says %q", page.says)
	}
	if strings.Contains(body, "guessed") {
		t.Errorf("it repeats the token: %s", body)
	}
	if len(response.Cookies()) > 0 {
		t.Errorf("a wrong token gets the cookie %v", response.Cookies())
	}

	// With the right token, and with other texts that a person may have on the clipboard.
	for _, pasted := range []string{
		testToken,
		"  " + testToken + "\n",
		Address{URL: f.server.URL, Token: testToken}.Page(),
		"http://127.0.0.1:7861/?delivery=01M849CJVX00001QXHJ4FF67Y6&token=" + testToken + " ",
	} {
		page.fields.Set("token", pasted)
		response, _ = browse(page.action + "?" + page.fields.Encode())
		const want = "/?delivery=01M849CJVX00001QXHJ4FF67Y6&state=dead&state=done"
		if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != want || len(response.Cookies()) != 1 {
			t.Errorf("%q: status %d to %q with %d cookies, want 303 to %q with one", pasted, response.StatusCode, response.Header.Get("Location"), len(response.Cookies()), want)
		}
	}

	// A browser with the cookie of another hubhook that answered here before.
	name := cookieName(strings.TrimPrefix(f.server.URL, "http://"))
	response, body = browse("/", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: cookieValue("another", name)}) })
	if page = parsePage(t, response, body); !strings.Contains(page.says, "another token") {
		t.Errorf("with another token's cookie it says %q", page.says)
	}
	// A browser with the cookie needs no right token in the URL: the URL may be of an earlier run.
	response, _ = browse("/?token=old&q=x", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: cookieValue(testToken, name)}) })
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/?q=x" {
		t.Errorf("with the cookie and another token: status %d to %q, want 303 to /?q=x", response.StatusCode, response.Header.Get("Location"))
	}
	// The query of another path is not the page's.
	response, body = browse("/api/deliveries?state=dead")
	if page = parsePage(t, response, body); len(page.fields) != 1 {
		t.Errorf("the form of another path has the fields %v", page.fields)
	}
}

// TestProgramsGetJSON: requests that don't ask for a page to show are refused in JSON, also those of the inspector's own page.
func TestProgramsGetJSON(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ method, path, accept string }{
		{"GET", "/", ""},
		{"GET", "/", "*/*"},
		{"GET", "/", "application/json"},
		{"GET", "/", "text/html;q=0"},
		{"GET", "/", "text/html;q=0.0, */*"},
		{"GET", "/", "text/htmlx, text/*"},
		{"GET", "/?token=wrong", "application/json"},
		{"GET", "/assets/page.js", "*/*"},
		{"GET", "/assets/page.css", "text/css,*/*;q=0.1"},
		{"GET", "/api/stream", "text/event-stream"},
		{"POST", "/api/trigger", browserAccept},
	} {
		response, body := f.request(c.method, c.path, "", func(r *http.Request) {
			r.Header.Del("Authorization")
			r.Header.Set("Accept", c.accept)
		})
		if response.StatusCode != 401 || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s %s, Accept %q: status %d, %s", c.method, c.path, c.accept, response.StatusCode, response.Header.Get("Content-Type"))
		}
		wantError(t, body)
	}
}

// FuzzSignInPage puts anything into the query: it stays text in the form's fields.
func FuzzSignInPage(f *testing.F) {
	for _, seed := range []string{
		"", "delivery=01M849CJVX00001QXHJ4FF67Y6", "q=%3Cscript%3Ealert(1)%3C/script%3E", "q=%22%3E%3Cscript%20src=//evil.example/x.js%3E",
		"%22%20autofocus%20onfocus%3Dalert(1)%20x%3D%22=1", "q=%00%FF%ED%A0%80", "q=</style></form>&q='`=", "token=%3Cb%3E&token=2",
		"q={{.Style}}", "%zz=1&;&=&a", "q=%0D%0ASet-Cookie:%20a=b", "name=method&action=//evil.example", "q=javascript:alert(1)",
	} {
		f.Add(seed)
	}
	in := &Inspector{config: Config{Token: testToken}}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		r.Header.Set("Accept", browserAccept)
		w := httptest.NewRecorder()
		in.askForToken(w, r, wrongToken)
		page := parsePage(t, w.Result(), w.Body.String())
		values := 0
		for name, list := range r.URL.Query() {
			if name != "token" {
				values += len(list)
			}
		}
		const ours = 26 // elements of the page without a query
		if page.elements != ours+values {
			t.Errorf("%d elements, want %d and one for each of %d values:\n%s", page.elements, ours, values, w.Body)
		}
	})
}
