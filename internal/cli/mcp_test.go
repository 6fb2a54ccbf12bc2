package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui/inspector"
)

// deskWith returns a desk whose process has these variables, each written as NAME=VALUE.
func deskWith(variables ...string) *agentDesk {
	return &agentDesk{program: &program{Process: Process{LookupEnv: func(name string) (string, bool) {
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}}}}
}

func TestAgentEyes(t *testing.T) {
	e := deskWith("WEBHOOK_SECRET=first-secret, second-secret", "HUBHOOK_DATABASE=postgres://me:password-of-mine@db/hooks").eyes("token-of-the-inspector")
	for text, want := range map[string]string{
		"":               "",
		"two\n\tlines":   "two\n    lines",
		"<first-secret>": "<[secret]>",
		"?secret=second-secret token-of-the-inspector":       "?secret=[secret] [secret]",
		"connect to postgres://me:password-of-mine@db/hooks": "connect to [secret]",
		"password-of-mine": "[secret]",
		"Bearer hf_abcdefghijklmnopqrst, not hf_hub_download": "Bearer [secret], not hf_hub_download",
		"seen\U000e0069\U000e0067\u200b\u202e\x1b[8m":         `seen\U000e0069\U000e0067\u200b\u202e\x1b[8m`,
		strings.Repeat("é", maxAgentText):                     strings.Repeat("é", maxAgentText),
		strings.Repeat("é", maxAgentText+1):                   strings.Repeat("é", maxAgentText) + "…",
		strings.Repeat("x", maxAgentText-3) + "first-secret":  strings.Repeat("x", maxAgentText-3) + "[se…",
	} {
		if have := e.cut(text); have != want {
			t.Errorf("%q: have %q, want %q", text, have, want)
		}
	}
}

func TestAgentPieces(t *testing.T) {
	e := deskWith().eyes("")
	whole := strings.Repeat("é", maxAgentPiece) + "end"
	read := ""
	for len(read) < len(whole) {
		p := e.from(whole, len(read))
		if p.Offset != len(read) || p.Size != len(whole) || p.Text == "" || len(p.Text) > maxAgentPiece {
			t.Fatalf("at %d of %d: %d bytes from %d of %d", len(read), len(whole), len(p.Text), p.Offset, p.Size)
		}
		read += p.Text
	}
	if read != whole {
		t.Error("the pieces do not make the whole")
	}
	if p := e.end(whole); !strings.HasSuffix(p.Text, "éend") || p.Offset+len(p.Text) != len(whole) || !strings.HasPrefix(p.Text, "é") {
		t.Errorf("the end has %d bytes from %d", len(p.Text), p.Offset)
	}
	for offset, want := range map[int]piece{-1: {"aé", 0, 3}, 2: {"é", 1, 3}, 3: {"", 3, 3}, 1 << 40: {"", 3, 3}} {
		if have := e.from("aé", offset); have != want {
			t.Errorf("from %d have %+v, want %+v", offset, have, want)
		}
	}
}

// FuzzAgentText reads anything as what a handler printed. Piece by piece an agent reads all of it, and no character that is hidden from its user.
func FuzzAgentText(f *testing.F) {
	const secret = "s3cretOfTheWebhook"
	for _, text := range []string{secret, "a" + secret[:5], "\U000e0069\u200b\u202e\x1b[8m\xff", "é\r\n\t", "hf_" + strings.Repeat("a", 40), strings.Repeat("é", 20), ""} {
		f.Add(text, 3)
	}
	e := deskWith("WEBHOOK_SECRET=" + secret).eyes("")
	f.Fuzz(func(t *testing.T, text string, repeat int) {
		text = strings.Repeat(text, min(max(repeat, 0), 5000))
		read, size := "", 1
		for len(read) < size {
			p := e.from(text, len(read))
			if size = p.Size; p.Text == "" && len(read) < size {
				t.Fatalf("%q: nothing at %d of %d", text, len(read), size)
			}
			read += p.Text
			if size == 0 {
				break
			}
		}
		if end := e.end(text); !strings.HasSuffix(read, end.Text) || end.Offset+len(end.Text) != len(read) {
			t.Errorf("%q ends with %+v", text, end)
		}
		if strings.Contains(read, secret) || strings.ContainsFunc(read, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q is read as %q", text, read)
		}
	})
}

func TestCleanReachesEveryText(t *testing.T) {
	const dirty, clean = "\u200b", `\u200b`
	type inner struct {
		Text   string
		Source api.Source
	}
	type all struct {
		inner2  string // not shown, as JSON has no such field
		Inner   inner
		Pointer *inner
		None    *inner
		List    []string
		Map     map[string][]inner
		Time    api.Time
		Piece   piece
	}
	have := all{dirty, inner{dirty, dirty}, &inner{dirty, ""}, nil, []string{dirty}, map[string][]inner{"key": {{dirty, ""}}}, api.Time{}, piece{Text: dirty}}
	want := all{dirty, inner{clean, clean}, &inner{clean, ""}, nil, []string{clean}, map[string][]inner{"key": {{clean, ""}}}, api.Time{}, piece{Text: dirty}}
	deskWith().eyes("").clean(reflect.ValueOf(&have).Elem())
	if diff := cmp.Diff(want, have, cmp.AllowUnexported(all{})); diff != "" {
		t.Errorf("-want +have:\n%s", diff)
	}
}

// However much a hubhook has to say, an agent's context has room for it.
func TestAgentAnswersAreBounded(t *testing.T) {
	const many = 2 * maxAgentItems
	long := strings.Repeat("x", 2*maxAgentPiece)
	d := api.Delivery{ID: long, Endpoint: long, State: long, Reason: long, WebhookID: long, Event: api.Event{Scope: long, Action: long}, Repo: api.Repo{Type: long, Name: long}}
	attempt := api.Attempt{Error: long, Stack: long, Output: long, Result: json.RawMessage(`"` + long + `"`)}
	record := api.Record{Delivery: d, Summary: long, Links: slices.Repeat([]payload.Link{{Text: long, URL: long}}, 12), Body: long, AttemptList: slices.Repeat([]api.Attempt{attempt}, 20),
		Headers: http.Header{"User-Agent": {long}, "X-More": {long}}}
	lines := slices.Repeat([]string{long}, 10)
	status := api.Status{
		Endpoints: slices.Repeat([]api.Endpoint{{Name: long, URL: long}}, many),
		Webhooks:  slices.Repeat([]api.Webhook{{URL: long, Watched: lines, Error: long, Hint: long, Changes: slices.Repeat([]api.WebhookNote{{Text: long}}, 10)}}, many),
		Loops:     slices.Repeat([]api.Loop{{Text: long, Hint: long}}, many), CountsByEndpoint: map[string]map[string]int64{},
	}
	inspected := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{
			"/api/status": status, "/api/rejected": api.RejectedList{Rejected: slices.Repeat([]api.Rejected{{Error: long, Fix: long, UserAgent: long}}, 20)},
			"/api/deliveries": api.List{Deliveries: slices.Repeat([]api.Delivery{d}, maxAgentList)}, "/api/deliveries/one": record,
		}[r.URL.Path]
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer inspected.Close()
	c := agentCall{inspector.NewClient(inspected.URL, ""), deskWith().eyes("")}
	defer c.client.CloseIdleConnections()
	ctx := t.Context()
	for name, answer := range map[string]func() (any, error){
		"get_status":      func() (any, error) { return answerOf(c.status(ctx, struct{}{})) },
		"list_deliveries": func() (any, error) { return answerOf(c.list(ctx, listArguments{Limit: maxAgentList})) },
		"get_delivery":    func() (any, error) { return answerOf(c.get(ctx, idArguments{"one"})) },
		"read_delivery_text": func() (any, error) {
			return answerOf(c.read(ctx, readArguments{idArguments: idArguments{"one"}, Part: "body"}))
		},
	} {
		value, err := answer()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.eyes.clean(reflect.ValueOf(value).Elem())
		text, err := json.Marshal(value)
		if err != nil || len(text) > 128<<10 {
			t.Errorf("%s answers with %d bytes (%v)", name, len(text), err)
		}
	}
	if failure := c.eyes.failure(context.DeadlineExceeded).Error(); failure != "context deadline exceeded\n  hint: get_status shows whether hubhook still runs" {
		t.Errorf("a failure reads %q", failure)
	}
}

// answerOf makes an answer something that can be cleaned.
func answerOf[T any](answer T, err error) (any, error) { return &answer, err }
