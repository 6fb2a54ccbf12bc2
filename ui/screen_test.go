package ui

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/api"
)

const (
	firstID  = "01J9ZK3N8V6QY2W4T7X5R1M0AB"
	secondID = "01J9ZK3N8V6QY2W4T7X5R1M0AC"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

func atNoon() time.Time { return noon }

// show returns what a screen prints on its two streams.
func show(t *testing.T, c Config, happen func(*Screen)) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	c.Output, c.Errors, c.Now = &o, &e, atNoon
	s := New(c)
	happen(s)
	if err := s.Close(t.Context()); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return o.String(), e.String()
}

func equal(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("printed otherwise than wanted (-want +got):\n%s", diff)
	}
}

var ready = Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", PublicURL: "https://example.ngrok-free.app", InspectorURL: "http://127.0.0.1:7861/?token=4f9c", Endpoints: []api.Endpoint{
	{Name: "trigger_training", URL: "https://example.ngrok-free.app/webhooks/trigger_training"},
	{Name: "trigger_evaluation", URL: "https://example.ngrok-free.app/webhooks/trigger_evaluation"},
}, Version: "1.0.0"}, Keys: true}

const (
	noSecret = `Webhook secret is not defined. This means your webhook endpoints will be open to everyone.
  hint: set WEBHOOK_SECRET or pass --secret; see https://huggingface.co/docs/hub/webhooks#webhook-secret
`
	banner = `Running on local URL:   http://127.0.0.1:7860
Running on public URL:  https://example.ngrok-free.app
Inspector:              http://127.0.0.1:7861/?token=4f9c

Webhooks are correctly setup and ready to use:
  - POST https://example.ngrok-free.app/webhooks/trigger_training
  - POST https://example.ngrok-free.app/webhooks/trigger_evaluation
Go to https://huggingface.co/settings/webhooks to setup your webhooks.
Try it: hubhook trigger repo.content --endpoint trigger_training   (or press t)

`
)

func TestBanner(t *testing.T) {
	out, errs := show(t, Config{}, func(s *Screen) { s.Ready(ready) })
	equal(t, out, banner)
	equal(t, errs, noSecret)
}

func TestBannerInOnePlace(t *testing.T) {
	var both bytes.Buffer
	s := New(Config{Output: &both, Errors: &both})
	s.Ready(ready)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, both.String(), noSecret+"\n"+banner)
}

func TestBannerLocalOnly(t *testing.T) {
	out, errs := show(t, Config{}, func(s *Screen) {
		s.Ready(Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", Endpoints: []api.Endpoint{{Name: "inbox", URL: "http://127.0.0.1:7860/webhooks/inbox"}}, Secret: true}})
		s.Warn(Notice{
			Text: "there is no public URL, the Hub can't reach this server: NGROK_AUTHTOKEN is not set",
			Hint: "copy your token from https://dashboard.ngrok.com/get-started/your-authtoken\nand run: NGROK_AUTHTOKEN=... hubhook",
		})
	})
	equal(t, out, `Running on local URL:   http://127.0.0.1:7860

Webhooks are correctly setup and ready to use:
  - POST http://127.0.0.1:7860/webhooks/inbox
Go to https://huggingface.co/settings/webhooks to setup your webhooks.
Try it: hubhook trigger repo.content

`)
	equal(t, errs, `hubhook: there is no public URL, the Hub can't reach this server: NGROK_AUTHTOKEN is not set
  hint: copy your token from https://dashboard.ngrok.com/get-started/your-authtoken
        and run: NGROK_AUTHTOKEN=... hubhook
`)
}

func TestBannerWhileChecking(t *testing.T) {
	r := ready
	r.Checking = true
	out, _ := show(t, Config{}, func(s *Screen) { s.Ready(r) })
	if want := "Running on public URL:  https://example.ngrok-free.app  (checking)\n"; !strings.Contains(out, want) {
		t.Errorf("got %q, want %q in it", out, want)
	}
}

var delivery = api.Delivery{ID: firstID, Endpoint: "trigger_training", Event: api.Event{Scope: "repo.content", Action: "update"}, Repo: api.Repo{Type: "dataset", Name: "me/data"}}

func TestEventLines(t *testing.T) {
	out, errs := show(t, Config{}, func(s *Screen) {
		s.Delivery(delivery)
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "trigger_training", N: 1, State: "done", Status: 200}, Duration: 14 * time.Millisecond})
		s.Rejected(api.Rejected{Endpoint: "trigger_training", Status: 401, Error: "no secret was sent", Fix: "paste it into the webhook's settings on the Hub"})
		d := delivery
		d.ID, d.Endpoint, d.Source, d.Synthetic, d.ReplayOf = secondID, "mirror", api.Sample, true, firstID
		s.Delivery(d)
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", N: 1, State: "retrying", Error: "boom", Status: 202, RetryAt: api.Time{Time: noon.Add(998 * time.Millisecond)}}, Attempts: 5, Duration: 2300 * time.Millisecond})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", N: 2, State: "retrying", Error: "boom"}})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", N: 3, State: "done"}, Duration: 80 * time.Second})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", N: 5, State: "dead", Error: "boom"}})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", N: 1, State: "dead", Error: "boom"}})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", State: "skipped", Reason: "branch is dev", Status: 200}})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", N: 1, State: "waiting"}, Duration: time.Second})
		s.Delivery(api.Delivery{ID: secondID, Endpoint: "mirror", State: "dead", Reason: "event.scope is missing"})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "mirror", State: "dead", Error: "event.scope is missing", Status: 200}})
		d.Synthetic, d.ReplayOf, d.Duplicate = false, "", true
		s.Delivery(d)
	})
	equal(t, out, `--> trigger_training  repo.content/update  dataset me/data            01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  done in 14 ms  200                              01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  401: no secret was sent; paste it into the webhook's settings on the Hub
--> mirror            repo.content/update  dataset me/data  (sample)  (replay)  01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            failed in 2.3 s: boom; retrying in 1 s (attempt 2 of 5)  202  01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            failed in 0 ms: boom; retrying now (attempt 3)  01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            done in 1 min 20 s (attempt 3)                  01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            dead after 5 attempts: boom                     01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            dead after 1 attempt: boom                      01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            skipped: branch is dev  200                     01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            handed back after 1 s; it runs again at the next start  01J9ZK3N8V6QY2W4T7X5R1M0AC
--> mirror            cannot be handled: event.scope is missing       01J9ZK3N8V6QY2W4T7X5R1M0AC
<-- mirror            dead: event.scope is missing  200               01J9ZK3N8V6QY2W4T7X5R1M0AC
--> mirror            repo.content/update  dataset me/data  (duplicate)  01J9ZK3N8V6QY2W4T7X5R1M0AC
`)
	equal(t, errs, "")
}

func TestColumnFitsTheLongestEndpoint(t *testing.T) {
	out, _ := show(t, Config{}, func(s *Screen) {
		s.Ready(Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", Endpoints: []api.Endpoint{{Name: "inbox"}, {Name: "evaluate"}}, Secret: true}})
		s.Rejected(api.Rejected{Endpoint: "nobody/serves/this/one", Status: 404, Error: "no such endpoint"})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "inbox", State: "skipped"}})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "inbox", State: "merged", MergedInto: secondID}})
	})
	events := out[strings.LastIndex(out, "\n\n")+2:] // the banner ends with an empty line
	equal(t, events, `<-- nobody/serves/this/one  404: no such endpoint
<-- inbox     skipped                                         01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- inbox     merged into 01J9ZK3N8V6QY2W4T7X5R1M0AC          01J9ZK3N8V6QY2W4T7X5R1M0AB
`)
}

func TestNarrowTerminal(t *testing.T) {
	for width, want := range map[int]string{
		200: `--> trigger_training  repo.content/update  dataset me/data            01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  done in 14 ms  200                              01J9ZK3N8V6QY2W4T7X5R1M0AB
`,
		90: `--> trigger_training  repo.content/update  dataset me/data      01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  done in 14 ms  200                        01J9ZK3N8V6QY2W4T7X5R1M0AB
`,
		80: `--> trigger_training  repo.content/update  dataset me/data
                      01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  done in 14 ms  200              01J9ZK3N8V6QY2W4T7X5R1M0AB
`,
		40: `--> trigger_training  repo.content/update  dataset me/data
              01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  done in 14 ms  200
              01J9ZK3N8V6QY2W4T7X5R1M0AB
`,
		20: `--> trigger_training  repo.content/update  dataset me/data
01J9ZK3N8V6QY2W4T7X5R1M0AB
<-- trigger_training  done in 14 ms  200
01J9ZK3N8V6QY2W4T7X5R1M0AB
`,
	} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			out, _ := show(t, Config{Width: func() int { return width }}, func(s *Screen) {
				s.Delivery(delivery)
				s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "trigger_training", N: 1, State: "done", Status: 200}, Duration: 14 * time.Millisecond})
			})
			equal(t, out, want)
		})
	}
}

func TestTunnelLines(t *testing.T) {
	out, errs := show(t, Config{}, func(s *Screen) {
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "connecting"})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "online", URL: "https://a.example"})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "reachable", URL: "https://a.example"})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "unreachable", URL: "https://a.example", Error: "no such host", Hint: "the Hub may reach it all the same"})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "reconnecting", Error: "EOF"})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "url changed", URL: "https://b.example", Endpoints: []api.Endpoint{{Name: "inbox", URL: "https://b.example/webhooks/inbox"}}})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "failed", Error: "ERR_NGROK_107", Hint: "correct the token"})
		s.Tunnel(api.TunnelChange{Provider: "ngrok", Phase: "stopped"})
	})
	equal(t, out, `Tunnel (ngrok) connecting
Tunnel (ngrok) online: https://a.example
https://a.example is reachable.

THE PUBLIC URL HAS CHANGED. It is now https://b.example
Paste these into https://huggingface.co/settings/webhooks:
  - POST https://b.example/webhooks/inbox

Tunnel (ngrok) stopped
`)
	equal(t, errs, `hubhook: https://a.example does not lead here: no such host
  hint: the Hub may reach it all the same
hubhook: the ngrok tunnel is down, reconnecting: EOF
hubhook: opening the ngrok tunnel: ERR_NGROK_107
  hint: correct the token
`)
}

func TestStopped(t *testing.T) {
	out, _ := show(t, Config{}, func(s *Screen) {
		s.Info(Notice{Text: "2 deliveries of an earlier run are unfinished and run now", Hint: "--fresh discards them"})
		s.Stopped(Stopped{})
		s.Stopped(Stopped{Stopped: api.Stopped{Reason: "interrupt", Unfinished: 1}, HadTunnel: true})
		s.Stopped(Stopped{Stopped: api.Stopped{Unfinished: 3}})
	})
	equal(t, out, `2 deliveries of an earlier run are unfinished and run now
  hint: --fresh discards them
Stopped.
Stopped: interrupt. 1 delivery is unfinished and runs at the next start.
The Hub still posts to this URL; disable the webhook at https://huggingface.co/settings/webhooks, or run with --watch.
Stopped. 3 deliveries are unfinished and run at the next start.
`)
}

func TestKeptWebhooks(t *testing.T) {
	train := api.Webhook{Endpoint: "train", ID: "1", State: "active", Watched: []string{"dataset:me/data", "user:me"}}
	lent := api.Webhook{Endpoint: "mirror", ID: "654bbbc16f2ec14d77f109cc", State: "waiting", Borrowed: true}
	out, errs := show(t, Config{}, func(s *Screen) {
		endpoints := []api.Endpoint{{Name: "train", URL: "https://a/webhooks/train"}, {Name: "mirror", URL: "https://a/webhooks/mirror"}}
		left := api.Webhook{Endpoint: "gone", State: "left"}
		s.Ready(Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", Endpoints: endpoints, Secret: true, Webhooks: []api.Webhook{left, train, lent}}})
		s.Webhook(api.WebhookChange{Webhook: train, Text: "pointed at https://b"})
		train.Error, train.Hint = "the Hub answered 500", "try again later"
		s.Webhook(api.WebhookChange{Webhook: train})
		s.Webhook(api.WebhookChange{Webhook: train, Again: true})
		train.Error = ""
		s.Webhook(api.WebhookChange{Webhook: train})
		s.Tunnel(api.TunnelChange{Phase: "url changed", URL: "https://b", Endpoints: []api.Endpoint{{Name: "train", URL: "https://b/webhooks/train"}}, Kept: true})
	})
	equal(t, out, `Running on local URL:   http://127.0.0.1:7860

Webhooks are correctly setup and ready to use:
  - POST https://a/webhooks/train
  - POST https://a/webhooks/mirror
hubhook keeps these webhooks on the Hub right:
  - train: watches dataset:me/data, user:me
  - mirror: borrows webhook 654bbbc16f2ec14d77f109cc
Try it: hubhook trigger repo.content --endpoint train

Webhook of train on the Hub is active: pointed at https://b.
Webhook of train on the Hub is active.

THE PUBLIC URL HAS CHANGED. It is now https://b
`)
	equal(t, errs, `hubhook: webhook of train on the Hub: the Hub answered 500
  hint: try again later
`)
}

// hostile is what a stranger could put into a name or an error.
const hostile = "a\x1b[2J\x1b]0;owned\x07\r\nhubhook: fake\u009b31m\u202egnp\u2028\x7f\xff\U000e0041é"

func TestHostileText(t *testing.T) {
	everything := func(s *Screen) {
		s.Ready(Ready{Ready: api.Ready{LocalURL: hostile, PublicURL: hostile, InspectorURL: hostile, Endpoints: []api.Endpoint{{Name: hostile, URL: hostile}}}})
		s.Warn(Notice{Text: hostile, Hint: hostile + "\n" + hostile})
		s.Info(Notice{Text: hostile, Hint: hostile})
		kept := api.Webhook{Endpoint: hostile, ID: hostile, State: hostile, Watched: []string{hostile}}
		s.Ready(Ready{Ready: api.Ready{LocalURL: hostile, Endpoints: []api.Endpoint{{Name: hostile, URL: hostile}}, Webhooks: []api.Webhook{kept}}})
		s.Webhook(api.WebhookChange{Webhook: kept, Text: hostile})
		kept.Error, kept.Hint = hostile, hostile
		s.Webhook(api.WebhookChange{Webhook: kept, Text: hostile})
		s.Delivery(api.Delivery{ID: hostile, Endpoint: hostile, State: "dead", Reason: hostile, Event: api.Event{Scope: hostile, Action: hostile}, Repo: api.Repo{Type: hostile, Name: hostile}})
		for _, state := range []string{"done", "retrying", "dead", "skipped", "waiting", hostile} {
			s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: hostile, Endpoint: hostile, State: state, Reason: hostile}})
		}
		s.Rejected(api.Rejected{Endpoint: hostile, Status: 404, Error: hostile, Fix: hostile})
		for _, phase := range []string{"online", "failed", "url changed", "reachable", hostile} {
			s.Tunnel(api.TunnelChange{Provider: hostile, Phase: phase, URL: hostile, Error: hostile, Hint: hostile, Endpoints: []api.Endpoint{{Name: hostile, URL: hostile}}})
		}
		s.Followed(api.Followed{Item: hostile, Endpoint: hostile, State: "failing", Error: hostile, Hint: hostile})
		s.Stopped(Stopped{Stopped: api.Stopped{Reason: hostile}})
	}
	for _, asJSON := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%t", asJSON), func(t *testing.T) {
			out, errs := show(t, Config{JSON: asJSON}, everything)
			for _, bad := range []string{"\x1b", "\x07", "\r", "\nhubhook: fake", "\u009b", "\u202e", "\u2028", "\x7f", "\xff", "\U000e0041"} {
				if strings.Contains(out+errs, bad) {
					t.Errorf("%q came through in\n%s%s", bad, out, errs)
				}
			}
			if !strings.Contains(out, "é") {
				t.Error("a letter that harms nobody is gone")
			}
			if !asJSON {
				return
			}
			for line := range strings.Lines(out) {
				var v map[string]any
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Errorf("%s: %v", line, err)
				}
				if v["type"] == "rejected" && v["error"] != strings.ToValidUTF8(hostile, "\ufffd") {
					t.Errorf("the error became %q", v["error"])
				}
			}
		})
	}
}

func TestLongTextIsCut(t *testing.T) {
	long := strings.Repeat("ab", 1<<20)
	out, _ := show(t, Config{}, func(s *Screen) {
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "inbox", State: "dead", Error: long}})
		s.Rejected(api.Rejected{Endpoint: long, Status: 404, Error: long, Fix: long})
	})
	for line := range strings.Lines(out) {
		if len(line) > 1200 || !strings.Contains(line, "…") {
			t.Errorf("a line of %d bytes, want a short one with … in it", len(line))
		}
	}
	if want := "  " + firstID + "\n"; !strings.Contains(out, want) {
		t.Errorf("the ID is gone from %q", out)
	}
}

func TestJSONLines(t *testing.T) {
	now := api.Time{Time: noon}
	out, errs := show(t, Config{JSON: true}, func(s *Screen) {
		s.Ready(Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", Secret: true, Version: "1.0.0"}, Keys: true})
		d := delivery
		d.State, d.Source, d.WebhookID, d.Received.Time, d.Synthetic, d.ReplayOf = "waiting", api.Sample, "wh-1", noon.Add(-time.Second), true, secondID
		s.Delivery(d)
		s.Delivery(api.Delivery{ID: secondID, Endpoint: "inbox", State: "dead", Reason: "no scope", Source: api.Hub, Received: now, Duplicate: true})
		ended := func(e api.AttemptEvent, d time.Duration) {
			ms := api.Milliseconds(d)
			e.Delivery, e.Endpoint, e.DurationMS = firstID, "inbox", &ms
			s.Outcome(Outcome{AttemptEvent: e, Duration: d})
		}
		ended(api.AttemptEvent{N: 1, Started: now, State: "done", Status: 200}, 14500*time.Microsecond)
		ended(api.AttemptEvent{N: 2, Started: now, State: "retrying", Error: "boom", RetryAt: now}, time.Second)
		ended(api.AttemptEvent{State: "skipped", Reason: "not main"}, 0)
		ended(api.AttemptEvent{State: "merged", MergedInto: secondID}, 0)
		s.Rejected(api.Rejected{Time: now, Endpoint: "inbox", Status: 401, Reason: "no_secret", Error: "no secret was sent", Fix: "paste it <there>", UserAgent: "Hub", Times: 1})
		s.Tunnel(api.TunnelChange{Time: now, Provider: "ngrok", Phase: "failed", Error: "ERR_NGROK_107", Hint: "correct the token"})
		s.Webhook(api.WebhookChange{Webhook: api.Webhook{Endpoint: "inbox", ID: "1", State: "active", Since: now, URL: "https://a", Watched: []string{"user:me"},
			Changes: []api.WebhookNote{{Time: now, Text: "enabled"}}, Deliveries: 3, DeliveryLimit: 1000}, Text: "enabled"})
		s.Info(Notice{Text: "2 deliveries are unfinished"})
		s.Stopped(Stopped{Stopped: api.Stopped{Reason: "interrupt", Unfinished: 2}, HadTunnel: true})
	})
	const at, began = `"time":"2026-11-23T12:00:00.123Z"`, `"started":"2026-11-23T12:00:00.123Z"`
	equal(t, out, `{"type":"ready",`+at+`,"local_url":"http://127.0.0.1:7860","endpoints":[],"secret":true,"version":"1.0.0"}
{"type":"delivery",`+at+`,"id":"`+firstID+`","endpoint":"trigger_training","state":"waiting","reason":"","webhook_id":"wh-1","replay_of":"`+secondID+`","merged_into":"","source":"sample","synthetic":true,"received":"2026-11-23T11:59:59.123Z","event":{"scope":"repo.content","action":"update"},"repo":{"type":"dataset","name":"me/data"},"attempts":0,"duplicates":0,"replays":0,"duration_ms":0}
{"type":"delivery",`+at+`,"id":"`+secondID+`","endpoint":"inbox","state":"dead","reason":"no scope","webhook_id":"","replay_of":"","merged_into":"","source":"hub","synthetic":false,"received":"2026-11-23T12:00:00.123Z","event":{"scope":"","action":""},"repo":{"type":"","name":""},"attempts":0,"duplicates":0,"replays":0,"duration_ms":0,"duplicate":true}
{"type":"attempt",`+at+`,"delivery":"`+firstID+`","endpoint":"inbox","n":1,`+began+`,"state":"done","duration_ms":15,"error":"","status":200}
{"type":"attempt",`+at+`,"delivery":"`+firstID+`","endpoint":"inbox","n":2,`+began+`,"state":"retrying","duration_ms":1000,"error":"boom","retry_at":"2026-11-23T12:00:00.123Z"}
{"type":"attempt",`+at+`,"delivery":"`+firstID+`","endpoint":"inbox","n":0,"state":"skipped","duration_ms":0,"error":"","reason":"not main"}
{"type":"attempt",`+at+`,"delivery":"`+firstID+`","endpoint":"inbox","n":0,"state":"merged","duration_ms":0,"error":"","merged_into":"`+secondID+`"}
{"type":"rejected",`+at+`,"endpoint":"inbox","status":401,"reason":"no_secret","error":"no secret was sent","fix":"paste it <there>","user_agent":"Hub","times":1}
{"type":"tunnel",`+at+`,"provider":"ngrok","phase":"failed","url":"","error":"ERR_NGROK_107","hint":"correct the token"}
{"type":"webhook",`+at+`,"endpoint":"inbox","id":"1","borrowed":false,"state":"active","since":"2026-11-23T12:00:00.123Z","url":"https://a","watched":["user:me"],"error":"","hint":"","changes":[{"time":"2026-11-23T12:00:00.123Z","text":"enabled"}],"deliveries":3,"delivery_limit":1000,"text":"enabled"}
{"type":"stopped",`+at+`,"reason":"interrupt","unfinished":2}
`)
	equal(t, errs, `hubhook: opening the ngrok tunnel: ERR_NGROK_107
  hint: correct the token
2 deliveries are unfinished
`)
}

func TestColoursAndLinksOnATerminalOnly(t *testing.T) {
	for _, c := range []struct {
		name, noColor, term string
		config              Config
		want, links         bool
	}{
		{name: "terminal", term: "xterm", want: true, links: true},
		{name: "Linux console", term: "linux", want: true},
		{name: "NO_COLOR", term: "xterm", noColor: "0"},
		{name: "dumb", term: "dumb"},
		{name: "NoColor", term: "xterm", config: Config{NoColor: true}},
		{name: "JSON", term: "xterm", config: Config{JSON: true, Errors: io.Discard}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", c.noColor)
			t.Setenv("TERM", c.term)
			master, terminal, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer master.Close()
			shown := make(chan string, 1)
			go func() {
				b, _ := io.ReadAll(master) // ends with an error of its own once the terminal is closed
				shown <- string(b)
			}()
			c.config.Output, c.config.Now = terminal, atNoon
			if c.config.Errors == nil {
				c.config.Errors = terminal
			}
			s := New(c.config)
			s.LinkDeliveries(deliveryPage)
			s.Ready(Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", Secret: true}})
			s.Delivery(delivery)
			s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "trigger_training", N: 1, State: "done", Status: 200}, Duration: 14 * time.Millisecond})
			s.Warn(Notice{Text: "no"})
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			terminal.Close()
			got := <-shown
			if coloured := strings.Contains(got, "\x1b["); coloured != c.want {
				t.Errorf("coloured is %t, want %t:\n%q", coloured, c.want, got)
			}
			if links := strings.Contains(got, "\x1b]"); links != c.links {
				t.Errorf("links are there: %t, want %t:\n%q", links, c.links, got)
			}
			if c.links {
				line := "\x1b[36;1m--> \x1b[0;22mtrigger_training  repo.content/update  \x1b[2mdataset\x1b[22m \x1b[1mme/data\x1b[22m            " + linked(deliveryPage(firstID), "\x1b[2m"+firstID+"\x1b[22m") + "\r\n"
				if !strings.Contains(got, line) {
					t.Errorf("got\n%q\nwant in it\n%q", got, line)
				}
			}
		})
	}
}

const inspectorURL = "http://127.0.0.1:7861"

func deliveryPage(id string) string { return inspectorURL + "/?delivery=" + id }

// linked is text that a terminal shows as a hyperlink.
func linked(target, words string) string {
	return "\x1b]8;;" + target + "\x1b\\" + words + "\x1b]8;;\x1b\\"
}

func TestDeliveriesAreLinks(t *testing.T) {
	happen := func(s *Screen) {
		s.LinkDeliveries(deliveryPage)
		s.Ready(ready)
		s.Delivery(delivery)
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: firstID, Endpoint: "trigger_training", State: "merged", MergedInto: secondID}})
		s.Outcome(Outcome{AttemptEvent: api.AttemptEvent{Delivery: secondID, Endpoint: "trigger_training", N: 1, State: "done", Status: 200}, Duration: 14 * time.Millisecond})
		s.Rejected(api.Rejected{Endpoint: "trigger_training", Status: 401, Error: "no secret was sent"})
	}
	// A link takes no room: without its sequences the text is that of a terminal without links, whatever the width.
	yes := func() bool { return true }
	for width := range 140 {
		c := Config{Width: func() int { return width }}
		plain, _ := show(t, c, happen)
		c.Hyperlinks = yes
		out, errs := show(t, c, happen)
		for _, id := range []string{firstID, secondID} {
			if n, want := strings.Count(out, linked(deliveryPage(id), id)), 2; n != want {
				t.Fatalf("width %d: %d links to %s, want %d:\n%q", width, n, id, want, out)
			}
			out = strings.ReplaceAll(out, linked(deliveryPage(id), id), id)
		}
		if out != plain {
			t.Fatalf("width %d: with links\n%s\nwithout\n%s", width, out, plain)
		}
		if strings.Contains(errs, "\x1b") {
			t.Fatalf("there is a link in the warnings: %q", errs)
		}
	}

	out, _ := show(t, Config{Hyperlinks: yes}, func(s *Screen) { s.Delivery(delivery) })
	if strings.Contains(out, "\x1b") {
		t.Errorf("without a page there is a link: %q", out)
	}
	out, _ = show(t, Config{Hyperlinks: yes, JSON: true}, happen)
	if strings.Contains(out, "]8;;") {
		t.Errorf("there is a link in JSON: %q", out)
	}
	out, _ = show(t, Config{Hyperlinks: yes}, func(s *Screen) {
		s.LinkDeliveries(func(string) string { return inspectorURL + "/\x1b\\\x1b[2J" })
		s.Delivery(delivery)
	})
	if strings.Contains(out, "\x1b") {
		t.Errorf("a URL gets a sequence of its own to the terminal: %q", out)
	}
}

// TestSlowWriter prints to a pipe that nobody reads: the calls return, and once somebody reads, what was left out has been counted.
func TestSlowWriter(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%t", asJSON), func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			s := New(Config{Output: w, Errors: io.Discard, JSON: asJSON})
			const callers, each = 8, 6000
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for range each {
						s.Delivery(delivery)
					}
				})
			}
			all.Wait() // for ever, if a call waited for the pipe
			s.Stopped(Stopped{})
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.Close(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("Close of a stuck screen: %v, want %v", err, context.Canceled)
			}

			counted := make(chan int, 1)
			go func() {
				total := 0
				for lines := bufio.NewScanner(r); lines.Scan(); {
					line := lines.Text()
					var n int
					if asJSON {
						var v struct {
							Type    string
							LeftOut int `json:"left_out"`
						}
						if err := json.Unmarshal([]byte(line), &v); err != nil {
							t.Errorf("%s: %v", line, err)
						}
						if n = v.LeftOut; v.Type == "delivery" {
							n++
						}
					} else if _, err := fmt.Sscanf(line, "... %d lines were left out", &n); err != nil && strings.HasPrefix(line, "-->") {
						n = 1
					}
					total += n
				}
				counted <- total
			}()
			if err := s.Close(t.Context()); err != nil {
				t.Errorf("Close once somebody reads: %v", err)
			}
			w.Close()
			if got := <-counted; got != callers*each {
				t.Errorf("lines shown and counted: %d, want %d", got, callers*each)
			}
		})
	}
}

// failing fails until mended.
type failing struct {
	mu     sync.Mutex
	err    error
	shown  bytes.Buffer
	failed chan struct{}
}

func (f *failing) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		half, _ := f.shown.Write(b[:len(b)/2])
		select {
		case f.failed <- struct{}{}:
		default:
		}
		return half, f.err
	}
	return f.shown.Write(b)
}

func TestWriterThatFails(t *testing.T) {
	full := errors.New("no space left on device")
	out := &failing{err: full, failed: make(chan struct{}, 1)}
	var errs bytes.Buffer
	s := New(Config{Output: out, Errors: &errs})
	s.Stopped(Stopped{})
	<-out.failed
	out.mu.Lock()
	out.err = nil
	out.mu.Unlock()
	s.Stopped(Stopped{Stopped: api.Stopped{Unfinished: 1}})
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("Close after the writer was mended: %v", err)
	}
	equal(t, errs.String(), `hubhook: printing what happens: no space left on device
  hint: serving goes on; see the deliveries with: hubhook deliveries list
`)
	got := out.shown.String()
	if want := "Stop\n... 1 line was left out here: they came faster than they could be shown\nStopped. 1 delivery is unfinished and runs at the next start.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	out.err = full
	s = New(Config{Output: out, Errors: io.Discard})
	s.Stopped(Stopped{})
	if err := s.Close(t.Context()); !errors.Is(err, full) {
		t.Errorf("Close: %v, want %v", err, full)
	}
}

func TestSilentScreen(t *testing.T) {
	s := New(Config{Output: io.Discard, Errors: io.Discard})
	if n := testing.AllocsPerRun(100, func() { s.Delivery(delivery) }); n != 0 {
		t.Errorf("a line for io.Discard costs %v allocations, want none", n)
	}
	s.Ready(ready)
	s.Warn(Notice{Text: "x"})
	s.Tunnel(api.TunnelChange{Phase: "failed"})
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                    "0 ms",
		0:                               "0 ms",
		49 * time.Microsecond:           "0 ms",
		420 * time.Microsecond:          "0.4 ms",
		9960 * time.Microsecond:         "10 ms",
		14 * time.Millisecond:           "14 ms",
		999_400 * time.Microsecond:      "999 ms",
		999_600 * time.Microsecond:      "1 s",
		2300 * time.Millisecond:         "2.3 s",
		59_960 * time.Millisecond:       "1 min",
		80 * time.Second:                "1 min 20 s",
		time.Hour - 100*time.Nanosecond: "1 h",
		125 * time.Minute:               "2 h 5 min",
	} {
		if got := string(appendDuration(nil, d)); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func BenchmarkScreen(b *testing.B) {
	for _, c := range []struct {
		name string
		json bool
	}{{"text", false}, {"json", true}} {
		b.Run(c.name, func(b *testing.B) {
			f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			s := New(Config{Output: f, JSON: c.json})
			b.ReportAllocs()
			for b.Loop() {
				s.Delivery(delivery)
			}
			if err := s.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func TestFollowed(t *testing.T) {
	out, errs := show(t, Config{}, func(s *Screen) {
		items := []api.Followed{{Item: "dataset:me/data", State: "standby", EverySeconds: 90}, {Item: "bucket:me/b", Endpoint: "train", State: "standby"}}
		s.Ready(Ready{Ready: api.Ready{LocalURL: "http://127.0.0.1:7860", Secret: true, Endpoints: []api.Endpoint{{Name: "train", URL: "http://127.0.0.1:7860/webhooks/train"}}, Followed: items}, OnlyFollows: true})
		v := items[0]
		for _, change := range []struct{ now, err string }{
			{"starting", ""}, {"following", ""}, {"failing", "the Hub answered 500"}, {"following", ""}, {"gone", "the Hub answered 404"}, {"standby", ""},
		} {
			v.State, v.Error, v.Hint = change.now, change.err, ""
			s.Followed(v)
		}
	})
	wantOut := `Running on local URL:   http://127.0.0.1:7860

Webhooks are correctly setup and ready to use:
  - POST http://127.0.0.1:7860/webhooks/train
hubhook follows these on the Hub, without a webhook:
  - dataset:me/data, a look every 1m30s
  - bucket:me/b, by its live feed, for train
No tunnel is opened: nothing here needs a public URL. Pass --tunnel NAME to open one.
Try it: hubhook trigger repo.content

Following dataset:me/data works again.
Following dataset:me/data has passed to another process.
`
	wantErrs := `hubhook: follow dataset:me/data: the Hub answered 500; it is tried again
hubhook: follow dataset:me/data: it was deleted, or can't be seen any more: the Hub answered 404; it is tried again
`
	if out != wantOut || errs != wantErrs {
		t.Errorf("printed were\n%s\nand\n%s", out, errs)
	}
}

// Where the Hub can't be asked at all, the banner says so.
func TestNothingIsFollowed(t *testing.T) {
	out, _ := show(t, Config{}, func(s *Screen) {
		off := api.Followed{Item: "dataset:me/data", State: "off", Error: "read HF_ENDPOINT: want a URL", Hint: "it looks like https://huggingface.co"}
		s.Ready(Ready{Ready: api.Ready{Endpoints: []api.Endpoint{{Name: "in"}}, Followed: []api.Followed{off, off}}, OnlyFollows: true})
	})
	if want := "\nNothing is followed on the Hub: read HF_ENDPOINT: want a URL\n  hint: it looks like https://huggingface.co\nTry it"; !strings.Contains(out, want) {
		t.Errorf("the banner is\n%s", out)
	}
}

// Where the Hub can't be asked at all, the banner says that no webhook is kept.
func TestNoWebhookIsKept(t *testing.T) {
	out, _ := show(t, Config{}, func(s *Screen) {
		failed := api.Webhook{Endpoint: "in", State: "failed", Watched: []string{"dataset:me/data"}, Error: "read HF_ENDPOINT: want a URL", Hint: "it looks like https://huggingface.co"}
		s.Ready(Ready{Ready: api.Ready{Endpoints: []api.Endpoint{{Name: "in"}}, Webhooks: []api.Webhook{failed, failed}}})
	})
	if want := "\nNo webhook is kept on the Hub: read HF_ENDPOINT: want a URL\n  hint: it looks like https://huggingface.co\nTry it"; !strings.Contains(out, want) {
		t.Errorf("the banner is\n%s", out)
	}
}

// An outage of the Hub is not told once for each of many items.
func TestManyFollowed(t *testing.T) {
	var all []api.Followed
	for i := range 30 {
		all = append(all, api.Followed{Item: fmt.Sprintf("model:me/%d", i), EverySeconds: 60})
	}
	out, errs := show(t, Config{}, func(s *Screen) {
		s.Ready(Ready{Ready: api.Ready{Endpoints: []api.Endpoint{{Name: "in"}}, Followed: all}})
		for _, state := range []string{"failing", "failing", "following", "following"} {
			for _, v := range all {
				if v.State = state; state == "failing" {
					v.Error = "the Hub answered 500"
				}
				s.Followed(v)
			}
		}
	})
	if !strings.Contains(out, "  - model:me/9, a look every 1m0s\n  - and 20 more\n") {
		t.Errorf("the banner is\n%s", out)
	}
	if n := strings.Count(errs, "answered 500"); n != 2*mostFailing {
		t.Errorf("%d of %d items are told to fail twice", n, len(all))
	}
	if n := strings.Count(errs, "other followed items fail too"); n != 1 {
		t.Errorf("it is said %d times that others fail too:\n%s", n, errs)
	}
	if works := out[strings.LastIndex(out, "Try it"):]; strings.Count(works, "works again") != mostFailing+1 || !strings.HasSuffix(works, "Following the other items works again.\n") {
		t.Errorf("at the end is said\n%s", works)
	}
}
