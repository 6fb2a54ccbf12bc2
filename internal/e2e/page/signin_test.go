//go:build unix

package page_test

import (
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/testing/browser"
)

// A new browser follows a link to a delivery, is asked for the token, and gets to the delivery with it: by mouse, with hubhook's printed
// URL on the clipboard, and by keyboard, with the token alone.
func TestSignIn(t *testing.T) {
	s := serve(t)
	id := s.send("train", event("me/data"))
	for _, pasted := range []string{s.private + "/?token=" + token, token} {
		page := s.emptyTab(func(c *browser.PageConfig) { c.Width, c.Height, c.Dark = 360, 640, strings.Contains(pasted, "?") })
		page.do(page.Open(s.private + "/?delivery=" + id))
		page.wait("the field for the token to have the focus", `document.activeElement.id === "token"`)
		if wide := value[int](page, "document.documentElement.scrollWidth"); wide > 360 {
			t.Errorf("the page is %d pixels wide in a window of 360", wide)
		}
		page.fill("textbox", "URL or token", "guessed")
		page.click("button", "Open")
		page.waitText("[role=alert]", "not the token")
		if text := value[string](page, "document.documentElement.outerHTML"); strings.Contains(text, "guessed") {
			t.Errorf("the page repeats what was pasted: %s", text)
		}
		page.fill("textbox", "URL or token", pasted)
		if pasted == token {
			page.press("\r")
		} else {
			page.click("button", "Open")
		}
		page.waitAddress("?delivery=" + id)
		page.waitText("main", id)
		if n := page.Forgive("401"); n != 2 {
			t.Errorf("the page was refused %d times, want 2", n)
		}
		// The cookie lasts as long as the browser, for every link.
		page.do(page.Open(s.private + "/?state=done"))
		page.waitRows(id)
	}
}
