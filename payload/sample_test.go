package payload

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// documentedEvents lists the events of the Hub's documentation. It repeats documented
// on purpose: Samples must have all of them.
var documentedEvents = []Event{
	{Create, "repo"}, {Delete, "repo"}, {Update, "repo"}, {Move, "repo"},
	{Update, "repo.content"},
	{Update, "repo.config"},
	{Create, "discussion"}, {Delete, "discussion"}, {Update, "discussion"},
	{Create, "discussion.comment"}, {Update, "discussion.comment"},
}

func TestSamples(t *testing.T) {
	events := Samples()
	for _, e := range documentedEvents {
		if !slices.Contains(events, e) {
			t.Errorf("no sample of %s", e)
		}
	}
	files, err := fs.Glob(samples, "samples/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(events)+1 || len(events) != len(documentedEvents) {
		t.Errorf("%d files for %d samples and the bucket's, %d events are documented", len(files), len(events), len(documentedEvents))
	}
	for _, e := range events {
		for _, repoType := range []RepoType{"", Model, Dataset, Space, Bucket, Kernel, "collection"} {
			set := map[string]any{}
			if repoType != "" {
				set["repo.type"] = repoType
			}
			p, err := Sample(e.Scope, e.Action, set)
			if repoType == Bucket && e.Scope.In(ScopeDiscussion) {
				if err == nil {
					t.Errorf("%s of a bucket: no error", e)
				}
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			checkSample(t, p, e)
			if repoType != "" && p.Repo.Type != repoType {
				t.Errorf("%s: repo.type is %s, want %s", e, p.Repo.Type, repoType)
			}
		}
	}
}

// checkSample checks that p has the fields that the Hub sends with that event.
func checkSample(t *testing.T, p *Payload, e Event) {
	t.Helper()
	if p.Event != e {
		t.Errorf("event is %s, want %s", p.Event, e)
	}
	bucket := p.Repo.Type == Bucket
	has := func(path string, want bool) {
		t.Helper()
		if _, ok := p.Lookup(path); ok != want {
			t.Errorf("%s of a %s: has %s: %v, want %v", e, p.Repo.Type, path, ok, want)
		}
	}
	for _, path := range []string{"repo.id", "repo.private", "repo.url.web", "repo.url.api", "repo.owner.id", "webhook.id"} {
		has(path, true)
	}
	has("repo.headSha", e.Scope.In(ScopeRepo) && !bucket && e != Event{Delete, ScopeRepo})
	has("repo.subdomain", p.Repo.Type == Space && e.Scope == ScopeRepoContent)
	has("updatedRefs", e.Scope == ScopeRepoContent && !bucket)
	has("updatedFiles", e.Scope == ScopeRepoContent && bucket)
	has("updatedConfig", e.Scope == ScopeRepoConfig)
	has("movedTo", e.Action == Move)
	has("discussion", e.Scope.In(ScopeDiscussion))
	has("discussion.changes", p.Discussion != nil && p.Discussion.IsPullRequest)
	has("comment", e.Scope == ScopeDiscussionComment || e == Event{Create, ScopeDiscussion})
	if p.Webhook.Version != 3 {
		t.Errorf("%s: webhook.version is %d, want 3", e, p.Webhook.Version)
	}
	v, err := decodeValue(p.Raw())
	if err != nil {
		t.Fatal(err)
	}
	if err := payloadShape.check("", v); err != nil {
		t.Errorf("%s: %v", e, err)
	}
}

func TestSampleSet(t *testing.T) {
	for _, test := range []struct {
		name   string
		scope  Scope
		action Action
		set    map[string]any
		want   map[string]string // by path, - for a field that isn't there
	}{
		{"default actions", "discussion.comment", "", nil, map[string]string{"event": `{"action":"create","scope":"discussion.comment"}`}},
		{"name", "repo.content", "", map[string]any{"repo.name": "me/data"}, map[string]string{
			"event.action": `"update"`,
			"repo.name":    `"me/data"`,
			"repo.url":     `{"web":"https://huggingface.co/datasets/me/data","api":"https://huggingface.co/api/datasets/me/data"}`,
		}},
		{"type", "repo", "create", map[string]any{"repo.type": Space}, map[string]string{
			"repo.url": `{"web":"https://huggingface.co/spaces/some-user/some-model","api":"https://huggingface.co/api/spaces/some-user/some-model"}`,
		}},
		{"own URL", "discussion", "", map[string]any{"repo.url.web": "http://x/y", "repo.name": "a/b", "discussion.url.api": "z"}, map[string]string{
			"repo.url":           `{"web":"http://x/y","api":"https://huggingface.co/api/models/a/b"}`,
			"discussion.url":     `{"web":"http://x/y/discussions/12","api":"z"}`,
			"comment.url.web":    `"http://x/y/discussions/12#66b7c8d9e0f1a2b3c4d5e6f8"`,
			"discussion.changes": `{"base":"refs/heads/main"}`,
		}},
		{"whole URL", "repo", "", map[string]any{"repo.url": map[string]any{"api": "z"}}, map[string]string{"repo.url": `{"api":"z"}`}},
		{"discussion", "discussion.comment", "update", map[string]any{"repo.type": "model", "repo.name": "gpt2", "discussion.num": "5", "comment.id": "c", "comment.hidden": true}, map[string]string{
			"discussion.num":     "5",
			"discussion.url.web": `"https://huggingface.co/gpt2/discussions/5"`,
			"comment":            `{"id":"c","author":{"id":"64f0c2a1b7d83e5f9a6c1d21"},"hidden":true,"url":{"web":"https://huggingface.co/gpt2/discussions/5#c"}}`,
		}},
		{"pull request", "discussion", "delete", map[string]any{"discussion.isPullRequest": "true"}, map[string]string{"discussion.changes": `{"base":"refs/heads/main"}`}},
		{"no pull request", "discussion", "create", map[string]any{"discussion.isPullRequest": false}, map[string]string{"discussion.changes": "-"}},
		{"hidden with content", "discussion.comment", "", map[string]any{"comment.hidden": true, "comment.content": "x"}, map[string]string{"comment.content": `"x"`}},
		{"absent fields", "repo.content", "", map[string]any{"repo.tags": []string{"a"}, "discussion.pinned": true}, map[string]string{
			"repo.tags": `["a"]`, "discussion": `{"pinned":true}`,
		}},
		{"strings as JSON where no string belongs", "repo.config", "", map[string]any{
			"repo.private": "false", "webhook.version": "4", "repo.id": "5", "repo.tags": `["<a&b>"]`, "updatedConfig.private": "false",
			"updatedConfig.gated": "manual", `updatedConfig.a\.b`: `{"c": 1e400}`, "updatedConfig.quoted": `"5"`,
		}, map[string]string{
			"repo.private": "false", "webhook.version": "4", "repo.id": `"5"`, "repo.tags": `["<a&b>"]`,
			"updatedConfig": `{"a.b":{"c":1e400},"gated":"manual","private":false,"quoted":"5"}`,
		}},
		{"empty config", "repo.config", "", map[string]any{"updatedConfig": "{}"}, map[string]string{"updatedConfig": "{}"}},
		{"refs", "repo.content", "", map[string]any{
			"updatedRefs.0.ref": "refs/pr/7", "updatedRefs.0.oldSha": "null", "updatedRefs.1.newSha": nil, "updatedRefs.1.ref": "refs/tags/1",
		}, map[string]string{
			"updatedRefs":  `[{"ref":"refs/pr/7","oldSha":null,"newSha":"4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b"},{"ref":"refs/tags/1","newSha":null}]`,
			"repo.headSha": `"4d1e0f7a92b35c68d0e1f2a3b4c5d6e7f8091a2b"`,
		}},
		{"head", "repo.content", "", map[string]any{"updatedRefs.0.newSha": "12"}, map[string]string{"repo.headSha": `"12"`}},
		{"many elements", "repo.content", "", map[string]any{
			"updatedRefs": []Ref{}, "updatedRefs.2.ref": "c", "updatedRefs.1.ref": "b", "updatedRefs.0.ref": "a", "updatedRefs.3.ref": "d", "updatedRefs.4.ref": "e", "updatedRefs.5.ref": "f",
			"updatedRefs.6.ref": "g", "updatedRefs.7.ref": "h", "updatedRefs.8.ref": "i", "updatedRefs.9.ref": "j", "updatedRefs.10.ref": "k",
		}, map[string]string{"updatedRefs.10": `{"ref":"k"}`, "updatedRefs.2": `{"ref":"c"}`, "updatedRefs.11": "-"}},
		{"bucket", "repo.content", "", map[string]any{"repo.type": json.RawMessage(`"bucket"`), "updatedFiles.1.path": "z", "updatedFilesTruncated": true}, map[string]string{
			"updatedFiles.1": `{"path":"z","action":"delete"}`, "updatedFilesTruncated": "true", "updatedRefs": "-",
			"repo.url.web": `"https://huggingface.co/buckets/some-user/some-bucket"`,
		}},
		{"subdomain", "repo.content", "", map[string]any{"repo.type": "space", "repo.name": "Wauplin/gradio-User.history"}, map[string]string{"repo.subdomain": `"wauplin-gradio-user-history"`}},
		{"future", "repo.config", "", map[string]any{"event.scope": "repo.config.dois", "event.action": "explode"}, map[string]string{"event": `{"action":"explode","scope":"repo.config.dois"}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := Sample(test.scope, test.action, test.set)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for path := range test.want {
				got[path] = "-"
				if v, ok := p.Lookup(path); ok {
					got[path] = string(v)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("want (-), have (+):\n%s", diff)
			}
		})
	}
}

func TestSampleErrors(t *testing.T) {
	for _, test := range []struct {
		scope  Scope
		action Action
		set    map[string]any
		want   string
	}{
		{"repo.contnet", "", nil, `no sample of scope "repo.contnet"; did you mean repo.content?`},
		{"Repo", "", nil, `no sample of scope "Repo"; did you mean repo?`},
		{"push", "", nil, `no sample of scope "push"; known are repo, repo.content, repo.config, discussion, discussion.comment`},
		{"", "", nil, `no sample of scope ""; known are repo, repo.content, repo.config, discussion, discussion.comment`},
		{"repo.content", "create", nil, `no sample of repo.content with action "create"; known are update`},
		{"repo", "updat", nil, `no sample of repo with action "updat"; did you mean update?`},
		{"discussion", "", map[string]any{"repo.type": "bucket"}, "sample of discussion/create: a bucket has no discussions; choose a scope that begins with repo"},
		{"repo", "", map[string]any{"repo.nmae": "x"}, "sample of repo/create: repo.nmae: no such field; did you mean repo.name?"},
		{"repo", "", map[string]any{"x": "x"}, "sample of repo/create: x: no such field; known are event, repo, updatedRefs, updatedFiles, updatedFilesTruncated, updatedConfig, movedTo, discussion, comment, webhook"},
		{"repo", "", map[string]any{"": "x"}, "sample of repo/create: want the path of a field, have an empty one"},
		{"repo", "", map[string]any{"repo.": "x"}, "sample of repo/create: repo.: no such field; known are repo.type, repo.name, repo.id, repo.private, repo.subdomain, repo.url, repo.headSha, repo.owner, repo.tags"},
		{"repo", "", map[string]any{"repo.name.x": "x"}, "sample of repo/create: repo.name: is a string and has nothing under it"},
		{"repo", "", map[string]any{"repo.name": 5}, "sample of repo/create: repo.name: want a string, have a number"},
		{"repo", "", map[string]any{"repo.name": nil}, "sample of repo/create: repo.name: want a string, have null"},
		{"repo", "", map[string]any{"repo.name": ""}, "sample of repo/create: repo.name: want a string, have an empty one"},
		{"repo", "", map[string]any{"repo.type": 5}, "sample of repo/create: repo.type: want a string, have a number"},
		{"repo", "", map[string]any{"repo.private": "yes"}, "sample of repo/create: repo.private: want a boolean, have a string"},
		{"repo", "", map[string]any{"webhook.version": "3.5"}, "sample of repo/create: webhook.version: want an integer, have 3.5"},
		{"repo", "", map[string]any{"webhook.version": 2}, "sample of repo/create: webhook.version: want 3 or later, have 2, where event is a string beside scope; make a new webhook in the Hub's settings: it sends version 3"},
		{"repo", "", map[string]any{"repo.url": "x"}, "sample of repo/create: repo.url: want an object, have a string"},
		{"repo", "", map[string]any{"repo.url": map[string]any{"wbe": "x"}}, "sample of repo/create: repo.url.wbe: no such field; did you mean repo.url.web?"},
		{"repo", "", map[string]any{"repo.tags": []any{"a", 5}}, "sample of repo/create: repo.tags.1: want a string, have a number"},
		{"repo", "", map[string]any{"repo": "{}"}, "sample of repo/create: repo.type: want a string, have nothing; repo.name: want a string, have nothing"},
		{"repo.content", "", map[string]any{"updatedRefs.2.ref": "x"}, "sample of repo.content/update: updatedRefs.2: want an index from 0 to 1, the first free one"},
		{"repo.content", "", map[string]any{"updatedRefs.x": "x"}, "sample of repo.content/update: updatedRefs.x: want an index from 0 to 1, the first free one"},
		{"repo", "", map[string]any{"updatedConfig.x": make(chan int)}, "sample of repo/create: updatedConfig.x: write the value as JSON: json: unsupported type: chan int"},
	} {
		p, err := Sample(test.scope, test.action, test.set)
		if err == nil || err.Error() != test.want {
			t.Errorf("Sample(%q, %q, %v)\nerror %v\n want %s", test.scope, test.action, test.set, err, test.want)
		}
		if p != nil {
			t.Errorf("Sample(%q, %q, %v) returns a payload with its error", test.scope, test.action, test.set)
		}
	}
	var field *FieldError
	if _, err := Sample(ScopeRepo, "", map[string]any{"repo.name": 5}); !errors.As(err, &field) || field.Path != "repo.name" {
		t.Errorf("error %v, want a FieldError of repo.name", err)
	}
}

// FuzzSample checks that whatever is set, the sample is a payload that has it,
// or there is an error.
func FuzzSample(f *testing.F) {
	for _, e := range Samples() {
		f.Add(string(e.Scope), string(e.Action), "repo.name", "me/data")
	}
	f.Add("repo.content", "", "updatedRefs.1.oldSha", "null")
	f.Add("repo.config", "", `updatedConfig.a\.b`, `{"c": [1e400, "\ud800"]}`)
	f.Add("repo.content", "", "repo", `{"type": "bucket", "name": "x", "url": {}}`)
	f.Fuzz(func(t *testing.T, scope, action, path, value string) {
		p, err := Sample(Scope(scope), Action(action), map[string]any{path: value})
		if err != nil {
			if p != nil {
				t.Fatal("a payload and an error")
			}
			return
		}
		if _, ok := p.Lookup(path); !ok {
			t.Fatalf("set %q to %q, which isn't in %s", path, value, p.Raw())
		}
		if _, err := Parse(p.Raw()); err != nil {
			t.Fatal(err)
		}
	})
}
