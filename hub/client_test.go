package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
)

func TestFindToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	named := write("named", "hf_named")
	inHome := write("hfhome/token", " hf_in\r\nHome\n")
	inCache := write("cache/huggingface/token", "hf_inCache")
	inUserHome := write("home/.cache/huggingface/token", "hf_inUserHome")
	spaced := write("spaced", "hf_one hf_two")
	empty := write("empty", "\n")
	for _, test := range []struct {
		name string
		env  map[string]string
		want hub.Token
	}{
		{"nothing", nil, hub.Token{}},
		{"HF_TOKEN first", map[string]string{"HF_TOKEN": " hf_1\n", "HUGGING_FACE_HUB_TOKEN": "hf_2", "HF_TOKEN_PATH": named}, hub.Token{Value: "hf_1", Source: "HF_TOKEN"}},
		{"the old name", map[string]string{"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "hf_2", "HF_TOKEN_PATH": named}, hub.Token{Value: "hf_2", Source: "HUGGING_FACE_HUB_TOKEN"}},
		{"the file that is named", map[string]string{"HF_TOKEN_PATH": named, "HF_HOME": filepath.Dir(inHome)}, hub.Token{Value: "hf_named", Source: named}},
		{"a path with ~ and variables", map[string]string{"HF_TOKEN_PATH": "~/$NAME", "NAME": "named", "HOME": dir}, hub.Token{Value: "hf_named", Source: named}},
		{"HF_HOME", map[string]string{"HF_HOME": filepath.Dir(inHome), "HOME": filepath.Join(dir, "home")}, hub.Token{Value: "hf_inHome", Source: inHome}},
		{"XDG_CACHE_HOME", map[string]string{"XDG_CACHE_HOME": filepath.Join(dir, "cache"), "HOME": filepath.Join(dir, "home")}, hub.Token{Value: "hf_inCache", Source: inCache}},
		{"the user's cache", map[string]string{"HOME": filepath.Join(dir, "home")}, hub.Token{Value: "hf_inUserHome", Source: inUserHome}},
		{"an empty file", map[string]string{"HF_TOKEN_PATH": empty}, hub.Token{}},
		{"no such file", map[string]string{"HF_TOKEN_PATH": filepath.Join(dir, "gone"), "HOME": filepath.Join(dir, "home")}, hub.Token{}},
	} {
		got, err := hub.FindToken(lookup(test.env))
		if err != nil || got != test.want {
			t.Errorf("%s: got %q from %q, %v", test.name, string(got.Value), got.Source, err)
		}
	}
	for _, env := range []map[string]string{{"HF_TOKEN": "hf_one\thf_two"}, {"HF_TOKEN": "hf_é"}, {"HF_TOKEN_PATH": spaced}, {"HF_TOKEN_PATH": dir}} {
		if got, err := hub.FindToken(lookup(env)); err == nil || text.Hint(err) == "" || strings.Contains(err.Error(), "hf_") {
			t.Errorf("%v: got %q, %v", env, string(got.Value), err)
		}
	}
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := env[name]; return value, ok }
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ config, variable, want string }{
		{"", "", "https://huggingface.co"},
		{"", "https://hub.example/base/", "https://hub.example/base"},
		{"http://127.0.0.1:1", "https://hub.example", "http://127.0.0.1:1"},
	} {
		c, err := hub.New(hub.Config{Endpoint: test.config, LookupEnv: lookup(map[string]string{"HF_ENDPOINT": test.variable})})
		if err != nil || c.Endpoint() != test.want {
			t.Errorf("%+v: got %v, %v", test, c, err)
		}
	}
	for _, wrong := range []string{"hub.example", "ftp://hub.example", "https://me:passw0rd@hub.example", "https://hub.example?a=b", "http://%zz"} {
		_, err := hub.New(hub.Config{LookupEnv: lookup(map[string]string{"HF_ENDPOINT": wrong})})
		if err == nil || !strings.Contains(err.Error(), "HF_ENDPOINT") || strings.Contains(err.Error(), "passw0rd") || text.Hint(err) == "" {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// The endpoint may have a path, and names are escaped.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := newStub(t, send([]byte("[]")))
	c := s.client(t, func(config *hub.Config) { config.Endpoint += "/base/" })
	model := hub.RepoID{Type: payload.Model, Name: "me/m%2F.."}
	for range c.Commits(t.Context(), model, "refs/pr/3") {
	}
	for range c.Tree(t.Context(), model, "main", "a folder/?b", true) {
	}
	for range c.BucketFiles(t.Context(), "me/b", "p/") {
	}
	var got []string
	for _, r := range s.seen() {
		got = append(got, r.uri)
	}
	if want := []string{"/base/api/models/me/m%252F../commits/refs%2Fpr%2F3", "/base/api/models/me/m%252F../tree/main/a%20folder%2F%3Fb?recursive=true",
		"/base/api/buckets/me/b/tree/p%2F?recursive=true"}; !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	for _, wrong := range []hub.RepoID{{Type: payload.Model, Name: "../settings"}, {Type: payload.Model, Name: "a/b/c"}, {Type: payload.Model}, {Type: "papers", Name: "a/b"}, {Type: payload.Bucket, Name: "b"}} {
		if _, err := c.Repo(t.Context(), wrong); err == nil {
			t.Errorf("asked for %v", wrong)
		}
	}
}

func TestReadRepo(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, map[string]string{
			"/api/datasets/me/d?expand=author&expand=lastModified&expand=private&expand=sha": `{"_id": "621ffdc136468d709f17f7d6", "id": "me/d", "author": "me", "sha": "abc", "private": true, "lastModified": "2026-11-27T10:00:00.000Z", "gated": "auto"}`,
			"/api/datasets/me/d/refs?include_prs=1": `{"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": "1"}], "tags": [], "converts": null,
				"pullRequests": [{"name": "1", "ref": "refs/pr/1", "targetCommit": "2"}, {"name": "broken"}], "notes": [{"name": "n", "ref": "refs/notes/n", "targetCommit": "3"}], "count": 3}`,
			"/api/buckets/me/b":                     `{"id": "me/b", "private": false, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-11-27T10:00:00.123Z", "size": 7, "totalFiles": 2}`,
			"/api/buckets/me/b/tree?recursive=true": `[{"type": "directory", "path": "d"}, {"type": "file", "path": "d/f", "size": 7, "xetHash": "x", "uploadedAt": "2026-11-27T10:00:00Z"}]`,
		}[r.URL.RequestURI()])
	})
	c := s.client(t, nil)
	id := hub.RepoID{Type: payload.Dataset, Name: "me/d"}
	if r, err := c.Repo(t.Context(), id); err != nil || r.ID != "621ffdc136468d709f17f7d6" || r.Name != "me/d" || r.SHA != "abc" || !r.Private || r.LastModified.Year() != 2026 {
		t.Errorf("the repo is %+v, %v", r, err)
	}
	refs, err := c.Refs(t.Context(), id, true)
	if want := []hub.Ref{{"main", "refs/heads/main", "1"}, {"1", "refs/pr/1", "2"}, {"n", "refs/notes/n", "3"}}; err != nil || !reflect.DeepEqual(refs, want) {
		t.Errorf("the refs are %v, %v", refs, err)
	}
	if b, err := c.Bucket(t.Context(), "me/b"); err != nil || b.Name != "me/b" || b.UpdatedAt != "2026-11-27T10:00:00.123Z" || b.Files != 2 {
		t.Errorf("the bucket is %+v, %v", b, err)
	}
	var files []hub.BucketFile
	for f, err := range c.BucketFiles(t.Context(), "me/b", "") {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if len(files) != 1 || files[0].Path != "d/f" || files[0].Size != 7 || files[0].UploadedAt.IsZero() {
		t.Errorf("the files are %+v", files)
	}
}

func TestWhoAmI(t *testing.T) {
	t.Parallel()
	s := newStub(t, send([]byte(`{"type": "user", "id": "61d2c54d76c37de24cfed058", "name": "me", "isPro": false, "auth": {"type": "access_token", "accessToken": {"displayName": "laptop", "role": "fineGrained",
		"fineGrained": {"canReadGatedRepos": false, "global": ["discussion.write"], "scoped": [
			{"entity": {"type": "org", "name": "team"}, "permissions": ["repo.write"]},
			{"entity": {"type": "user", "name": "me"}, "permissions": ["user.webhooks.read", "discussion.write", "user.webhooks.write"]}]}}}}`)))
	u, err := s.client(t, nil).WhoAmI(t.Context())
	want := hub.User{ID: "61d2c54d76c37de24cfed058", Name: "me", TokenName: "laptop", Role: "fineGrained", Permissions: []string{"discussion.write", "user.webhooks.read", "user.webhooks.write"}}
	if err != nil || !reflect.DeepEqual(u, want) {
		t.Errorf("got %+v, %v", u, err)
	}
	if uri := s.seen()[0].uri; uri != "/api/whoami-v2" {
		t.Errorf("asked for %s", uri)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		status   int
		header   map[string]string
		body     string
		message  string
		is       error
		hintPart string
	}{
		{"one text", 400, nil, string(fixture(t, "error.400.single.json")), "my error", nil, ""},
		{"a list", 400, nil, string(fixture(t, "error.400.list.json")), "my error 1; my error 2", nil, ""},
		{"errors", 422, nil, string(fixture(t, "error.400.errors.json")), "my error 1; my error 2", nil, ""},
		{"a header too", 400, map[string]string{"X-Error-Message": "my error"}, `{"error": "my error", "errors": [{"message": "more"}]}`, "my error; more", nil, ""},
		{"a description", 400, nil, `{"error": "invalid_grant", "error_description": "expired"}`, "invalid_grant; expired", nil, ""},
		{"wrong types", 400, nil, `{"error": 7, "errors": "none", "message": "said here"}`, "said here", nil, ""},
		{"plain text", 400, map[string]string{"Content-Type": "text/plain"}, "first\n\x1b[31msecond", `first \x1b[31msecond`, nil, ""},
		{"a page", 404, map[string]string{"Content-Type": "text/html"}, "<html>lost</html>", "", hub.ErrNotFound, "hub list"},
		{"a wrong token", 401, nil, string(fixture(t, "error.401.json")), "Invalid credentials in Authorization header", hub.ErrUnauthorized, "--token is wrong"},
		{"a missing right", 403, map[string]string{"X-Error-Code": "Forbidden"}, `{"error": "no webhooks for you"}`, "no webhooks for you", hub.ErrForbidden, "user.webhooks.write"},
		{"no such call", 501, nil, "", "", nil, "HF_ENDPOINT"},
		{"an echo", 400, nil, `{"error": "bad header Bearer ` + token + `"}`, "bad header Bearer (hidden)", nil, ""},
		{"an echo in the header", 400, map[string]string{"X-Error-Message": token, "X-Error-Code": token}, "", "(hidden)", nil, ""},
	} {
		s := newStub(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", "Root=1-abc")
			for name, value := range test.header {
				w.Header().Set(name, value)
			}
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
		})
		c := s.client(t, func(config *hub.Config) { config.TokenSource = "--token" })
		_, err := c.Webhooks.Get(t.Context(), "1")
		var e *hub.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if e.Status != test.status || e.Message != test.message || e.RequestID != "Root=1-abc" || e.Method != "GET" || e.Path != "/api/settings/webhooks/1" {
			t.Errorf("%s: got %+v", test.name, e)
		}
		if test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: %v is not %v", test.name, err, test.is)
		}
		if !strings.Contains(e.Hint(), test.hintPart) {
			t.Errorf("%s: the hint is %q", test.name, e.Hint())
		}
		if all := fmt.Sprintf("%v %+v %#v %s", err, err, *e, e.Hint()); strings.Contains(all, token) {
			t.Errorf("%s: the token is in %s", test.name, all)
		}
		if n := len(s.seen()); n != 1 {
			t.Errorf("%s: it was sent %d times", test.name, n)
		}
	}
}

// A repo that does not exist is answered 401 where nobody is logged in.
func TestNotFoundWithoutToken(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error": "Invalid username or password."}`)
	})
	c := s.client(t, func(config *hub.Config) { config.Token = "" })
	_, err := c.Repo(t.Context(), hub.RepoID{Type: payload.Model, Name: "me/m"})
	if !errors.Is(err, hub.ErrNotFound) || errors.Is(err, hub.ErrUnauthorized) || !strings.Contains(text.Hint(err), "HF_TOKEN") {
		t.Errorf("%v, hint %q", err, text.Hint(err))
	}
	if r := s.seen()[0]; r.auth != "" {
		t.Errorf("sent %q", r.auth)
	}
	_, err = c.Webhooks.List(t.Context())
	if !errors.Is(err, hub.ErrNoToken) || !strings.Contains(text.Hint(err), "HF_TOKEN") || len(s.seen()) != 1 {
		t.Errorf("webhooks without a token: %v", err)
	}
}

func TestNotJSON(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"<!doctype html><title>Sign in</title>": "HTML",
		"":                                      "not JSON",
		`{"webhooks": 7}`:                       "another shape",
		`[{"id": 7}]`:                           "no id",
	} {
		s := newStub(t, send([]byte(body)))
		_, err := s.client(t, nil).Webhooks.List(t.Context())
		var e *hub.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	list := fixture(t, "list.response.json")
	create := func(c *hub.Client, ctx context.Context) error {
		_, err := c.Webhooks.Create(ctx, hub.NewWebhook{URL: "https://example.com", Watched: []hub.Watched{{Type: "user", Name: "me"}}})
		return err
	}
	read := func(c *hub.Client, ctx context.Context) error { _, err := c.Webhooks.List(ctx); return err }
	fail := func(status int, name, value string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if name != "" {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
		}
	}
	cut := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		panic(http.ErrAbortHandler)
	}
	for _, test := range []struct {
		name   string
		do     func(*hub.Client, context.Context) error
		fails  []func(http.ResponseWriter) // then it succeeds
		waits  []time.Duration             // exact ones; 0 stands for a wait at random
		failed bool
	}{
		{"500 three times", read, []func(http.ResponseWriter){fail(500, "", ""), fail(502, "", ""), fail(504, "", "")}, []time.Duration{0, 0, 0}, false},
		{"500 for ever", read, []func(http.ResponseWriter){fail(500, "", ""), fail(500, "", ""), fail(500, "", ""), fail(500, "", ""), fail(500, "", "")}, []time.Duration{0, 0, 0, 0}, true},
		{"a cut connection", read, []func(http.ResponseWriter){cut}, []time.Duration{0}, false},
		{"429 with a window", read, []func(http.ResponseWriter){fail(429, "RateLimit", `"api";r=0;t=55`)}, []time.Duration{56 * time.Second, 56 * time.Second}, false},
		{"429 for another reason", read, []func(http.ResponseWriter){func(w http.ResponseWriter) {
			w.Header().Set("RateLimit", `"api";r=400;t=55`)
			fail(429, "Retry-After", "7")(w)
		}}, []time.Duration{8 * time.Second}, false},
		{"503 with a time", read, []func(http.ResponseWriter){fail(503, "Retry-After", "3")}, []time.Duration{4 * time.Second}, false},
		{"503 for an hour", read, []func(http.ResponseWriter){fail(503, "Retry-After", "3600")}, nil, true},
		{"a webhook is not made twice after 500", create, []func(http.ResponseWriter){fail(500, "", "")}, nil, true},
		{"a webhook is not made twice after a cut connection", create, []func(http.ResponseWriter){cut}, nil, true},
		{"a webhook is made after 429", create, []func(http.ResponseWriter){fail(429, "Retry-After", "1")}, []time.Duration{2 * time.Second}, false},
		{"404 is final", read, []func(http.ResponseWriter){fail(404, "", "")}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, func(n int, w http.ResponseWriter, r *http.Request) {
				switch {
				case n <= len(test.fails):
					test.fails[n-1](w)
				case r.Method == "POST":
					w.Write(fixture(t, "create.response.url.hasSecret.json"))
				default:
					w.Write(list)
				}
			})
			told := 0
			err := test.do(s.client(t, func(config *hub.Config) {
				config.OnWait = func(time.Duration, error) { told++ }
			}), t.Context())
			if (err != nil) != test.failed {
				t.Errorf("got %v", err)
			}
			waits := s.waited()
			if len(waits) != len(test.waits) || told != len(waits) {
				t.Fatalf("it waited %v, want %v; told of %d", waits, test.waits, told)
			}
			for i, want := range test.waits {
				// The window of a rate limit is awaited until its end, some of which may have passed.
				if got := waits[i]; want > 0 && (got > want || got < want-time.Second) {
					t.Errorf("wait %d was %v, want %v", i, got, want)
				} else if longest := time.Second << i; want == 0 && (got > longest || got < longest/2) {
					t.Errorf("wait %d was %v, want %v at most and half of it at least", i, got, longest)
				}
			}
		})
	}
}

func TestDeletedByAnAttemptWithoutAnswer(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNotFound)
	})
	c := s.client(t, nil)
	if err := c.Webhooks.Delete(t.Context(), "1"); err != nil {
		t.Errorf("got %v", err)
	}
	if err := c.Webhooks.Delete(t.Context(), "1"); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("a webhook that is not there: %v", err)
	}
}

func TestHangingHub(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := s.client(t, func(config *hub.Config) { config.Timeout, config.Attempts = 50*time.Millisecond, 2 })
	_, err := c.Webhooks.List(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) && (err == nil || !strings.Contains(err.Error(), "no answer within 50ms")) {
		t.Errorf("got %v", err)
	}
	if n := len(s.seen()); n != 2 {
		t.Errorf("asked %d times", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Webhooks.List(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") || text.Hint(err) != "" {
		t.Errorf("a call that was cancelled: %v, hint %q", err, text.Hint(err))
	}
	// Nobody listens any more.
	s.Close()
	_, err = c.Webhooks.List(t.Context())
	if err == nil || !strings.Contains(text.Hint(err), s.URL) {
		t.Errorf("%v, hint %q", err, text.Hint(err))
	}
}

// A certificate that nobody vouches for is not asked again, and gets no token.
func TestDistrustedHub(t *testing.T) {
	t.Parallel()
	requests := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	waits := 0
	c, err := hub.New(hub.Config{Endpoint: s.URL, Token: token, Wait: func(context.Context, time.Duration) error { waits++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Webhooks.List(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") || waits > 0 || requests > 0 {
		t.Errorf("got %v after %d waits and %d requests", err, waits, requests)
	}
}

func TestTokenStaysWithTheHub(t *testing.T) {
	t.Parallel()
	var elsewhere []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Method+" "+r.Header.Get("Authorization"))
		io.WriteString(w, "[]")
	}))
	t.Cleanup(other.Close)
	s := newStub(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/models/me/moved":
			http.Redirect(w, r, "/api/models/me/new", http.StatusTemporaryRedirect)
		case r.URL.Path == "/api/models/me/new":
			io.WriteString(w, `{"id": "me/new"}`)
		case strings.HasSuffix(r.URL.Path, "/refs"), r.Method == "POST":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		default:
			w.Header().Set("Link", `<`+other.URL+`/page>; rel="next"`)
			io.WriteString(w, "[]")
		}
	})
	c := s.client(t, func(config *hub.Config) {
		config.HTTP = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	})
	repo, err := c.Repo(t.Context(), hub.RepoID{Type: payload.Model, Name: "me/moved"})
	if err != nil || repo.Name != "me/new" || s.seen()[1].auth != "Bearer "+token {
		t.Errorf("a repo that moved is %v, %v", repo, err)
	}
	for _, err := range c.Tree(t.Context(), hub.RepoID{Type: payload.Model, Name: "me/m"}, "main", "", false) {
		if err == nil || !strings.Contains(err.Error(), "another host") {
			t.Errorf("a page elsewhere: %v", err)
		}
	}
	if len(elsewhere) != 0 {
		t.Errorf("a page elsewhere was read: %q", elsewhere)
	}
	c.Refs(t.Context(), hub.RepoID{Type: payload.Model, Name: "me/m"}, false)
	if want := []string{"GET "}; !reflect.DeepEqual(elsewhere, want) {
		t.Errorf("elsewhere got %q, want %q", elsewhere, want)
	}
	_, err = c.Webhooks.Enable(t.Context(), "1")
	if err == nil || len(elsewhere) != 1 || !strings.Contains(text.Hint(err), "redirects to "+other.URL) {
		t.Errorf("a write was redirected: %v, hint %q", err, text.Hint(err))
	}
}

// Where the endpoint redirects to another host, the token is not blamed for the refusal there.
func TestRedirectedHub(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(other.Close)
	s := newStub(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
	})
	_, err := s.client(t, nil).Webhooks.List(t.Context())
	if err == nil || !strings.Contains(text.Hint(err), "redirects to "+other.URL) {
		t.Errorf("%v, hint %q", err, text.Hint(err))
	}
	s = newStub(t, func(_ int, w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if _, err := s.client(t, nil).Webhooks.List(t.Context()); err == nil || !strings.Contains(text.Hint(err), "HF_ENDPOINT") {
		t.Errorf("%v, hint %q", err, text.Hint(err))
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(n int, w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("cursor") {
		case "":
			w.Header().Add("Link", `</first>; rel="prev", <?cursor=a,b>; title="x, y"; rel=next`)
		case "a,b":
			w.Header().Add("Link", `<?cursor=a,b>; rel="next"`)
		}
		fmt.Fprintf(w, `[{"id": "%d"}]`, n)
	})
	var got []string
	for commit, err := range s.client(t, nil).Commits(t.Context(), hub.RepoID{Type: payload.Model, Name: "me/m"}, "main") {
		if err != nil {
			got = append(got, "error")
			if !strings.Contains(err.Error(), "the same page") {
				t.Error(err)
			}
			continue
		}
		got = append(got, commit.ID)
	}
	if want := []string{"1", "2", "error"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("X-HF-Warning", "quota; nearly used up")
		w.Header().Add("X-HF-Warning", "only a message")
		io.WriteString(w, "[]")
	})
	var got []string
	c := s.client(t, func(config *hub.Config) {
		config.OnWarning = func(topic, message string) { got = append(got, topic+": "+message) }
	})
	for range 2 {
		if _, err := c.Webhooks.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"quota: nearly used up", ": only a message"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A secret that is sent must not come back in an error.
func TestErrorHidesSecrets(t *testing.T) {
	t.Parallel()
	s := newStub(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error": "bad secret s3cret-value, bad url https://example.com/?secret=qu3ry"}`)
	})
	_, err := s.client(t, nil).Webhooks.Create(t.Context(), hub.NewWebhook{
		URL: "https://example.com/?secret=qu3ry", Secret: "s3cret-value", Watched: []hub.Watched{{Type: "user", Name: "me"}},
	})
	if all := fmt.Sprintf("%v %+v", err, err); err == nil || strings.Contains(all, "s3cret-value") || strings.Contains(all, "qu3ry") {
		t.Errorf("got %s", all)
	}
}

func TestRateLimitIsTold(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		fmt.Fprint(w, `{}`)
	}))
	t.Cleanup(server.Close)
	client, err := hub.New(hub.Config{Endpoint: server.URL, LookupEnv: lookup(nil)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(limit, policy string) (hub.RateLimit, bool) {
		header["Ratelimit"], header["Ratelimit-Policy"] = []string{limit}, []string{policy}
		if _, err := client.Repo(t.Context(), hub.RepoID{Type: payload.Dataset, Name: "me/data"}); err != nil {
			t.Fatal(err)
		}
		return client.RateLimit()
	}
	if l, ok := client.RateLimit(); ok {
		t.Errorf("before a call: %+v", l)
	}
	if l, ok := ask(`"api";r=489;t=55`, `"fixed window";"api";q=500;w=300`); !ok || l != (hub.RateLimit{Left: 489, Quota: 500, Reset: 55 * time.Second, Window: 5 * time.Minute}) {
		t.Errorf("%+v, %v", l, ok)
	}
	if l, ok := ask(`"api";r=3;t=9`, "nonsense"); !ok || l != (hub.RateLimit{Left: 3, Reset: 9 * time.Second}) {
		t.Errorf("without a quota: %+v, %v", l, ok)
	}
	if l, ok := ask("nonsense", ""); !ok || l.Left != 3 {
		t.Errorf("an answer that says nothing: %+v, %v", l, ok)
	}
}

// A call that would be refused is not sent where there is no time to wait. That is no trouble with the connection.
func TestLimitUsedUp(t *testing.T) {
	t.Parallel()
	for _, with := range []hub.Secret{"", token} {
		s := newStub(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("RateLimit", `"api";r=0;t=280`)
			io.WriteString(w, `{"_id": "1", "id": "me/m"}`)
		})
		c := s.client(t, func(config *hub.Config) { config.Token, config.LongestWait = with, time.Minute })
		id := hub.RepoID{Type: payload.Model, Name: "me/m"}
		if _, err := c.Repo(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		_, err := c.Repo(t.Context(), id)
		hint := text.Hint(err)
		if err == nil || !strings.Contains(err.Error(), "rate limit is used up") || !strings.Contains(hint, "try again in 4m") || strings.Contains(hint, "HF_TOKEN") != (with == "") {
			t.Errorf("%v, hint %q", err, hint)
		}
		if n := len(s.seen()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}
}
