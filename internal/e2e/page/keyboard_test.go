//go:build unix

package page_test

import (
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/hubhook/hubhook/internal/testing/browser"
)

// waitCursor waits until the list's row of a delivery has the focus.
func (b *tab) waitCursor(id string) {
	b.t.Helper()
	b.wait("the focus on the row of "+id, `document.activeElement?.closest(".row")?.dataset.id === `+browser.Literal(id))
}

func (b *tab) waitNoDialog() {
	b.t.Helper()
	b.wait("no dialog", `!document.querySelector("dialog[open]")`)
}

func TestKeys(t *testing.T) {
	s := serve(t)
	oldest := s.send("train", event("me/data"))
	middle := s.send("evaluate", event("me/data"))
	newest := s.send("train", event("me/data"))
	b := s.open("/")
	b.waitRows(oldest, middle, newest)

	b.press("j")
	b.waitCursor(newest)
	b.press("j")
	b.waitCursor(middle)
	b.press("k")
	b.waitCursor(newest)
	b.press("jj")
	b.waitCursor(oldest)
	b.press("k")
	b.waitCursor(middle)
	b.press(kb.Enter)
	b.waitAddress("?delivery=" + middle)
	b.waitText(".detail", "no model card")
	b.press("j")
	b.waitAddress("?delivery=" + oldest)
	b.press("k")
	b.waitAddress("?delivery=" + middle)
	b.waitText(".detail", "no model card")

	b.press("?")
	b.waitText("dialog", "replay")
	b.press("r") // behind a dialog keys do nothing
	b.press(kb.Escape)
	b.waitNoDialog()

	b.press("e")
	b.wait("the editor", `document.querySelector("dialog[open] textarea")`)
	b.press(kb.Escape)
	b.waitNoDialog()

	b.press("c")
	b.waitText("dialog", "Compare with")
	b.press(kb.Escape)
	b.waitNoDialog()

	b.press("/")
	b.wait("the focus in the search", `document.activeElement?.id === "search"`)
	b.press("rj/?")
	b.wait("what was typed to be a search, and no command", `document.activeElement.value === "rj/?" && new URLSearchParams(location.search).get("q") === "rj/?"`)
	b.waitText("main", "No delivery matches")
	b.waitNoDialog()
	b.do(b.Fill("searchbox", "Search", ""))
	b.waitRows(oldest, middle, newest)
	b.press(kb.Escape)
	b.wait("the focus to have left the search", `document.activeElement?.id !== "search"`)

	b.press(kb.Escape)
	b.waitAddress("")
	b.press("t")
	b.waitAddress("?view=trigger")
	b.press(kb.Escape)
	b.waitAddress("")

	// All that time nothing was replayed. Now it is.
	b.waitRows(oldest, middle, newest)
	b.do(b.Evaluate(`document.querySelector('.row[data-id="`+middle+`"] a').focus()`, nil))
	b.press(kb.Enter)
	b.waitText(".detail", "no model card")
	b.press("r")
	replayed := b.shown(middle)
	b.waitRows(oldest, middle, newest, replayed)
}

// The focused element gets Enter.
func TestEnterPressesAButton(t *testing.T) {
	s := serve(t)
	id := s.send("train", event("me/data"))
	b := s.open("/?delivery=" + id)
	b.waitText(".detail", "repo.content/update")
	b.do(b.Focus("tab", "Raw"))
	b.press(kb.Enter)
	b.wait("the raw payload", `document.querySelector("#payload-panel").innerText === `+browser.Literal(event("me/data")))
	b.press(kb.ArrowLeft)
	b.wait("the tree", `document.querySelector("#payload-panel details")`)
}
