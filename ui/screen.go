// Package ui is what people see of hubhook: the banner and the event lines of the terminal, its keys, and the home page.
//
// It knows nothing of deliveries but what its own view types say.
package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/hubhook/hubhook/internal/env"
)

// Config says where a [Screen] prints, and how. The zero Config prints text to the process's own streams.
type Config struct {
	// Output gets the banner and the event lines. Nil is os.Stdout; io.Discard silences them at no cost.
	Output io.Writer
	// Errors gets warnings and errors. Nil is os.Stderr.
	Errors io.Writer
	// JSON prints one JSON object a line to Output instead of text. Warnings and errors stay text, on Errors.
	JSON bool
	// NoColor turns colours off. They are off anyway where the stream is not a terminal, where NO_COLOR is not empty, and where
	// TERM is dumb.
	NoColor bool
	// Now tells the time. Nil is time.Now.
	Now func() time.Time
	// Hyperlinks tells whether text on Output may have hyperlinks, by the escape sequence OSC 8. Nil: wherever there are colours, since
	// terminals leave out a sequence that they don't know; but for the Linux console (TERM is linux), which may print it.
	Hyperlinks func() bool
	// Width tells how many characters a line of Output holds; 0 is any number. Nil asks the terminal, and is 0 for anything else.
	Width func() int
}

// Screen prints what happens. Its methods are safe for concurrent use, and none of them waits for the terminal, file or pipe behind
// it: lines go through a bounded buffer. Those that find it full are left out, and a later line says how many.
type Screen struct {
	json  bool
	now   func() time.Time
	width func() int // nil: as wide as need be

	out, errors             *lane // the same where both end up in one place, so that their order holds; nil for io.Discard
	outPalette, errsPalette palette
	hyperlinks              bool // out shows them

	deliveryPage atomic.Pointer[func(id string) string] // nil: there is none

	nameWidth atomic.Int32 // of the longest endpoint's name so far

	failing failingItems
}

// New returns a screen. Close it to have everything written.
func New(c Config) *Screen {
	if c.Output == nil {
		c.Output = os.Stdout
	}
	if c.Errors == nil {
		c.Errors = os.Stderr
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Screen{json: c.JSON, now: c.Now, width: c.Width}
	if s.width == nil {
		s.width = terminalWidth(c.Output)
	}
	tally := tallyText
	if c.JSON {
		tally = tallyJSON
	}
	if c.Output != io.Discard {
		s.out = newLane(c.Output, tally)
		if colourful(c, c.Output) && !c.JSON {
			s.outPalette = newPalette()
		}
		s.hyperlinks = s.outPalette != nil && os.Getenv(env.Terminal) != "linux"
		if c.Hyperlinks != nil {
			s.hyperlinks = c.Hyperlinks() && !c.JSON
		}
	}
	if c.Errors != io.Discard {
		if s.out != nil && samePlace(c.Output, c.Errors) {
			s.errors = s.out
		} else {
			s.errors = newLane(c.Errors, tallyText)
		}
		if colourful(c, c.Errors) {
			s.errsPalette = newPalette()
		}
	}
	if s.out != nil && s.errors != s.out {
		s.out.broke = func(err error) {
			s.Warn(Notice{
				Text: fmt.Sprintf("printing what happens: %v", err),
				Hint: "serving goes on; see the deliveries with: hubhook deliveries list",
			})
		}
	}
	return s
}

// LinkDeliveries makes each delivery's ID in event lines a hyperlink to the URL that page returns for it, where Output shows hyperlinks.
// Such a URL is seen by whoever reads the terminal's text, so it has no secret in it.
func (s *Screen) LinkDeliveries(page func(id string) string) {
	if s.hyperlinks {
		s.deliveryPage.Store(&page)
	}
}

// Close prints what is left and lets the screen rest: what comes later is not printed. It returns ctx's error if the writers take
// longer than ctx allows, or the error of the last write.
func (s *Screen) Close(ctx context.Context) error {
	var errs []error
	if s.out != nil {
		errs = append(errs, s.out.close(ctx))
	}
	if s.errors != nil && s.errors != s.out {
		errs = append(errs, s.errors.close(ctx))
	}
	return errors.Join(errs...)
}

// terminalWidth returns nil where w is no terminal.
func terminalWidth(w io.Writer) func() int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0 // a terminal that can't tell wraps by itself
		}
		return width
	}
}

func colourful(c Config, w io.Writer) bool {
	if c.NoColor || os.Getenv(env.NoColor) != "" || os.Getenv(env.Terminal) == "dumb" {
		return false
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// samePlace reports whether two writers end up in one place: one terminal, one file.
func samePlace(a, b io.Writer) bool {
	if reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b {
		return true
	}
	fa, okA := a.(*os.File)
	fb, okB := b.(*os.File)
	if !okA || !okB {
		return false
	}
	ia, errA := fa.Stat()
	ib, errB := fb.Stat()
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}
