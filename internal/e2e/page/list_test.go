//go:build unix

package page_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/browser"
	"github.com/hubhook/hubhook/server"
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

func TestWhyADeliveryIsSkippedIsShown(t *testing.T) {
	s := serve(t)
	id := s.send("picky", event("me/data"))
	b := s.open("/?delivery=" + id)
	b.waitState(id, "skipped")
	b.wait("the reason in the list", `document.querySelector(".row[data-id] .c-state").title === "<b>me/data</b> is not ours"`)
	b.wait("the reason on the delivery", `document.querySelector("p.reason.skipped")?.textContent === "<b>me/data</b> is not ours"`)
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

	// Deliveries that come meanwhile are filtered too.
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

// The page is drawn again with each delivery. It must keep the text that the user is typing.
func TestWhatIsBeingWrittenStays(t *testing.T) {
	s := serve(t)
	b := s.open("/")
	b.waitText("main", "Nothing has come yet")
	b.fill("combobox", "Repo", "you/mo")
	id := s.send("train", event("you/model"))
	b.waitState(id, "done")
	b.wait("what was written to be there", `document.querySelector('[name="repo"]').value === "you/mo"`)
	b.fill("searchbox", "Search", "you model ")
	b.waitAddress("?repo=you/mo&q=you+model")
	b.wait("the space that a next word begins with", `document.querySelector("#search").value === "you model "`)
}

// The terminal's links have this form.
func TestADeliveryIsOpenedByItsAddress(t *testing.T) {
	s := serve(t)
	id := s.send("panics", event("me/data"))
	s.send("train", event("me/data"))
	b := s.open("/?delivery=" + id)
	b.waitText(".detail", "me/data: main moved, ce9a467 → 575db8b")
	b.waitText(".detail", "index out of range [3] with length 3")
	b.wait("links to the Hub", `[...document.querySelectorAll(".detail a")].some((a) => a.href === "https://huggingface.co/datasets/me/data" && a.rel.includes("noopener"))`)
	b.waitText(".detail summary", "Stack")
	b.wait("the secret to be hidden", `!document.body.textContent.includes(`+browser.Literal(secret)+`)`)

	b = s.open("/?delivery=01M8NOTHING")
	b.waitText(".detail", "no such delivery")
	if b.Forgive("404") == 0 {
		t.Error("the browser saw no 404")
	}
}

func TestOutputIsShownWhileTheHandlerRuns(t *testing.T) {
	s := serve(t)
	id := s.send("prints", event("me/data"))
	b := s.open("/?delivery=" + id)
	b.waitText(".detail pre", "epoch 1 of 3")
	b.waitState(id, "running")
	s.release <- struct{}{}
	b.waitText(".detail pre", "epoch 2 <b>of</b> 3")
	b.waitState(id, "done")
}

// stored stores deliveries that were handled before the server starts, and returns their IDs, oldest first.
func stored(t *testing.T, dir string, n int) []string {
	t.Helper()
	now := time.Now().Add(-time.Hour)
	q, err := queue.Open(t.Context(), queue.Config{Dir: dir, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start([]queue.Endpoint{{Name: "train"}}); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, n)
	results := make(chan error, n)
	for i := range ids {
		repo := fmt.Sprintf("me/data-%d", i%50)
		go func() {
			receipt, err := q.Accept(context.Background(), queue.Arrival{
				Endpoint: "train", Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(event(repo)),
				Scope: "repo.content", Action: "update", RepoType: "dataset", RepoName: repo,
			})
			if err == nil {
				ids[i] = receipt.ID
			}
			results <- err
		}()
	}
	for range ids {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestTenThousandScroll(t *testing.T) {
	var ids []string
	s := serve(t, func(c *server.Config) { ids = stored(t, c.Data, 10_000) })
	newest, oldest := slices.Max(ids), slices.Min(ids)
	b := s.open("/")
	b.wait("the newest one", `document.querySelector(".row[data-id]")?.dataset.id === `+browser.Literal(newest))
	few := `document.querySelectorAll(".row[data-id]").length < 100`
	if !value[bool](b, few) {
		t.Errorf("%d rows are drawn", value[int](b, `document.querySelectorAll(".row[data-id]").length`))
	}

	// Down to the end, a window at a time.
	b.wait("the end of the list", `(() => {
		const list = document.getElementById("rows");
		list.scrollTop = list.scrollHeight;
		return document.querySelector('.row[data-id="`+oldest+`"]');
	})()`)
	if !value[bool](b, few) {
		t.Errorf("%d rows are drawn at the end", value[int](b, `document.querySelectorAll(".row[data-id]").length`))
	}

	// New rows above leave the rows in sight in place.
	b.do(b.Evaluate(`document.getElementById("rows").scrollTop = 5000`, nil))
	inSight := `(() => {
		const list = document.getElementById("rows").getBoundingClientRect();
		const row = [...document.querySelectorAll(".row[data-id]")].find((r) => r.getBoundingClientRect().top >= list.top);
		return row && row.dataset.id + " " + Math.round(row.getBoundingClientRect().top - list.top);
	})()`
	b.wait("rows in the middle", inSight+` && document.querySelector(".row[data-id]").dataset.id !== `+browser.Literal(oldest)+` && !document.querySelector('.row[data-id="`+oldest+`"]')`)
	before := value[string](b, inSight)
	for range 7 {
		s.send("train", event("me/new"))
	}
	b.waitText("button", "7 new deliveries")
	if after := value[string](b, inSight); after != before {
		t.Errorf("the first row in sight was %s, and is %s now", before, after)
	}
	b.click("button", "↑ 7 new deliveries")
	b.wait("the new ones", `[...document.querySelectorAll(".row[data-id]")].slice(0, 7).every((r) => r.innerText.includes("me/new"))`)
}
