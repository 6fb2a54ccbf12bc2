// Package browser runs Chromium without a window, for tests, pictures and measurements of the inspector's page.
//
// A [Browser] is one process with a profile of its own. Close removes both. Each [Page] has cookies, storage and cache of its own.
// A page records what only the developer tools show (console, exceptions, requests, dialogs), so that tests notice it; see
// [Page.Complaints].
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/chromedp/chromedp"
)

// Program is the name of the browser on PATH.
const Program = "chromium"

// Browser is a running Chromium. Its methods are safe for concurrent use.
type Browser struct {
	ctx     context.Context
	end     context.CancelFunc // of the browser
	endExec context.CancelFunc // of the process
	profile string
}

// Start starts the browser at path and returns once it answers. The browser runs until Close is called or ctx ends.
func Start(ctx context.Context, path string) (*Browser, error) {
	profile, err := os.MkdirTemp("", "hubhook-chromium-")
	if err != nil {
		return nil, fmt.Errorf("make the browser's profile: %w", err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(profile),
		chromedp.Headless,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-sync", true),
		// Without these flags, pages in the background draw rarely and their timers are slow.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		// /dev/shm is small in containers.
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Env("LANG=en_US.UTF-8", "TZ=UTC"),
		chromedp.WSURLReadTimeout(time.Minute),
	}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox doesn't work for root
	}
	b := &Browser{profile: profile}
	exec, endExec := chromedp.NewExecAllocator(ctx, options...)
	b.endExec = endExec
	// Silence the library's errors: it can't decode events of a newer Chromium, and nothing here needs them.
	quiet := func(string, ...any) {}
	b.ctx, b.end = chromedp.NewContext(exec, chromedp.WithErrorf(quiet), chromedp.WithLogf(quiet))
	if err := chromedp.Do(b.ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", path, err), b.Close())
	}
	return b, nil
}

// Close ends the browser, waits for its processes and removes its profile.
func (b *Browser) Close() error {
	var err error
	if c := chromedp.FromContext(b.ctx); c != nil && c.Browser != nil {
		// A browser that is asked to close ends all its processes.
		err = chromedp.Cancel(b.ctx)
	}
	b.end()
	b.endExec()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("close the browser: %w", err)
	}
	return errors.Join(err, os.RemoveAll(b.profile))
}

var shared struct {
	sync.Mutex
	browser *Browser
	err     error
}

// Shared returns the one browser of this process, started at path by the first call. CloseShared closes it.
func Shared(path string) (*Browser, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.browser == nil && shared.err == nil {
		shared.browser, shared.err = Start(context.Background(), path)
	}
	return shared.browser, shared.err
}

// CloseShared closes the browser of Shared, if there is one.
func CloseShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.browser == nil {
		return nil
	}
	err := shared.browser.Close()
	shared.browser = nil
	return err
}
