package hubtest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// Whatever is asked, the API does not panic, and it has an answer other than 500.
func FuzzAPI(f *testing.F) {
	for _, seed := range []struct{ method, target, body string }{
		{"GET", "/api/whoami-v2", ""},
		{"POST", "/api/settings/webhooks", `{"url": "http://127.0.0.1:1/", "watched": [{"type": "user", "name": "me"}], "domains": ["repo"]}`},
		{"POST", "/api/settings/webhooks/1/replay/2", ""},
		{"GET", "/api/models?author=me", ""},
		{"GET", "/api/models/", ""},
		{"GET", "/api/datasets/me/data?expand=sha", ""},
		{"GET", "/api/datasets/me%2Fdata/refs?include_prs=1", ""},
		{"GET", "/api/datasets/me/data/tree/refs%2Fheads%2Fmain/a%2Fb?recursive=1&limit=1&cursor=MQ", ""},
		{"GET", "/api/datasets/me/data/commits/main?cursor=LTE", ""},
		{"GET", "/api/datasets/me/old/tree/main//", ""},
		{"POST", "/api/datasets/me/data/discussions/1/comment", `{"comment": "yes"}`},
		{"POST", "/api/buckets/me/new", `{"visibility": "private"}`},
		{"GET", "/api/buckets/me/files/tree/a%2F?limit=1&cursor=YS8", ""},
		{"GET", "/api/buckets/me/files/events?cursor=x", ""},
		{"POST", "/api/buckets/me/files/paths-info", `{"paths": ["a/b"]}`},
		{"PUT", "/api/buckets/me/files/settings", `{"private": null}`},
		{"POST", "/api/repos/move", `{"fromRepo": "me/data", "toRepo": "/", "type": "dataset"}`},
	} {
		f.Add(seed.method, seed.target, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		if !strings.HasPrefix(target, "/") {
			t.Skip("no path")
		}
		req, err := http.NewRequest(method, "http://hub.example"+target, strings.NewReader(body))
		if err != nil {
			t.Skip(err)
		}
		h := hubtest.New(hubtest.Options{Client: &http.Client{Transport: accepting{}}})
		defer h.Close()
		req.Header.Set("Authorization", "Bearer "+h.Accounts.AddToken(hubtest.Token{}))
		r := must(h.CreateRepo(payload.Dataset, "me/old", hubtest.RepoOptions{}))
		check(t, r.Move("me/data"))
		must(r.Push(hubtest.Commit{Files: []hubtest.File{{Path: "a/b/c"}}}))
		must(r.Discuss(hubtest.DiscussionOptions{Title: "Why?"}))
		upload(t, must(h.CreateBucket("me/files", hubtest.RepoOptions{})), "a/b", "1")
		if method == http.MethodGet && strings.HasSuffix(req.URL.Path, "/events") && !strings.Contains(req.URL.RawQuery, "cursor=x") {
			t.Skip("a feed does not end")
		}
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, req)
		if answer.Code == http.StatusInternalServerError {
			t.Errorf("%s %s: %s", method, target, answer.Body)
		}
	})
}
