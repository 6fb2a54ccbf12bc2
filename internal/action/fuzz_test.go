package action

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// FuzzProgram reads anything as what a program says of itself: its home page in JSON, its OpenAPI description, a line that it prints.
// Endpoints that come of it can be served, and their paths can be posted to.
func FuzzProgram(f *testing.F) {
	for _, said := range []string{
		`{"endpoints": [{"name": "train", "url": "http://127.0.0.1:8000/webhooks/train"}, {"name": "", "url": "/webhooks/"}, {"name": "a b", "url": "%zz"}]}`,
		`{"endpoints": [{"name": "a/../b", "url": "https://me:word@x/webhooks/a/../b?c#d"}, 7]}`, `{"endpoints": {"name": 1}}`,
		`{"openapi": "3.1.0", "paths": {"/webhooks/train": {"post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/P"}}}}}}, "/{id}": {"post": {}}}, "components": {"schemas": {"P": {"properties": {"head_sha": {}, "repo": {"$ref": "#/components/schemas/P"}}}}}}`,
		`{"openapi": "3.0.0", "paths": {"/hook": {"post": {"requestBody": {"content": {"application/json": {"schema": {"anyOf": [{"$ref": "#/components/schemas/A"}, {"items": null}, null]}}}}}}}, "components": {"schemas": {"A": {"allOf": [{"$ref": "#/components/schemas/A"}]}}}}`,
		`{"openapi": "3", "paths": {"/webhooks//": null, "/webhooks/..": {"post": 1}, "": {"post": {}}}}`, "  - POST https://a.hf.space/webhooks/train", "\x1b[1m- POST http://x/base/webhooks/%2e%2e/\x1b[0m", "- POST /webhooks/ä", "{", "",
	} {
		f.Add(said)
	}
	// Schemas that name each other: to follow each way through them would take hours.
	each := strings.TrimSuffix(strings.Repeat(`{"$ref": "#/components/schemas/A"},{"$ref": "#/components/schemas/B"},`, 50), ",")
	f.Add(`{"openapi": "3", "paths": {"/hook": {"post": {"requestBody": {"content": {"application/json": {"schema": {"anyOf": [` + each + `]}}}}}}},
		"components": {"schemas": {"A": {"anyOf": [` + each + `]}, "B": {"allOf": [` + each + `]}}}}`)
	f.Fuzz(func(t *testing.T, said string) {
		var routes []Route
		if posts, err := postsOfHome([]byte(said)); err == nil {
			routes = append(routes, routesOf(posts, ByHome)...)
		}
		if posts, err := postsOfOpenAPI([]byte(said)); err == nil {
			routes = append(routes, routesOf(posts, ByOpenAPI)...)
			for _, path := range posts {
				readSchema([]byte(said), path)
			}
		}
		for line := range strings.Lines(said) {
			if route, ok := printedRoute(strings.TrimRight(line, "\r\n")); ok {
				routes = append(routes, route)
			}
		}
		for _, route := range routes {
			if _, err := server.EndpointName(route.Name); err != nil || !strings.HasPrefix(route.Path, "/") {
				t.Errorf("%q has the route %+v (%v)", said, route, err)
			}
		}
	})
}

// FuzzExplain reads anything as a program's answer and as what it printed. The advice is one line of a bounded length.
func FuzzExplain(f *testing.F) {
	for _, seed := range []struct {
		status          int
		body, location  string
		printed, posted string
	}{
		{422, `{"detail": [{"loc": ["body", "repo", "type"], "msg": "Input should be 'model'", "input": "bucket"}]}`, "", "", "/hook"},
		{422, `{"detail": [{"loc": ["query", 7, null], "msg": "x"}]}`, "", "", "/hook"}, {400, `{"detail": [{"loc": []}]}`, "", "", ""},
		{200, `["no", 404]`, "", "", "/a"}, {200, `{"delivery": "1", "state": "dead", "error": "\u001b[31m"}`, "", "", "/a"}, {307, "", "//evil.example/%zz", "", "/a"}, {301, "", "http://[::1", "", "/a"},
		{404, "", "", "", "/webhooks/hook"}, {405, "", "", "", "hook"}, {500, "<html>\x00", "", "", "/a"}, {413, "", "", "", ""},
		{0, "", "", "ModuleNotFoundError: No module named 'a\x1b'", ""}, {0, "", "", "address already in use 99999999999999999999", ""}, {0, "", "", "  SyntaxError: \u202ex", ""},
	} {
		f.Add(seed.status, seed.body, seed.location, seed.printed, seed.posted)
	}
	f.Fuzz(func(t *testing.T, status int, body, location, printed, posted string) {
		s := Seen{Status: status, Body: []byte(body), Header: http.Header{"Location": {location}}, Path: "/webhooks/hook", Posts: []string{posted, "/webhooks/" + posted},
			RepoType: payload.Bucket, Lines: strings.Split(printed, "\n"), Exited: status == 0}
		advice, ok := Explain(s)
		if !ok {
			return
		}
		for _, text := range []string{advice.Cause, advice.Fix} {
			if text == "" || strings.ContainsAny(text, "\n\r\x1b") || len([]rune(text)) > 20*maxShown {
				t.Errorf("status %d, %q, %q, %q, %q: advice %+v", status, body, location, printed, posted, advice)
			}
		}
	})
}
