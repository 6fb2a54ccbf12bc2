//go:build unix

package page_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/testing/browser"
)

// axe is the source of axe-core, exactly as published.
func axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("testdata/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("testdata/axe-core/README.md")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(source)
	if !strings.Contains(string(readme), hex.EncodeToString(sum[:])+"  axe.min.js\n") {
		t.Fatal("testdata/axe-core/axe.min.js is not the one that README.md there has the sum of")
	}
	return string(source)
}

// violation is a rule of axe-core that a page breaks.
type violation struct {
	ID, Help string
	Nodes    []struct {
		Target         []any
		FailureSummary string
	}
}

// checkAccess lets axe-core check the page in its current state: light and dark, wide and narrow.
func (b *tab) checkAccess(what, axe string) {
	b.t.Helper()
	if !value[bool](b, `typeof axe === "object"`) {
		b.do(b.Evaluate(axe+"\n;0", nil))
	}
	for _, look := range []struct {
		name          string
		width, height int
		dark          bool
	}{{"wide and light", 1280, 800, false}, {"wide and dark", 1280, 800, true}, {"narrow and dark", 375, 812, true}, {"narrow and light", 375, 812, false}} {
		b.do(b.Look(look.width, look.height, look.dark))
		b.do(b.Evaluate(`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`, nil)) // the page is drawn again for the new size
		found := value[[]violation](b, `axe.run(document, {
			runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], resultTypes: ["violations"], preload: false,
		}).then((r) => r.violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ target, failureSummary }) => ({ target, failureSummary })) })))`)
		for _, v := range found {
			for _, n := range v.Nodes {
				b.t.Errorf("%s, %s: %s (%s): %v: %s", what, look.name, v.ID, v.Help, n.Target, strings.ReplaceAll(n.FailureSummary, "\n", " "))
			}
		}
		if value[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
			b.t.Errorf("%s, %s: the page is wider than the window: %v", what, look.name, value[[]string](b, `[...document.querySelectorAll("body *")]
				.filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.tagName + "." + e.className)`))
		}
	}
	b.do(b.Look(1280, 800, false))
}

func TestNoViolationOfAccessibilityInDeliveries(t *testing.T) {
	axe := axe(t)
	s := serve(t)
	b := s.open("/")
	b.waitText("main h2", "Nothing has come yet")
	b.checkAccess("the empty state", axe)

	done := s.send("train", event("me/data"), "Webhook-Id", "HUB1")
	s.send("panics", event("me/data"))
	dead := s.send("panics", event("me/other"))
	for range 30 {
		s.send("evaluate", event("me/data"))
	}
	running := s.send("prints", event("me/data"))
	b.waitState(running, "running")
	b.checkAccess("the list", axe)

	for id, text := range map[string]string{done: "succeeded", dead: "index out of range", running: "epoch 1 of 3"} {
		b.follow("?delivery=" + id)
		b.waitText(".detail", text)
		b.checkAccess("the delivery with "+text, axe)
	}
	b.follow("?delivery=" + dead)
	b.waitText(".detail", "index out of range")
	b.do(b.Evaluate(`document.querySelector(".detail details").open = true`, nil))
	b.click("tab", "Raw")
	b.checkAccess("the stack and the raw payload", axe)

	b.press("e")
	b.fill("textbox", "Payload", strings.Replace(event("me/data"), "update", "create", 1))
	b.waitText("dialog .diff .plus", "create")
	b.checkAccess("the editor", axe)
	b.fill("textbox", "Payload", "{")
	b.wait("the mistake", `document.querySelector("dialog textarea").getAttribute("aria-invalid") === "true"`)
	b.checkAccess("the editor with a mistake", axe)
	b.click("button", "Close")
	b.waitNoDialog()

	b.press("c")
	b.waitText("dialog", "Or by its ID")
	b.wait("suggestions", `document.querySelector("dialog li button")`)
	b.checkAccess("the choice of what to compare with", axe)
	b.press(kb.Escape)
	b.waitNoDialog()

	b.follow("?compare=" + done + "," + dead)
	b.waitText(".diff .plus", "me/other")
	b.checkAccess("the comparison", axe)
}

func TestNoViolationOfAccessibilityInOtherViews(t *testing.T) {
	axe := axe(t)
	s := serve(t)
	for range 12 {
		s.send("evaluate", event("me/data"))
	}
	b := s.open("/")
	b.follow("?view=trigger")
	b.wait("the form", `document.querySelector("#trigger-event")`)
	b.do(b.Evaluate(`document.querySelector("form details").open = true`, nil))
	b.checkAccess("the form of the trigger", axe)

	b.follow("?view=refused")
	b.waitText("main", "None since")
	b.checkAccess("no refused request", axe)
	if status, _ := s.post("train", "{}", "X-Webhook-Secret", "wrong"); status != http.StatusForbidden {
		t.Fatalf("a wrong secret was answered %d", status)
	}
	b.waitText("main", "403")
	b.checkAccess("the refused requests", axe)

	now := &api.Time{Time: time.Now()}
	s.upstreams.Store(&[]api.Upstream{
		{Endpoint: "mirror", URL: "http://127.0.0.1:3000/hook", State: "untried"},
		{Endpoint: "answers", URL: "https://" + strings.Repeat("a-long-name.", 12) + "example/hook", State: "ok", Since: now, Error: "500", Failed: now},
		{Endpoint: "down", URL: "http://localhost:1/", State: "failing", Since: now, Error: "forward to http://localhost:1/: connection refused", Failed: now},
	})
	b.follow("?view=status")
	b.waitText("#chart-summary", "12 deliveries")
	b.wait("the upstreams", `document.querySelectorAll(".upstreams li").length === 3`)
	b.wait("the charts", `document.querySelectorAll("main canvas").length === 2`)
	b.do(b.Evaluate(`for (const d of document.querySelectorAll("main details")) d.open = true`, nil))
	b.checkAccess("the status", axe)

	b.follow("?state=dead")
	b.wait("the dead", `document.querySelectorAll(".row[data-state=dead]").length > 10`)
	b.press("?")
	b.waitText("dialog", "replay")
	b.checkAccess("the help", axe)
	b.press(kb.Escape)
	b.waitNoDialog()
	b.click("button", "Replay dead…")
	b.waitText("dialog", "12 dead deliveries")
	b.checkAccess("the replay of all dead", axe)
	b.click("button", "Cancel")
	b.waitNoDialog()

	b.follow("?q=nothing-of-the-kind")
	b.waitText("main", "No delivery matches")
	b.checkAccess("a filter that picks nothing", axe)
}

func TestNoViolationOfAccessibilityWithoutAToken(t *testing.T) {
	axe := axe(t)
	s := serve(t)
	b := s.emptyTab()
	b.do(b.Open(s.private + "/?view=status"))
	b.waitText("body", "token")
	b.checkAccess("the page that asks for the token", axe)
	if b.Forgive(fmt.Sprint(http.StatusUnauthorized)) == 0 {
		t.Error("the browser saw no 401")
	}
}

// follow opens another address of the page as a link in the page does.
func (b *tab) follow(query string) {
	b.t.Helper()
	b.do(b.Evaluate(`(() => { const a = document.createElement("a"); a.href = `+browser.Literal(query)+`; document.body.append(a); a.click(); a.remove(); })()`, nil))
}
