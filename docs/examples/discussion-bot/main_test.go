package main

import (
	"testing"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

func TestIsAsked(t *testing.T) {
	b := &bot{me: hub.User{ID: "61d2c54d76c37de24cfed058", Name: "helper"}, mention: mentionOf("helper")}
	for name, c := range map[string]struct {
		scope  payload.Scope
		action payload.Action
		set    map[string]any
		want   bool
	}{
		"a question":                {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "What is in it, @Helper?"}, true},
		"the first of a discussion": {payload.ScopeDiscussion, payload.Create, map[string]any{"comment.content": "@helper"}, true},
		"one in brackets":           {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "(@helper)"}, true},
		"a talk of others":          {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "What is in it?"}, false},
		"another account":           {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "@helper-two, @helper2"}, false},
		"an address":                {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "jo@helper"}, false},
		"the bot itself":            {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "@helper", "comment.author.id": b.me.ID}, false},
		"an edit":                   {payload.ScopeDiscussionComment, payload.Update, map[string]any{"comment.content": "@helper"}, false},
		"a hidden one":              {payload.ScopeDiscussionComment, payload.Create, map[string]any{"comment.content": "@helper", "comment.hidden": true}, false},
		"a push":                    {payload.ScopeRepoContent, payload.Update, nil, false},
	} {
		p, err := payload.Sample(c.scope, c.action, c.set)
		if err != nil {
			t.Fatal(err)
		}
		if asked, why := b.isAsked(p); asked != c.want || !asked && why == "" {
			t.Errorf("%s: %t %q, want %t", name, asked, why, c.want)
		}
	}
}
