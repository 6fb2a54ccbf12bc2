//go:build unix

package page_test

import (
	"testing"
)

func TestADeliveryAppearsAndItsStateChangesWithoutAReload(t *testing.T) {
	s := serve(t)
	b := s.open("/")
	b.waitText("main h2", "Nothing has come yet")
	before := b.Documents()

	id := s.send("slow", event("me/data"))
	b.waitState(id, "running")
	b.wait("what the row says", `["slow", "repo.content/update", "dataset me/data"].every((text) => document.querySelector(".row[data-id]").innerText.replaceAll(/\s+/g, " ").includes(text))`)
	s.release <- struct{}{}
	b.waitState(id, "done")

	failed := s.send("evaluate", event("me/data"))
	b.waitState(failed, "dead")
	b.wait("the newer one above", `document.querySelector(".row[data-id]").dataset.id === "`+failed+`"`)
	if b.Documents() != before {
		t.Error("the page was loaded anew")
	}
}

func TestFiltersLiveInTheAddress(t *testing.T) {
	s := serve(t)
	one := s.send("train", event("me/data"))
	two := s.send("evaluate", event("me/data"))
	three := s.send("train", event("you/model"))
	four := s.send("train", `{"event":{"action":"create","scope":"discussion.comment"},"repo":{"type":"model","name":"you/model"}}`, "Webhook-Id", "HUB7")
	b := s.open("/")
	b.waitRows(one, two, three, four)

	b.choose("[name=endpoint]", "train")
	b.waitRows(one, three, four)
	b.waitAddress("?endpoint=train")
	b.choose("[name=scope]", "discussion.comment")
	b.waitRows(four)
	b.waitAddress("?endpoint=train&scope=discussion.comment")
	b.choose("[name=endpoint]", "all endpoints")
	b.choose("[name=scope]", "all scopes")
	b.choose("[name=state]", "dead (1)")
	b.waitRows(two)
	b.waitAddress("?state=dead")
	b.choose("[name=state]", "all states")
	b.fill("combobox", "Repo", "you/model")
	b.press("\r")
	b.waitRows(three, four)
	b.waitAddress("?repo=you/model")
	b.fill("searchbox", "Search", "hub7")
	b.waitRows(four)
	b.waitAddress("?repo=you/model&q=hub7")

	// What comes meanwhile is held against the filter too.
	s.send("train", event("you/model"))
	fits := s.send("train", event("you/model"), "Webhook-Id", "HUB77")
	b.waitRows(four, fits)

	b.do(b.Evaluate("location.reload()", nil))
	b.wait("the filters after a reload", `document.querySelector("#search")?.value === "hub7" && document.querySelector('[name="repo"]').value === "you/model"`)
	b.waitRows(four, fits)

	b.do(b.Evaluate("history.back()", nil))
	b.waitAddress("")
	b.do(b.Evaluate("history.back()", nil))
	b.waitAddress("?state=dead")
	b.waitRows(two)
	b.wait("the filter's field to go back too", `document.querySelector('[name="state"]').value === "dead" && document.querySelector("#search").value === ""`)

	b.click("button", "Clear")
	b.waitAddress("")
}
