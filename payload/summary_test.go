package payload

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/summaries.txt, fields.go and the table of docs/payload.md")

// testdata/summaries.txt has the summary and the links of every payload in this package.
func TestSummaries(t *testing.T) {
	const golden = "testdata/summaries.txt"
	var got strings.Builder
	for _, pattern := range []string{"samples/*.json", "testdata/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(body)
			if p == nil {
				t.Fatalf("%s: %v", file, err)
			}
			fmt.Fprintf(&got, "%s\n  %s\n", file, p.Summary())
			for _, l := range p.Links() {
				fmt.Fprintf(&got, "  %s  %s\n", l.Text, l.URL)
			}
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s; go test ./payload -run TestSummaries -update rewrites it:\n%s", golden, diff)
	}
}

func TestSummaryOfSamplesWithChanges(t *testing.T) {
	const a, b = "ce9a4674fa833a68d5a73ec355f0ea95eedd60b7", "575db8b7a51b6f85eb06eee540738584589f131c"
	refs := func(changes ...string) map[string]any {
		set := map[string]any{}
		for i, change := range changes {
			at := fmt.Sprintf("updatedRefs.%d", i)
			fields := strings.Fields(change)
			set[at+".ref"], set[at+".oldSha"], set[at+".newSha"] = fields[0], fields[1], fields[2]
		}
		return set
	}
	for _, test := range []struct {
		scope  Scope
		action Action
		set    map[string]any
		want   string
	}{
		{ScopeRepo, Create, map[string]any{"repo.type": "bucket", "repo.private": true}, "some-user/some-model: bucket created (private)"},
		{ScopeRepo, Update, map[string]any{"event.action": "archive"}, "some-user/some-model: model (repo/archive)"},
		{ScopeRepo, Move, map[string]any{"movedTo": map[string]any{}}, "some-user/old-name: model moved"},
		{ScopeRepo, Update, map[string]any{"event.scope": "collection"}, "some-user/some-model: collection/update"},
		{ScopeRepo, Update, map[string]any{"event.scope": "repo.stars", "event.action": "create"}, "some-user/some-model: model updated (repo.stars/create)"},

		{ScopeRepoContent, "", refs("refs/heads/main " + a + " " + b), "some-user/some-dataset: main moved, ce9a467 → 575db8b"},
		{ScopeRepoContent, "", refs("refs/heads/main "+a+" "+b, "refs/tags/v1 null "+b), "some-user/some-dataset: main ce9a467 → 575db8b, tag v1 created at 575db8b"},
		{ScopeRepoContent, "", refs("refs/heads/a/b null " + b), "some-user/some-dataset: branch a/b created at 575db8b"},
		{ScopeRepoContent, "", refs("refs/tags/v1 " + a + " null"), "some-user/some-dataset: tag v1 deleted, was at ce9a467"},
		{ScopeRepoContent, "", refs("refs/tags/v1 null null"), "some-user/some-dataset: tag v1 changed"},
		{ScopeRepoContent, "", refs("refs/pr/5 " + a + " " + b), "some-user/some-dataset: ref of pull request #5 moved, ce9a467 → 575db8b"},
		{ScopeRepoContent, "", refs("refs/convert/duckdb " + a + " " + b), "some-user/some-dataset: refs/convert/duckdb moved, ce9a467 → 575db8b"},
		{ScopeRepoContent, "", refs("refs/heads/main nonsense " + b), "some-user/some-dataset: main is at 575db8b"},
		{ScopeRepoContent, "", refs("refs/heads/main " + a + " nonsense"), "some-user/some-dataset: main changed, was at ce9a467"},
		{ScopeRepoContent, "", refs(slices.Repeat([]string{"refs/tags/v null " + b}, 8)...),
			"some-user/some-dataset: " + strings.Repeat("tag v created at 575db8b, ", 5) + "and 3 more refs"},
		{ScopeRepoContent, "", map[string]any{"updatedRefs": []any{}}, "some-user/some-dataset: content changed, main is at 4d1e0f7"},
		{ScopeRepoContent, "", map[string]any{"event.action": "create"}, "some-user/some-dataset: main moved, a93c5e7 → 4d1e0f7 (repo.content/create)"},

		{ScopeRepoContent, "", map[string]any{"repo.type": "bucket", "updatedFilesTruncated": true}, "some-user/some-bucket: 1 file added, 1 deleted, and more than the payload lists"},
		{ScopeRepoContent, "", map[string]any{"repo.type": "bucket", "updatedFiles": []any{}}, "some-user/some-bucket: files changed"},
		{ScopeRepoContent, "", map[string]any{"repo.type": "bucket", "updatedFiles.0.action": "chmod", "updatedFiles.2.path": "c", "updatedFiles.2.action": "delete"},
			"some-user/some-bucket: 2 files deleted, 1 changed"},

		{ScopeRepoConfig, "", map[string]any{"updatedConfig.xetEnabled": "false", "updatedConfig.a": `{"b": [1, "x"]}`},
			`some-user/some-dataset: settings changed: a = {"b":[1,"x"]}, private = true, xetEnabled = false`},
		{ScopeRepoConfig, "", map[string]any{"event.scope": "repo.config.dois"}, "some-user/some-dataset: settings changed: private = true (repo.config.dois/update)"},

		{ScopeDiscussion, Create, map[string]any{"discussion.isPullRequest": false}, "some-user/some-model: discussion #12 opened: Fix the tokenizer settings"},
		{ScopeDiscussion, Update, map[string]any{"discussion.status": "open"}, "some-user/some-model: pull request #12 updated: Fix the tokenizer settings"},
		{ScopeDiscussion, Update, map[string]any{"discussion.status": "closed", "discussion.title": ""}, "some-user/some-model: pull request #12 is closed"},
		{ScopeDiscussion, Update, map[string]any{"discussion.status": "locked"}, "some-user/some-model: pull request #12 is locked: Fix the tokenizer settings"},
		{ScopeDiscussion, Update, map[string]any{"discussion.changes.mergeCommitId": b}, "some-user/some-model: pull request #12 is merged as 575db8b: Fix the tokenizer settings"},
		{ScopeDiscussion, Update, map[string]any{"discussion.status": "draft"}, "some-user/some-model: draft pull request #12 updated: Fix the tokenizer settings"},
		{ScopeDiscussion, Update, map[string]any{"event.action": "pin"}, "some-user/some-model: pull request #12: Fix the tokenizer settings (discussion/pin)"},

		{ScopeDiscussionComment, Create, map[string]any{"comment.hidden": true}, "some-user/some-dataset: hidden comment on discussion #7"},
		{ScopeDiscussionComment, Update, map[string]any{"comment.hidden": true}, "some-user/some-dataset: comment on discussion #7 is hidden"},
		{ScopeDiscussionComment, Update, map[string]any{"event.action": "delete"}, "some-user/some-dataset: comment on discussion #7 deleted: Which rows are they? (edited) (discussion.comment/delete)"},
		{ScopeDiscussionComment, Create, map[string]any{"event.scope": "discussion.comment.reaction"}, "some-user/some-dataset: comment on discussion #7 updated: Which rows are they? (discussion.comment.reaction/create)"},
	} {
		p, err := Sample(test.scope, test.action, test.set)
		if err != nil {
			t.Errorf("%s: %v", test.want, err)
			continue
		}
		if got := p.Summary(); got != test.want {
			t.Errorf("%v:\n have %s\n want %s", test.set, got, test.want)
		}
	}
}

func TestSummaryOfAPayloadThatSaysLittle(t *testing.T) {
	for body, want := range map[string]string{
		`{}`: "",
		`{"event":{"scope":"repo","action":"create"},"repo":{"type":"model"}}`:                                          "",
		`{"event":{"scope":"repo.content","action":"update"},"repo":{"type":"model","name":"a"}}`:                       "a: content changed",
		`{"event":{"scope":"repo.content","action":"update"},"repo":{"type":"model","name":"a"},"updatedRefs":"x"}`:     "a: content changed",
		`{"event":{"scope":"repo.content","action":"update"},"repo":{"type":"bucket","name":"a"}}`:                      "a: files changed",
		`{"event":{"scope":"repo.config","action":"update"},"repo":{"type":"model","name":"a"}}`:                        "a: settings changed",
		`{"event":{"scope":"discussion","action":"update"},"repo":{"type":"model","name":"a"}}`:                         "a: discussion updated",
		`{"event":{"scope":"discussion","action":"create"},"repo":{"type":"model","name":"a"},"discussion":{}}`:         "a: discussion opened",
		`{"event":{"scope":"discussion.comment","action":"create"},"repo":{"type":"model","name":"a"}}`:                 "a: comment on discussion",
		`{"event":{"scope":"repo.content","action":"update"},"repo":{"type":"dataset","name":"a"},"updatedFiles":[{}]}`: "a: files changed",
	} {
		p, _ := Parse([]byte(body)) // some of them are unusable
		if got := p.Summary(); got != want {
			t.Errorf("%s:\n have %q\n want %q", body, got, want)
		}
	}
}

// Links lead to web pages only, and to none of what is gone.
func TestLinksOfDoubtfulPayloads(t *testing.T) {
	const sha = "575db8b7a51b6f85eb06eee540738584589f131c"
	repo := Link{"dataset some-user/some-dataset", "https://huggingface.co/datasets/some-user/some-dataset"}
	commit := Link{"commit 4d1e0f7", repo.URL + "/commit/4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b"}
	for name, test := range map[string]struct {
		scope Scope
		set   map[string]any
		want  []Link
	}{
		"no URL":           {ScopeRepoContent, map[string]any{"repo.url": map[string]any{}}, []Link{repo, commit}},
		"a local Hub":      {ScopeRepoContent, map[string]any{"repo.url.web": "http://localhost:5564/datasets/a/b"}, []Link{{repo.Text, "http://localhost:5564/datasets/a/b"}, {commit.Text, "http://localhost:5564/datasets/a/b/commit/4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b"}}},
		"a script":         {ScopeRepoContent, map[string]any{"repo.url.web": "javascript:alert(1)//huggingface.co"}, nil},
		"data":             {ScopeRepoContent, map[string]any{"repo.url.web": "data:text/html,<script>1</script>"}, nil},
		"credentials":      {ScopeRepoContent, map[string]any{"repo.url.web": "https://huggingface.co@evil.example/"}, nil},
		"no host":          {ScopeRepoContent, map[string]any{"repo.url.web": "https:///datasets/a/b"}, nil},
		"no scheme":        {ScopeRepoContent, map[string]any{"repo.url.web": "//evil.example/"}, nil},
		"another host":     {ScopeRepoContent, map[string]any{"repo.url.web": "https://hugging\u202eface.co/"}, nil},
		"control":          {ScopeRepoContent, map[string]any{"repo.url.web": "https://huggingface.co/\n\x1b[2J"}, nil},
		"a quote":          {ScopeRepoContent, map[string]any{"repo.url.web": `https://huggingface.co/?x="onclick="`}, nil},
		"too long":         {ScopeRepoContent, map[string]any{"repo.url.web": "https://huggingface.co/" + strings.Repeat("x", maxURL)}, nil},
		"a strange type":   {ScopeRepoContent, map[string]any{"repo.url": map[string]any{}, "repo.type": "../x"}, nil},
		"a strange name":   {ScopeRepoContent, map[string]any{"repo.url": map[string]any{}, "repo.name": "../../evil"}, nil},
		"a strange commit": {ScopeRepoContent, map[string]any{"updatedRefs.0.newSha": "../../../evil"}, []Link{repo}},
		"a deleted ref":    {ScopeRepoContent, map[string]any{"updatedRefs.0.newSha": "null"}, []Link{repo}},
		"a pull request's ref": {ScopeRepoContent, map[string]any{"updatedRefs.0.ref": "refs/pr/5", "updatedRefs.0.newSha": sha},
			[]Link{repo, {"pull request #5", repo.URL + "/discussions/5"}, {"commit 575db8b", repo.URL + "/commit/" + sha}}},
		"a discussion without URL": {ScopeDiscussionComment, map[string]any{"discussion.url": map[string]any{}, "comment.url.web": ""},
			[]Link{repo, {"discussion #7", repo.URL + "/discussions/7"}}},
		"a comment that is a script": {ScopeDiscussionComment, map[string]any{"comment.url.web": "javascript:1", "discussion.url.web": "vbscript:1"}, []Link{repo}},
	} {
		p, err := Sample(test.scope, "", test.set)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, p.Links()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if p, err := Sample(ScopeRepo, Move, map[string]any{"movedTo.name": "../../evil"}); err != nil || len(p.Links()) != 1 {
		t.Errorf("a move to a strange name leads to %v, %v", p.Links(), err)
	}
	many := map[string]any{}
	for i := range 100 {
		many[fmt.Sprintf("updatedRefs.%d.newSha", i)] = fmt.Sprintf("%040x", i)
		many[fmt.Sprintf("updatedRefs.%d.ref", i)] = "refs/tags/x"
	}
	if p, err := Sample(ScopeRepoContent, "", many); err != nil || len(p.Links()) != maxLinks {
		t.Errorf("100 refs: %d links, %v", len(p.Links()), err)
	}
}

const hostile = "\x1b[2J\x00\n\r\u202egnp.exe\u2066\u200b\ufeff\u0085\u009b31m<script>alert(1)</script>"

// hostileSets put what a terminal obeys or a reader is fooled by wherever a payload may hold text.
var hostileSets = []struct {
	scope Scope
	set   map[string]any
}{
	{ScopeRepo, map[string]any{"repo.name": hostile, "movedTo.name": hostile, "event.action": "move"}},
	{ScopeRepo, map[string]any{"repo.type": hostile, "event.action": hostile, "event.scope": "repo." + hostile}},
	{ScopeRepo, map[string]any{"event.scope": hostile}},
	{ScopeRepoContent, map[string]any{"updatedRefs.0.ref": "refs/heads/" + hostile, "updatedRefs.1.ref": hostile, "updatedRefs.2.ref": "refs/tags/" + hostile, "updatedRefs.0.newSha": hostile, "repo.headSha": hostile}},
	{ScopeRepoContent, map[string]any{"repo.type": "bucket", "updatedFiles": []any{map[string]any{"path": hostile, "action": hostile}}}},
	{ScopeRepoConfig, map[string]any{`updatedConfig`: map[string]any{hostile: hostile}}},
	{ScopeDiscussion, map[string]any{"discussion.title": hostile, "discussion.status": hostile, "event.action": "update"}},
	{ScopeDiscussion, map[string]any{"discussion.url.web": hostile, "discussion.changes.mergeCommitId": hostile, "discussion.status": "merged", "event.action": "update"}},
	{ScopeDiscussionComment, map[string]any{"comment.content": hostile, "comment.url.web": "https://x.example/" + hostile}},
}

func checkShown(t *testing.T, p *Payload) {
	t.Helper()
	const most = 2500 // characters
	texts := []string{p.Summary()}
	for _, l := range p.Links() {
		texts = append(texts, l.Text)
		u, err := url.Parse(l.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsFunc(l.URL, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("link to %q, %v", l.URL, err)
		}
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%+q can garble what shows it", text)
		}
		if n := utf8.RuneCountInString(text); n > most {
			t.Errorf("%d characters, want at most %d: %s", n, most, text)
		}
	}
}

func TestSummaryOfHostileText(t *testing.T) {
	for _, test := range hostileSets {
		for _, repeat := range []int{1, 10_000} {
			set := map[string]any{}
			for path, v := range test.set {
				if text, ok := v.(string); ok && strings.Contains(text, hostile) {
					v = strings.ReplaceAll(text, hostile, strings.Repeat(hostile, repeat))
				}
				set[path] = v
			}
			p, err := Sample(test.scope, "", set)
			if err != nil {
				t.Errorf("%.100v: %v", test.set, err)
				continue
			}
			if p.Summary() == "" {
				t.Errorf("%.100v: no summary", test.set)
			}
			checkShown(t, p)
		}
	}
}

func FuzzSummary(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	for _, test := range hostileSets {
		p, err := Sample(test.scope, "", test.set)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Raw())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, _ := Parse(body); p != nil {
			checkShown(t, p)
		}
	})
}
