package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/ui"
)

// defaultServer collects the endpoints of Handle and Add until Main configures it.
var defaultServer = new(Server)

// Default returns the server of [Handle], [Add], [Main] and [RunJob]. A function that registers the endpoints of a program takes it, and in a
// test a server of package servertest.
func Default() *Server { return defaultServer }

// Handle registers a handler with the server of [Main], as [Server.Handle] does.
func Handle(name string, h Handler, opts ...Option) { defaultServer.Handle(name, h, opts...) }

// Add registers a handler with the server of [Main] under the function's own name, as [Server.Add] does.
func Add(h Handler, opts ...Option) { defaultServer.Add(h, opts...) }

// Main reads the flags of `hubhook serve` from the command line, serves until Ctrl-C or SIGTERM, lets handlers finish, and ends the process:
// with status 0, with 1 if something failed, with 2 if a flag or another setting was wrong. A second Ctrl-C, half a second later or more,
// ends it at once.
func Main() {
	os.Exit(runMain(defaultServer, os.Args))
}

func runMain(s *Server, args []string) int {
	config := Config{Keys: os.Stdin}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	config.Flags(flags)
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // flags has printed it
	case flags.NArg() > 0:
		PrintError(os.Stderr, text.WithHint(fmt.Errorf("unexpected argument %q", flags.Arg(0)), "this program's endpoints are registered in its code; it takes flags only"))
		return 2
	}
	if err := s.configure(config); err != nil {
		PrintError(os.Stderr, err)
		return 2
	}
	ctx, stop := UntilSignal(context.Background())
	defer stop()
	if err := s.Run(ctx); err != nil {
		PrintError(os.Stderr, err)
		return 1
	}
	return 0
}

// oneSignal is how long signals of one kind count as one. Programs that end others send them twice: timeout(1) to its child, then to the
// child's whole process group. A person who presses Ctrl-C again has waited longer.
const oneSignal = 500 * time.Millisecond

// UntilSignal returns a context that ends with the first Ctrl-C or SIGTERM, for [Server.Run]. A second signal ends the process, as usual: one
// of the same kind from half a second later on, one of the other kind at once. stop gives the signals back.
func UntilSignal(parent context.Context) (ctx context.Context, stop func()) {
	return untilSignal(parent, oneSignal)
}

func untilSignal(parent context.Context, same time.Duration) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	stopped, giveBack := context.WithCancel(context.Background())
	// Each signal has a channel of its own, because otherwise one can't be given back without the other.
	interrupts, terminations := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	signal.Notify(terminations, syscall.SIGTERM)
	var wait sync.WaitGroup
	wait.Go(func() {
		defer signal.Stop(interrupts)
		defer signal.Stop(terminations)
		// This comes before the context ends. So whoever has seen that it ended can rely on the usual effect of the other signal.
		select {
		case <-interrupts:
			signal.Stop(terminations)
		case <-terminations:
			signal.Stop(interrupts)
		case <-ctx.Done():
			return
		}
		cancel()
		over := time.NewTimer(same)
		defer over.Stop()
		select {
		case <-over.C:
		case <-stopped.Done():
		}
	})
	return ctx, func() { cancel(); giveBack(); wait.Wait() }
}

// PrintError writes err to w as hubhook's commands do: one line with what failed and why, then the hint that err carries, if any. It is for
// the errors of New, Run and Handler.
func PrintError(w io.Writer, err error) {
	screen := ui.New(ui.Config{Output: io.Discard, Errors: w})
	screen.Warn(ui.Notice{Text: err.Error(), Hint: text.Hint(err)})
	screen.Close(context.Background())
}
