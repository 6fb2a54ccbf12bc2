//go:build unix

package page_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/testing/browser"
)

// shown waits until a delivery other than the given one is open, and returns its ID.
func (b *tab) shown(not string) string {
	b.t.Helper()
	b.wait("another delivery", `new URLSearchParams(location.search).get("delivery") > `+browser.Literal(not))
	return value[string](b, `new URLSearchParams(location.search).get("delivery")`)
}

func TestReplayOpensTheNewDelivery(t *testing.T) {
	s := serve(t)
	first := s.send("train", event("me/data"))
	b := s.open("/?delivery=" + first)
	b.waitText(".detail", "repo.content/update")

	b.click("button", "Replay r")
	second := b.shown(first)
	b.waitState(second, "done")
	b.waitText(".detail dd", first)

	b.wait("the new delivery's detail", `document.querySelector(".detail").innerText.includes(`+browser.Literal(second)+`)`)
	b.press("r")
	third := b.shown(second)
	b.waitState(third, "done")

	var record api.Record
	s.get("/api/deliveries/"+third, &record)
	if record.ReplayOf != second || record.Body != event("me/data") {
		t.Errorf("the replay repeats %q with the body %s", record.ReplayOf, record.Body)
	}
}

func TestTheHandlerGetsTheEditedBytes(t *testing.T) {
	s := serve(t)
	original := strings.Replace(event("me/data"), `"private":false`, `"private":false,"likes":12345678901234567890,"score":1.0,"small":1e-7,"twice":1,"twice":2`, 1)
	first := s.send("train", original)
	if got := <-s.bodies; got != original {
		t.Fatalf("the handler got %s", got)
	}
	b := s.open("/?delivery=" + first)
	b.waitText(".detail", "repo.content/update")
	b.press("e")
	b.wait("the editor", `document.querySelector("dialog[open] textarea")?.value.includes("12345678901234567890")`)
	text := value[string](b, `document.querySelector("dialog textarea").value`)

	b.fill("textbox", "Payload", strings.Replace(text, `"me/data"`, `"me/data`, 1))
	b.wait("the button to be disabled", `document.querySelector("dialog button.primary").disabled`)
	b.wait("the mistake to be told", `/JSON|string|line \d+/.test(document.querySelector("#editor-verdict").innerText) && document.querySelector("dialog textarea").getAttribute("aria-invalid") === "true"`)

	edited := strings.Replace(text, `"me/data"`, `"me/other"`, 1)
	b.fill("textbox", "Payload", edited)
	b.waitText("dialog .diff .plus", `"name": "me/other"`)
	b.waitText("dialog .diff .minus", `"name": "me/data"`)
	b.waitText("#editor-verdict", "Valid")
	b.click("button", "Replay Ctrl ⏎")
	second := b.shown(first)
	b.waitState(second, "done")
	if got := <-s.bodies; got != edited {
		t.Errorf("the handler got\n%s\nwant\n%s", got, edited)
	}
	for _, number := range []string{"12345678901234567890", "1.0,", "1e-7"} {
		if !strings.Contains(edited, number) {
			t.Errorf("the editor's text has no %s", number)
		}
	}
	var record api.Record
	s.get("/api/deliveries/"+second, &record)
	if record.Body != edited || record.ReplayOf != first {
		t.Errorf("stored as a replay of %q: %s", record.ReplayOf, record.Body)
	}
	// The tree shows numbers as they were sent, too.
	b.waitText(".tree .number", "12345678901234567890")
}

func TestDiscard(t *testing.T) {
	s := serve(t)
	id := s.send("slow", event("me/data"))
	b := s.open("/?delivery=" + id)
	b.waitState(id, "running")
	b.AnswerNext(false)
	b.click("button", "Discard")
	b.AnswerNext(true)
	b.click("button", "Discard")
	b.waitState(id, "discarded")
	b.wait("nothing more to discard", `![...document.querySelectorAll(".detail button")].some((b) => b.innerText === "Discard")`)
	if dialogs := b.Dialogs(); len(dialogs) != 2 || !strings.Contains(dialogs[1], id) {
		t.Errorf("the page asked %q", dialogs)
	}
}

func TestTriggerSendsTheChangedSample(t *testing.T) {
	s := serve(t)
	b := s.open("/?view=trigger")
	b.wait("the form", `document.querySelector("#trigger-event") !== null`)
	b.choose("#trigger-event", "discussion.comment/create")
	b.fill("textbox", "comment.content", `It isn't "done" <b>yet</b>`)
	b.fill("textbox", "discussion.num", "7")
	b.choose("#trigger-endpoint", "train")
	b.waitText("form code", "hubhook trigger discussion.comment create --endpoint train")
	b.click("button", "Send")
	id := b.shown("")
	b.waitState(id, "done")
	var body struct {
		Comment    struct{ Content string }
		Discussion struct{ Num int }
	}
	if err := json.Unmarshal([]byte(<-s.bodies), &body); err != nil || body.Comment.Content != `It isn't "done" <b>yet</b>` || body.Discussion.Num != 7 {
		t.Errorf("the handler got %+v, %v", body, err)
	}
}

func TestCompareTwo(t *testing.T) {
	s := serve(t)
	first := s.send("train", event("me/data"))
	second := s.send("evaluate", event("me/other"))
	b := s.open("/?delivery=" + second)
	b.waitText(".detail", "repo.content/update")
	b.press("c")
	b.fill("textbox", "Or by its ID", first)
	b.press("\r")
	b.waitAddress("?delivery=" + second + "&compare=" + first + "," + second)
	b.waitText(".diff .minus", `"name": "me/data"`)
	b.waitText(".diff .plus", `"name": "me/other"`)
	b.waitText("table", "no model card")
	b.click("link", "Back to the delivery")
	b.waitText(".detail", "no model card")
}

func TestReplayAllDeadOfAFilter(t *testing.T) {
	s := serve(t)
	for range 3 {
		s.send("evaluate", event("me/data"))
	}
	other := s.send("evaluate", event("you/data"))
	b := s.open("/?state=dead&repo=me/data")
	b.wait("three dead", `document.querySelectorAll(".row[data-state=dead]").length === 3`)
	b.click("button", "Replay dead…")
	b.waitText("dialog", "3 dead deliveries of this filter")
	b.click("button", "Replay 3")
	b.waitText("dialog", "3 of 3 replayed")
	b.click("button", "Close")
	b.wait("three more, dead again", `document.querySelectorAll(".row[data-state=dead]").length === 6`)
	var record api.Record
	s.get("/api/deliveries/"+other, &record)
	if record.Replays != 0 {
		t.Error("one that the filter doesn't pick was replayed too")
	}
}
