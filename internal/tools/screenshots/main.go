//go:build unix

// Command screenshots takes the pictures that the guides show. For those of the inspector's page it starts servers with deliveries that look
// like those of a small team, opens their pages in Chromium, and writes PNGs. For that of the terminal it runs hubhook's binary on one, and
// writes what it printed as SVGs.
//
//	go run ./internal/tools/screenshots -dir docs/images
//
// Past deliveries have fixed times, so that the pictures change only when the page does. IDs, and the times of refused requests and of
// the chart, are new in each run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/testing/browser"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// fixed is the time of the newest delivery in pictures of the list.
var fixed = time.Date(2026, time.November, 23, 9, 41, 30, 0, time.UTC)

func main() {
	dir := flag.String("dir", "docs/images", "where to write the pictures")
	terminal := flag.Bool("terminal", false, "take the pictures of the terminal alone, for which Python is needed and no Chromium")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "screenshots: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *terminal); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, terminal bool) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	edge, closeEdge, err := openEdge()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeEdge()) }()
	screen, err := record(ctx, edge)
	if err != nil {
		return fmt.Errorf("record a session on a terminal: %w", err)
	}
	if err := drawTerminal(dir, screen); err != nil || terminal {
		return err
	}
	path, err := exec.LookPath(browser.Program)
	if err != nil {
		return fmt.Errorf("look for the browser: %w; install it, from Debian's package chromium for example", err)
	}
	b, err := browser.Start(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	st := studio{b, edge, dir}
	for _, take := range []func(context.Context) error{st.deliveries, st.status, st.nothingYet} {
		if err := take(ctx); err != nil {
			return err
		}
	}
	return nil
}

// studio holds what all pictures share.
type studio struct {
	browser *browser.Browser
	edge    *tunneltest.Edge
	dir     string
}

// deliveries takes the pictures of the list and of single deliveries at the fixed time.
func (st studio) deliveries(ctx context.Context) error {
	return withSite(ctx, st.edge, siteConfig{end: fixed}, func(s *site) error {
		// The page takes the fixed time for today.
		today := fmt.Sprintf(`{
			const now = %d;
			globalThis.Date = class extends Date {
				constructor(...args) { super(...(args.length ? args : [now])); }
				static now() { return now; }
			};
		}`, fixed.UnixMilli())
		c, err := st.newCamera(s, browser.PageConfig{Script: today})
		if err != nil {
			return err
		}
		defer c.page.Close()

		c.open("/")
		c.wait("the list", `document.querySelectorAll(".row[data-id]").length > 15 && document.querySelector(".row[data-state=running]") && document.querySelector(".row[data-state=retrying]")`)
		c.take("list")

		c.open("/?delivery=" + s.ids["retried"])
		c.wait("the delivery", `document.querySelectorAll(".attempt").length === 2`)
		c.take("detail")

		c.open("/?delivery=" + s.ids["failed"])
		c.wait("the delivery", `document.querySelector(".attempt")`)
		c.press("e")
		c.wait("the editor", `document.querySelector("dialog[open] textarea")?.value`)
		c.do(c.page.Evaluate(`(() => {
			const field = document.querySelector("dialog textarea");
			field.value = field.value.replace("refs/heads/experiment", "refs/heads/main").replace('"private": true', '"private": false');
			field.dispatchEvent(new Event("input", { bubbles: true }));
			field.blur();
		})()`, nil))
		c.wait("the differences", `document.querySelectorAll("dialog .diff .plus").length === 2 && document.querySelector("#editor-verdict").innerText.startsWith("Valid")`)
		c.do(c.page.Evaluate(`document.querySelector("dialog .diff").scrollIntoView({ block: "end" })`, nil))
		c.take("diff")

		c.open("/?compare=" + s.ids["earlier"] + "," + s.ids["failed"])
		c.wait("the comparison", `document.querySelector(".diff .plus")`)
		c.take("compare")

		c.look(1280, 800, true)
		c.open("/?delivery=" + s.ids["panicked"])
		c.wait("the delivery", `document.querySelector(".stack")`)
		c.do(c.page.Evaluate(`document.querySelector(".stack").open = true`, nil))
		c.take("dark")

		c.look(375, 812, false)
		c.open("/?delivery=" + s.ids["discussion"])
		c.wait("the delivery", `document.querySelector(".attempt")`)
		c.take("narrow")
		return c.finish()
	})
}

// status takes the pictures of the chart and the refused requests, which show only the last hour.
func (st studio) status(ctx context.Context) error {
	return withSite(ctx, st.edge, siteConfig{end: time.Now(), busy: true}, func(s *site) error {
		if err := s.refuse(ctx); err != nil {
			return err
		}
		c, err := st.newCamera(s, browser.PageConfig{})
		if err != nil {
			return err
		}
		defer c.page.Close()
		c.open("/?view=status")
		c.wait("the status", `document.querySelectorAll("main canvas").length === 2 && document.querySelector("main").innerText.includes("reachable")`)
		c.take("status")
		c.open("/?view=refused")
		c.wait("the refused requests", `document.querySelectorAll(".refusal").length === 3`)
		c.take("refused")
		return c.finish()
	})
}

// nothingYet takes the picture of the page before the first delivery.
func (st studio) nothingYet(ctx context.Context) error {
	return withSite(ctx, st.edge, siteConfig{}, func(s *site) error {
		c, err := st.newCamera(s, browser.PageConfig{})
		if err != nil {
			return err
		}
		defer c.page.Close()
		c.open("/")
		c.wait("the first steps", `document.querySelector("main ol li code") && document.querySelector("header").innerText.includes("https://")`)
		c.take("empty")
		return c.finish()
	})
}

// camera takes pictures of a site's page. After the first error it does nothing more; finish returns that error.
type camera struct {
	site *site
	page *browser.Page
	dir  string
	err  error
}

func (st studio) newCamera(s *site, config browser.PageConfig) (*camera, error) {
	page, err := st.browser.NewPage(config)
	if err != nil {
		return nil, err
	}
	return &camera{site: s, page: page, dir: st.dir}, nil
}

func (c *camera) do(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *camera) open(path string) {
	if c.err == nil {
		c.do(c.page.Open(c.site.address(path)))
	}
	c.wait("the page to be up to date", `document.querySelector("header [role=status]")?.innerText.trim() === "live"`)
}

func (c *camera) wait(what, expression string) {
	if c.err == nil {
		c.do(c.page.Wait(what, expression))
	}
}

func (c *camera) press(keys string) {
	if c.err == nil {
		c.do(c.page.Press(keys))
	}
}

func (c *camera) look(width, height int, dark bool) {
	if c.err == nil {
		c.do(c.page.Look(width, height, dark))
	}
}

// take writes one picture, once the page has stopped drawing.
func (c *camera) take(name string) {
	if c.err == nil {
		c.do(c.page.Evaluate(`document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))`, nil))
	}
	if c.err != nil {
		return
	}
	png, err := c.page.Picture()
	if err == nil {
		png, err = smaller(png)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, name+".png"), png, 0o644)
	}
	if err == nil {
		_, err = fmt.Println(filepath.Join(c.dir, name+".png"), len(png)>>10, "KiB")
	}
	c.do(err)
}

// finish returns the first error. A page with complaints is an error too, because its pictures must not be shown.
func (c *camera) finish() error {
	if c.err != nil {
		return c.err
	}
	if complaints := c.page.Complaints(c.site.private); len(complaints) > 0 {
		return fmt.Errorf("the page complains: %q", complaints)
	}
	return nil
}
