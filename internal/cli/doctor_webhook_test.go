package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
)

func TestWebhooksAgainstTheHubhookHere(t *testing.T) {
	t.Parallel()
	const base, real = "https://new.ngrok-free.app", "https://huggingface.co"
	since := api.Time{Time: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)}
	here := func(change func(*ours)) *ours {
		o := &ours{
			hub: real, configured: true, accepts: func(s string) bool { return s == "s3cret" }, earlier: []string{"https://then.example.com", base},
			record: keep.Record{Entries: []*keep.Entry{{Hub: real, Endpoint: "train", ID: "kept", URLs: []string{"https://gave.example.com/webhooks/train"}}}},
			shared: keep.Record{Entries: []*keep.Entry{{Hub: real, Endpoint: "train", ID: "shared", URLs: []string{"https://hooks.example.com/webhooks/train"}}}},
			running: &api.Status{
				Secret: "strong", Addresses: api.Addresses{Local: "http://127.0.0.1:7860", Public: base},
				Endpoints: []api.Endpoint{{Name: "train", URL: base + "/webhooks/train"}, {Name: "a/b", URL: base + "/webhooks/a/b"}},
			},
		}
		if change != nil {
			change(o)
		}
		return o
	}
	keeps := func(state, problem string) func(*ours) {
		return func(o *ours) {
			o.running.Webhooks = []api.Webhook{{Endpoint: "train", ID: "kept", State: state, Since: since, Error: problem, Hint: "do this"}}
		}
	}
	stopped := func(o *ours) { o.running = nil }
	for name, test := range map[string]struct {
		webhook string // as the Hub sends it
		change  func(*ours)
		place   place
		want    string // result, and words of the text or the fix
	}{
		"right":               {`"url":"https://new.ngrok-free.app/webhooks/train","hasSecret":true`, nil, placeHere, "ok https://new.ngrok-free.app/webhooks/train"},
		"slashes":             {`"url":"https://NEW.ngrok-free.app//webhooks/a//b/","hasSecret":true`, nil, placeHere, "ok posts to"},
		"another path":        {`"url":"https://new.ngrok-free.app/train","hasSecret":true`, nil, placeHere, "fail want /webhooks/NAME"},
		"no path":             {`"url":"https://new.ngrok-free.app","hasSecret":true`, nil, placeHere, "fail no endpoint is at /"},
		"unknown endpoint":    {`"url":"https://new.ngrok-free.app/webhooks/other","hasSecret":true`, nil, placeHere, "fail there are train, a/b"},
		"under dev":           {`"url":"https://new.ngrok-free.app/webhooks/other","hasSecret":true`, func(o *ours) { o.running.Program = &api.Program{} }, placeHere, "ok posts to"},
		"no secret":           {`"url":"https://new.ngrok-free.app/webhooks/train","hasSecret":false`, nil, placeHere, "fail 401"},
		"none wanted":         {`"url":"https://new.ngrok-free.app/webhooks/train"`, func(o *ours) { o.running.Secret = "none" }, placeHere, "ok posts to"},
		"shown and right":     {`"url":"https://new.ngrok-free.app/webhooks/train","secret":"s3cret"`, nil, placeHere, "ok posts to"},
		"shown and wrong":     {`"url":"https://new.ngrok-free.app/webhooks/train","secret":"0ther"`, nil, placeHere, "warn not the one"},
		"in the URL":          {`"url":"https://new.ngrok-free.app/webhooks/train?secret=s3cret"`, nil, placeHere, "ok secret=hidden"},
		"wrong in the URL":    {`"url":"https://new.ngrok-free.app/webhooks/train?secret=0ther"`, nil, placeHere, "warn not the one"},
		"not known here":      {`"url":"https://new.ngrok-free.app/webhooks/train","secret":"0ther"`, func(o *ours) { o.configured = false }, placeHere, "ok posts to"},
		"http":                {`"url":"http://new.ngrok-free.app/webhooks/train","hasSecret":true`, nil, placeHere, "warn --url https://new.ngrok-free.app/webhooks/train"},
		"suspended":           {`"url":"https://new.ngrok-free.app/webhooks/train","hasSecret":true,"disabled":"suspended-after-failure"`, nil, placeHere, "fail hubhook hub enable w1"},
		"disabled":            {`"url":"https://new.ngrok-free.app/webhooks/train","hasSecret":true,"disabled":true`, nil, placeHere, "fail it is disabled"},
		"a URL before":        {`"url":"https://then.example.com/webhooks/train","hasSecret":true`, nil, placeEarlier, "fail hubhook hub update w1 --url https://new.ngrok-free.app/webhooks/train"},
		"a URL in the record": {`"url":"https://gave.example.com/webhooks/train","hasSecret":true`, nil, placeEarlier, "fail was the public URL"},
		"another tunnel":      {`"url":"https://old.ngrok-free.app/webhooks/train","hasSecret":true`, nil, placeEarlier, "warn may be an earlier tunnel"},
		"another's tunnel":    {`"url":"https://old.ngrok-free.app/webhooks/other","hasSecret":true`, nil, placeElsewhere, "ok posts to"},
		"elsewhere":           {`"url":"https://prod.example.com/webhooks/train","disabled":true`, nil, placeElsewhere, "ok it is disabled"},
		"stopped elsewhere":   {`"url":"https://prod.example.com/x","disabled":"suspended-after-failure"`, nil, placeElsewhere, "warn hubhook hub enable w1"},
		"this machine":        {`"url":"http://localhost:7860/webhooks/train","hasSecret":true`, nil, placeNowhere, "fail the Hub can't reach"},
		"another machine":     {`"url":"http://192.168.1.7/hook"`, nil, placeNowhere, "warn the Hub can't reach"},
		"a Hub beside us":     {`"url":"http://localhost:7860/webhooks/train","hasSecret":true`, func(o *ours) { o.hub = "http://127.0.0.1:7870" }, placeHere, "ok posts to"},
		"a Job":               {`"job":{"dockerImage":"python"}`, nil, placeJob, "ok starts a Job in python"},
		"no URL":              {`"url":"::"`, nil, placeNowhere, "warn it has no valid URL"},
		"nothing runs":        {`"url":"https://old.ngrok-free.app/webhooks/train"`, stopped, placeElsewhere, "ok posts to"},

		"kept":               {`"id":"kept","url":"https://new.ngrok-free.app/webhooks/train"`, keeps("active", ""), placeHere, "ok active since 2026-11-27T08:00:00Z"},
		"kept and in doubt":  {`"id":"kept","url":"https://new.ngrok-free.app/webhooks/train"`, keeps("active", "can't be asked"), placeHere, "warn do this"},
		"kept and waiting":   {`"id":"kept","url":"https://gave.example.com/webhooks/train"`, keeps("waiting", ""), placeHere, "warn waiting"},
		"kept and taken":     {`"id":"kept","url":"https://other.example.com/"`, keeps("taken", "somebody has changed its URL"), placeHere, "fail somebody has changed its URL"},
		"kept and suspended": {`"id":"kept","url":"https://new.ngrok-free.app/webhooks/train","disabled":"suspended-after-failure"`, keeps("suspended", ""), placeHere, "fail suspended since 2026-11-27T08:00:00Z"},
		"left and disabled":  {`"id":"kept","url":"https://gave.example.com/webhooks/train","disabled":true`, stopped, placeHere, "ok none runs here"},
		"left and enabled":   {`"id":"kept","url":"https://gave.example.com/webhooks/train"`, stopped, placeHere, "warn hubhook hub cleanup"},
		"shared":             {`"id":"shared","url":"https://hooks.example.com/webhooks/train"`, stopped, placeHere, "ok the processes that share the database keep it"},
		"shared, disabled":   {`"id":"shared","url":"https://hooks.example.com/webhooks/train","disabled":true`, stopped, placeHere, "ok it is disabled meanwhile"},
	} {
		var w hub.Webhook
		if err := json.Unmarshal([]byte(`{"id":"w1",`+test.webhook+`}`), &w); err != nil {
			t.Fatal(err)
		}
		v := here(test.change).judge(w)
		f := v.finding()
		result, words, _ := strings.Cut(test.want, " ")
		if v.place != test.place || string(f.Result) != result || !strings.Contains(f.Text+"\n"+f.Fix, words) {
			t.Errorf("%s: place %d, %s %q, fix %q; want %d, %s", name, v.place, f.Result, f.Text, f.Fix, test.place, test.want)
		}
		if v.bad() != (f.Fix != "") || strings.Contains(f.Text+f.Fix, "s3cret") || strings.Contains(f.Text+f.Fix, "0ther") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
