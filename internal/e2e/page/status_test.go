//go:build unix

package page_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/tunnel/ngrok"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

func TestRefusedRequestsAppearByThemselves(t *testing.T) {
	s := serve(t)
	b := s.open("/")
	b.waitText("header", "live")
	if status, _ := s.post("train", event("me/data"), "X-Webhook-Secret", "wrong"); status != http.StatusForbidden {
		t.Fatalf("a wrong secret was answered %d", status)
	}
	if status, _ := s.post("train", `{"event":`, "X-Webhook-Secret", secret); status != http.StatusUnprocessableEntity {
		t.Fatalf("half of a payload was answered %d", status)
	}
	if status, _ := s.post("nobody", event("me/data"), "X-Webhook-Secret", secret); status != http.StatusNotFound {
		t.Fatalf("an unknown endpoint was answered %d", status)
	}
	b.wait("the number of new ones beside the tab", `[...document.querySelectorAll("nav a")].some((a) => /Refused\s+3/.test(a.innerText))`)
	b.do(b.Evaluate(`[...document.querySelectorAll("nav a")].find((a) => a.innerText.startsWith("Refused")).click()`, nil))
	b.waitAddress("?view=refused")
	for _, text := range []string{"403", "the secret is wrong", "422", "404", "nobody", "What to do:", "Go-http-client"} {
		b.waitText("main", text)
	}
	b.wait("nothing new any more", `!/\d/.test([...document.querySelectorAll("nav a")].find((a) => a.innerText.startsWith("Refused")).innerText)`)
	if status, _ := s.post("train", event("me/data")); status != http.StatusUnauthorized {
		t.Fatalf("no secret was answered %d", status)
	}
	b.waitText("main", "401")
	if text := value[string](b, "document.body.textContent"); strings.Contains(text, secret) || strings.Contains(text, "wrong,") {
		t.Error("a secret is on the page")
	}
}

func TestStatusShowsCountsAndAChart(t *testing.T) {
	s := serve(t)
	for range 3 {
		s.send("train", event("me/data"))
	}
	for range 2 {
		s.send("evaluate", event("me/data"))
	}
	b := s.open("/?view=status")
	b.waitText("main", s.public+"/webhooks/train")
	b.wait("the counts", `[...document.querySelectorAll("main tbody tr")].some((r) => /^evaluate\s.*\b2\b/.test(r.innerText.replaceAll("\n", " ")))`)
	b.waitText("#chart-summary", "5 deliveries in the last hour, 2 of them dead")
	drawn := `[...document.querySelectorAll("main canvas")].length === 2 && [...document.querySelectorAll("main canvas")].every((c) => c.width > 200 &&
		new Set(new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size > 4)`
	b.wait("two charts with something drawn in them", drawn)
	b.wait("the legend", `["done", "dead", "median"].every((name) => [...document.querySelectorAll("main .u-legend th")].some((th) => th.innerText.trim() === name))`)

	s.send("train", event("me/data"))
	b.click("button", "Last day")
	b.waitText("#chart-summary", "6 deliveries in the last 24 hours, 2 of them dead")
	b.wait("the charts anew", drawn)

	// A count leads to its deliveries.
	b.do(b.Evaluate(`[...document.querySelectorAll("main tbody tr")].find((r) => r.innerText.startsWith("evaluate")).querySelector("a").click()`, nil))
	b.waitAddress("?endpoint=evaluate&state=dead")
	b.wait("two rows", `document.querySelectorAll(".row[data-state=dead]").length === 2`)
}

func TestTheTunnelsHistory(t *testing.T) {
	edge := tunneltest.NewEdge(t, tunneltest.Options{})
	s := serve(t, func(c *server.Config) {
		c.Provider = ngrok.New(ngrok.Config{Authtoken: tunneltest.DefaultToken, ConnectURL: edge.Addr(), ConnectCAs: edge.CAs(), Getenv: func(string) string { return "" }})
	})
	b := s.open("/?view=status")
	url := "https://" + edge.Domain()
	b.waitText("header", url)
	b.waitText("main .url", url)
	b.waitText("main", url+"/webhooks/train")

	edge.Drop()
	b.wait("the interruption and its end, newest first", `(() => {
		const phases = [...document.querySelectorAll("main details ol li")].map((li) => li.textContent);
		const lost = phases.findIndex((text) => text.includes("reconnecting"));
		return lost > 0 && phases.slice(0, lost).some((text) => text.includes("online"));
	})()`)
	b.waitText("main strong", "online")
}

// The URLs that endpoints forward to are on the page, and how they stand, as it changes.
func TestTheUpstreams(t *testing.T) {
	s := serve(t)
	b := s.open("/?view=status")
	b.waitText("main", s.public+"/webhooks/train")
	if text := value[string](b, "document.querySelector('main').innerText"); strings.Contains(text, "Forwarded to") {
		t.Error("what nothing is forwarded to has a heading")
	}
	mirror := api.Upstream{Endpoint: "mirror", URL: "http://127.0.0.1:3000/hook", State: "untried"}
	now := func(state, failed string) {
		mirror.State, mirror.Error = state, failed
		if state != "untried" {
			mirror.Since = &api.Time{Time: time.Now()}
		}
		if failed != "" {
			mirror.Failed = &api.Time{Time: time.Now()}
		}
		s.upstreams.Store(&[]api.Upstream{mirror})
		s.changed(mirror)
	}
	for _, step := range []struct{ state, failed, shown string }{
		{"untried", "", "not tried yet"},
		{"failing", "connection refused, and it leaks " + secret, "does not answer"},
		{"ok", "500 Internal Server Error", "answers, since"},
	} {
		now(step.state, step.failed)
		b.waitText(".upstreams", step.shown)
		if step.failed != "" {
			b.waitText(".upstreams", step.failed[:20])
		}
	}
	if text := value[string](b, "document.body.textContent"); strings.Contains(text, secret) {
		t.Error("a secret is on the page")
	}
}

// The webhooks that are kept on the Hub stand on the status view, with their state, what was changed and what is wrong, and follow by themselves.
func TestTheKeptWebhooks(t *testing.T) {
	hub := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(hub.Close)
	lent, err := hub.Create(hubtest.Webhook{URL: "https://own.example.com/hook", Secret: "another", Watched: []hubtest.Watched{{Type: "user", Name: "me"}}})
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{"HF_ENDPOINT": hub.URL, "HF_TOKEN": hub.Accounts.AddToken(hubtest.Token{})}
	s := serve(t, func(c *server.Config) {
		c.PublicURL, c.Watch, c.Webhooks = "https://public.example.com", []string{"train=dataset:me/data"}, []string{"evaluate=no-such-webhook", "train=" + lent}
		c.Getenv = func(name string) (string, bool) { value, ok := variables[name]; return value, ok }
	})
	b := s.open("/?view=status")
	item := func(i int, text string) {
		t.Helper()
		b.wait(fmt.Sprintf("webhook %d says %q", i, text), fmt.Sprintf(`document.querySelectorAll(".kept > li")[%d]?.textContent.includes(%q)`, i, text))
	}
	for _, text := range []string{"active", "https://public.example.com/webhooks/train", "dataset:me/data", "0 of 1,000 deliveries", "made on the Hub"} {
		item(0, text)
	}
	item(1, "borrowed, pointed at https://public.example.com/webhooks/train")
	for _, text := range []string{"failed", "the Hub knows none with this ID", "hubhook hub list"} {
		item(2, text)
	}
	s.post("train", event("me/data"), "X-Webhook-Secret", secret)
	b.checkAccess("the kept webhooks", axe(t))
	if text := value[string](b, "document.body.textContent"); strings.Contains(text, secret) || strings.Contains(text, "another") {
		t.Error("a secret is on the page")
	}
}

// What is followed on the Hub stands there with its state, and what is wrong with it.
func TestTheFollowed(t *testing.T) {
	hub := hubtest.NewServer(hubtest.Options{})
	t.Cleanup(hub.Close)
	r, err := hub.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c *server.Config) {
		c.Follow, c.FollowEvery = []string{"dataset:me/data", "train=model:me/none"}, 10*time.Second
		c.Getenv = func(name string) (string, bool) {
			if name == "HF_ENDPOINT" {
				return hub.URL, true
			}
			return "", false
		}
	})
	b := s.open("/?view=status")
	item := func(i int, text string) {
		t.Helper()
		b.wait(fmt.Sprintf("item %d says %q", i, text), fmt.Sprintf(`document.querySelectorAll("[aria-labelledby=h-followed] li")[%d]?.textContent.includes(%q)`, i, text))
	}
	for _, text := range []string{"following", "dataset:me/data", "a look every 10 s", "0 deliveries"} {
		item(0, text)
	}
	for _, text := range []string{"failing", "for train", "model:me/none", "404", "check its name"} {
		item(1, text)
	}
	b.checkAccess("what is followed", axe(t))
	if err := r.CreateTag("v1", ""); err != nil {
		t.Fatal(err)
	}
	// The delivery that it led to has a tag in the list.
	b = s.open("/")
	b.waitText("main", "follow")
}
