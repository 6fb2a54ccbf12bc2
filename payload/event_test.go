package payload

import "testing"

func TestEventIs(t *testing.T) {
	for _, test := range []struct {
		event, as Event
		want      bool
	}{
		{Event{Create, ScopeRepo}, Event{Create, ScopeRepo}, true},
		{Event{Create, ScopeRepo}, Event{Update, ScopeRepo}, false},
		// Documented scopes are not updates of the broader ones.
		{Event{Update, ScopeRepoContent}, Event{Update, ScopeRepo}, false},
		{Event{Create, ScopeDiscussionComment}, Event{Update, ScopeDiscussion}, false},
		// Unknown ones are updates of the nearest, whatever the action.
		{Event{Update, "repo.config.dois"}, Event{Update, ScopeRepoConfig}, true},
		{Event{Create, "repo.config.dois"}, Event{Update, ScopeRepoConfig}, true},
		{Event{Create, "repo.config.dois"}, Event{Create, ScopeRepoConfig}, false},
		{Event{Create, "repo.config.dois"}, Event{Update, ScopeRepo}, false},
		{Event{"explode", "repo.access"}, Event{Update, ScopeRepo}, true},
		{Event{Create, "discussion.comment.reaction.heart"}, Event{Update, ScopeDiscussionComment}, true},
		// A handler may know more scopes than this package.
		{Event{Create, "repo.config.dois"}, Event{Create, "repo.config.dois"}, true},
		{Event{Create, "repo.config.dois.x"}, Event{Update, "repo.config.dois"}, true},
		{Event{Create, "billing.plan"}, Event{Update, "billing"}, true},
		{Event{Create, "repo.contents"}, Event{Update, ScopeRepoContent}, false},
		{Event{"truncate", ScopeRepoContent}, Event{"truncate", ScopeRepoContent}, true},
		{Event{Update, "repository"}, Event{Update, ScopeRepo}, false},
		{Event{Update, "x"}, Event{Update, ""}, false},
		{Event{Update, ".."}, Event{Update, ""}, false},
	} {
		p := Payload{Event: test.event}
		if got := p.Is(test.as.Scope, test.as.Action); got != test.want {
			t.Errorf("%s is %s: %v, want %v", test.event, test.as, got, test.want)
		}
	}
}

func TestDocumented(t *testing.T) {
	for event, want := range map[Event]Event{
		{Create, ScopeRepo}:            {Create, ScopeRepo},
		{"truncate", ScopeRepoContent}: {"truncate", ScopeRepoContent},
		{Create, "repo.config.dois"}:   {Update, ScopeRepoConfig},
		{Create, "repo.a.b"}:           {Update, ScopeRepo},
		{Create, "billing.plan"}:       {},
		{Create, ""}:                   {},
		{Create, "..."}:                {},
	} {
		got, ok := event.Documented()
		if !ok && got != event {
			t.Errorf("%s counts as nothing documented, but became %s", event, got)
		}
		if ok != (want != Event{}) || ok && got != want {
			t.Errorf("%s counts as %s, %v, want %s", event, got, ok, want)
		}
	}
}

func TestIn(t *testing.T) {
	for _, test := range []struct {
		scope, broader Scope
		want           bool
	}{
		{ScopeRepo, ScopeRepo, true},
		{ScopeRepoContent, ScopeRepo, true},
		{"repo.config.dois", ScopeRepo, true},
		{ScopeRepo, ScopeRepoContent, false},
		{"repository", ScopeRepo, false},
		{ScopeRepo, "", false},
		{"", "", false},
	} {
		p := Payload{Event: Event{Scope: test.scope}}
		if got := p.In(test.broader); got != test.want {
			t.Errorf("%q in %q: %v, want %v", test.scope, test.broader, got, test.want)
		}
	}
}

func TestRef(t *testing.T) {
	type kinds struct {
		branch, tag string
		pr          int64
		convert     bool
	}
	for name, want := range map[string]kinds{
		"refs/heads/main":             {branch: "main"},
		"refs/heads/feature/x":        {branch: "feature/x"},
		"refs/heads/refs/tags/v1":     {branch: "refs/tags/v1"},
		"refs/heads/":                 {},
		"refs/heads":                  {},
		"main":                        {},
		"":                            {},
		"refs/tags/v1.0":              {tag: "v1.0"},
		"refs/pr/5":                   {pr: 5},
		"refs/pr/-5":                  {},
		"refs/pr/+5":                  {},
		"refs/pr/5/head":              {},
		"refs/pr/":                    {},
		"refs/pr/9999999999999999999": {},
		"refs/convert/parquet":        {convert: true},
		"refs/converted":              {},
	} {
		r := Ref{Ref: name}
		var got kinds
		var is [3]bool
		got.branch, is[0] = r.Branch()
		got.tag, is[1] = r.Tag()
		got.convert = r.IsConvert()
		if num, ok := r.PullRequest(); ok {
			got.pr, is[2] = num, true
		}
		if got != want || is != [3]bool{want.branch != "", want.tag != "", want.pr != 0} {
			t.Errorf("%q is %+v (%v), want %+v", name, got, is, want)
		}
	}
}

func TestRefCreatedDeleted(t *testing.T) {
	null, sha, absent := SHA{Null: true}, SHA{Hex: "1f"}, SHA{}
	for _, test := range []struct {
		old, new         SHA
		created, deleted bool
	}{
		{null, sha, true, false},
		{sha, null, false, true},
		{sha, sha, false, false},
		{absent, sha, false, false}, // not said: not known
		{sha, absent, false, false},
		{absent, absent, false, false},
		{null, null, false, false},
	} {
		r := Ref{Ref: "refs/heads/x", OldSHA: test.old, NewSHA: test.new}
		if r.Created() != test.created || r.Deleted() != test.deleted {
			t.Errorf("%+v: created %v, deleted %v, want %v, %v", r, r.Created(), r.Deleted(), test.created, test.deleted)
		}
	}
}

func TestPayloadRefs(t *testing.T) {
	for _, test := range []struct {
		refs          []string
		main, convert bool
	}{
		{nil, false, false},
		{[]string{"refs/heads/main"}, true, false},
		{[]string{"refs/tags/main"}, false, false},
		{[]string{"refs/heads/mainly", "refs/heads/x/main"}, false, false},
		{[]string{"refs/pr/3", "refs/heads/main"}, true, false},
		{[]string{"refs/convert/parquet", "refs/convert/duckdb"}, false, true},
		{[]string{"refs/convert/parquet", "refs/heads/main"}, true, false},
	} {
		var p Payload
		for _, r := range test.refs {
			p.UpdatedRefs = append(p.UpdatedRefs, Ref{Ref: r})
		}
		if p.TouchesBranch("main") != test.main || p.IsConvert() != test.convert {
			t.Errorf("%q: touches main %v, convert %v, want %v, %v", test.refs, p.TouchesBranch("main"), p.IsConvert(), test.main, test.convert)
		}
	}
}
