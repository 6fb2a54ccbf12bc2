package ui

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/aymanbagabas/go-osc52/v2"

	"github.com/hubhook/hubhook/internal/env"
)

// Copy asks the terminal behind w to put text on the clipboard, by the escape sequence OSC 52, which works over SSH too. Terminals
// don't say whether they obeyed. Inside tmux, `set-clipboard on` or `allow-passthrough on` lets it through.
func Copy(w io.Writer, text string) error {
	sequence := osc52.New(text)
	out := sequence.String()
	switch {
	case os.Getenv(env.Tmux) != "":
		// tmux obeys the plain one or hands on the wrapped one, as it is set up; what it doesn't take has no effect.
		out += sequence.Tmux().String()
	case strings.HasPrefix(os.Getenv(env.Terminal), "screen"):
		out = sequence.Screen().String()
	}
	if _, err := io.WriteString(w, out); err != nil {
		return fmt.Errorf("copying to the clipboard: %w", err)
	}
	return nil
}

// openerGrace is how long a browser's launcher may take to fail.
const openerGrace = 3 * time.Second

// BrowserError says why a URL could not be shown in a browser.
type BrowserError struct {
	URL string
	Err error
}

func (e *BrowserError) Error() string {
	return fmt.Sprintf("opening a browser: %v; open %s yourself", e.Err, e.URL)
}

// Unwrap returns the reason.
func (e *BrowserError) Unwrap() error { return e.Err }

// OpenBrowser shows an http or https URL in the user's browser. The error of a failure is a *BrowserError, whose text has the URL,
// for the user to open it. It returns after three seconds at the most; a launcher that lives on, as some do as long as their
// browser, is left to itself.
func OpenBrowser(address string) error {
	failed := func(err error) error { return &BrowserError{URL: address, Err: err} }
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return failed(errors.New("want an http or https URL"))
	}
	argv := []string{"xdg-open", address}
	switch runtime.GOOS {
	case "darwin":
		argv[0] = "open"
	case "windows":
		argv = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	default:
		// Without a display xdg-open would start a text browser in our own terminal.
		if os.Getenv(env.Display) == "" && os.Getenv(env.WaylandDisplay) == "" {
			return failed(errors.New("there is no display here"))
		}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	ownGroup(cmd) // Ctrl-C is for us, not for the browser
	if err := cmd.Start(); err != nil {
		return failed(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	grace := time.NewTimer(openerGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		if err != nil {
			return failed(fmt.Errorf("%s: %w", argv[0], err))
		}
	case <-grace.C:
	}
	return nil
}
