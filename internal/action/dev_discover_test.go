package action

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fixture reads what a real program printed or answered; see testdata/dev/README.md.
func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "dev", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPrintedRoutes(t *testing.T) {
	for file, want := range map[string][]string{
		"webhooksserver.out": {"/webhooks/trigger_training", "/webhooks/webhooks/doubled"},
		"hubhook.out":        {"/webhooks/trigger_training", "/webhooks/trigger_evaluation", "/webhooks/say_hello", "/webhooks/goodbye"},
	} {
		var got []string
		for line := range strings.Lines(string(fixture(t, file))) {
			if route, ok := printedRoute(line); ok {
				got = append(got, route.Path)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s names %q", file, got)
		}
	}
	for line, want := range map[string]string{
		"\x1b[32m  - POST\x1b[0m \x1b[1mhttps://me.hf.space/webhooks/a/b-c.d\x1b[0m\r": "a/b-c.d",
		"* POST /webhooks/x/":                                  "x",
		"- POST http://127.0.0.1:7860/base/webhooks/x?y=1":     "x",
		"\x1b]8;;http://x\x1b\\- POST /webhooks/x\x1b]8;;\x07": "x",
		`INFO: 127.0.0.1:42536 - "POST /webhooks/x HTTP/1.1"`:  "",
		"- POST https://me.hf.space/other/x":                   "",
		"- POST https://me.hf.space/webhooks/":                 "",
		"- GET https://me.hf.space/webhooks/x":                 "",
		"- POST https://me.hf.space/webhooks/x is not there":   "",
		"- POST :": "",
		"":         "",
	} {
		if route, ok := printedRoute(line); route.Name != want || ok != (want != "") {
			t.Errorf("%q is the route %+v, %t", line, route, ok)
		}
	}
}

func TestRouteNames(t *testing.T) {
	for path, want := range map[string]string{
		"/": "inbox", "/hook": "hook", "/webhooks/x": "x", "/webhooks/webhooks/x": "webhooks/x", "/api/hooks/hf/": "api/hooks/hf", "/a b/ü/%20c": "a-b/20c", "/../x": "x",
	} {
		if got := routeName(path); got != want {
			t.Errorf("%s is named %s; want %s", path, got, want)
		}
	}
	for _, path := range []string{"", "hook", "http://x/hook", "/hook?a=1", "/a b"} {
		if _, err := PathRoute(path); err == nil || !strings.Contains(err.Error(), "--path "+path) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// answering is a program whose answers are known.
func answering(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			t.Errorf("it was sent a POST to %s", r.URL)
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestAsk(t *testing.T) {
	openAPI := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "uvicorn")
			if r.URL.Path != "/openapi.json" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Write([]byte(text))
		}
	}
	// A router says with 405 that it knows a path; Express says so to OPTIONS alone.
	router := func(header, value, method string, posts ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if header != "" {
				w.Header().Set(header, value)
			}
			switch {
			case r.URL.Path == "/":
				w.Write([]byte("<html>"))
			case r.Method == method && slices.Contains(posts, r.URL.Path):
				w.Header().Set("Allow", "OPTIONS, POST")
				if method == http.MethodGet {
					w.WriteHeader(http.StatusMethodNotAllowed)
				}
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}
	}
	for _, tc := range []struct {
		name    string
		program http.HandlerFunc
		known   []Route
		want    []string
		posts   int
	}{
		{
			name: "WebhooksServer", program: openAPI(string(fixture(t, "webhooksserver.openapi.json"))), posts: 2,
			want: []string{"trigger_training=/webhooks/trigger_training by its /openapi.json", "webhooks/doubled=/webhooks/webhooks/doubled by its /openapi.json"},
		},
		{name: "FastAPI with one route", program: openAPI(string(fixture(t, "fastapi.openapi.json"))), posts: 1, want: []string{"webhook=/webhook by its /openapi.json"}},
		{name: "FastAPI with two routes", program: openAPI(`{"openapi":"3.1.0","paths":{"/a":{"post":{}},"/b":{"post":{},"get":{}},"/c":{"get":{}}}}`), posts: 2},
		{name: "FastAPI with parameters", program: openAPI(`{"openapi":"3.1.0","paths":{"/a/{x}":{"post":{}},"/b":{"post":{}}}}`), posts: 1, want: []string{"b=/b by its /openapi.json"}},
		{name: "FastAPI before its routes", program: openAPI(`{"openapi":"3.1.0","paths":{"/gradio_api/queue/join":{"post":{}},"/login":{"post":{}}}}`)},
		{name: "no OpenAPI", program: openAPI(`{"paths":{"/webhooks/x":{"post":{}}}}`)},
		{
			name: "hubhook", posts: 4,
			program: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" || r.Header.Get("Accept") != "application/json" {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				w.Write(fixture(t, "hubhook.home.json"))
			},
			want: []string{
				"goodbye=/webhooks/goodbye by its home page", "say_hello=/webhooks/say_hello by its home page",
				"trigger_evaluation=/webhooks/trigger_evaluation by its home page", "trigger_training=/webhooks/trigger_training by its home page",
			},
		},
		{name: "Flask", program: router("Server", "Werkzeug/3.1.9 Python/3.11.7", http.MethodGet, "/hook"), posts: 1, want: []string{"hook=/hook by asking for the usual paths"}},
		{name: "Express", program: router("X-Powered-By", "Express", http.MethodOptions, "/webhook"), posts: 1, want: []string{"webhook=/webhook by asking for the usual paths"}},
		{name: "Flask with two routes", program: router("Server", "gunicorn", http.MethodGet, "/hook", "/webhook"), posts: 2},
		{
			name: "Flask with a path of its own", program: router("Server", "Werkzeug", http.MethodGet, "/mine"), posts: 1,
			known: []Route{{Name: "mine", Path: "/mine", By: ByFlag}}, want: []string{"mine=/mine by asking for the usual paths"},
		},
		{name: "a router that nobody knows", program: router("", "", http.MethodGet, "/hook")},
		{name: "a redirect", program: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := newAsker().ask(context.Background(), answering(t, tc.program), tc.known, true)
			if err != nil {
				t.Fatal(err)
			}
			if got := routeLines(found.Routes); !slices.Equal(got, tc.want) {
				t.Errorf("found %q", got)
			}
			if len(found.Posts) != tc.posts {
				t.Errorf("it takes POST at %q", found.Posts)
			}
		})
	}
}

func TestEnviron(t *testing.T) {
	base := []string{
		"PATH=/bin", "PORT=80", "HUBHOOK_DATA=/data", "HUBHOOK_DATABASE=postgres://x", "HUBHOOK_SECRET=old", "WEBHOOK_SECRET=old,new", "HUBHOOK_PROCESS=mark",
	}
	own := []string{
		"PORT=4321", "GRADIO_SERVER_PORT=4321", "UVICORN_PORT=4321", "GRADIO_NUM_PORTS=1", "PYTHONUNBUFFERED=1", "HUBHOOK_NO_TUNNEL=1", "HUBHOOK_INSPECTOR=off",
	}
	for _, tc := range []struct {
		name string
		env  programEnv
		more []string // of base
		want []string
	}{
		{"no secret, no tunnel", programEnv{}, nil, []string{"SPACE_ID=hubhook/dev"}},
		{"secrets", programEnv{secret: "new,old"}, nil, []string{"WEBHOOK_SECRET=new", "SPACE_ID=hubhook/dev"}},
		{"tunnel", programEnv{publicHost: "me.ngrok.app"}, nil, []string{"SPACE_ID=hubhook/dev", "SPACE_HOST=me.ngrok.app"}},
		{"under dev", programEnv{attempts: true}, nil, []string{"HUBHOOK_DEV=1", "HUBHOOK_REPLY_WITHIN=1h0m0s", "SPACE_ID=hubhook/dev"}},
		{"--no-space-env", programEnv{publicHost: "me.ngrok.app", noSpace: true}, nil, nil},
		{"in a Space", programEnv{publicHost: "me.ngrok.app"}, []string{"SPACE_ID=me/app", "SPACE_HOST=me-app.hf.space"}, []string{"SPACE_ID=me/app", "SPACE_HOST=me-app.hf.space"}},
	} {
		tc.env.port = 4321
		want := slices.Concat([]string{"PATH=/bin", "HUBHOOK_PROCESS=mark"}, own, tc.want)
		got := tc.env.environ(slices.Concat(base, tc.more))
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q\nwant %q", tc.name, got, want)
		}
	}
}

func TestProgramName(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"app.py": "", "src/server.js": "", "handlers/main.go": ""})
	for command, want := range map[string]string{
		"python app.py":                   "app.py",
		"/usr/bin/python3.11 -u app.py x": "app.py",
		"uv run app.py":                   "app.py",
		"node --inspect src/server.js":    "server.js",
		"uvicorn main:app --reload":       "main",
		"go run ./handlers":               "handlers",
		"go run .":                        filepath.Base(dir),
		"python -m app":                   "python",
		"./handlers/serve --port 1":       "serve",
		"npm start":                       "npm",
	} {
		if got := programName(strings.Fields(command), dir); got != want {
			t.Errorf("%s is named %s; want %s", command, got, want)
		}
	}
}
