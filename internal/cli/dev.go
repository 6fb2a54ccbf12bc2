package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// mostAdvice is how much advice is remembered so that it is not repeated.
const mostAdvice = 100

// slowLook is how long the first look at the files may take before it is worth a word.
const slowLook = 2 * time.Second

// urlWithin is how long a program's first start waits for the public URL, which is in its environment.
const urlWithin = 3 * time.Second

// devFlags are those of dev beside serve's.
type devFlags struct {
	file                         string
	paths, files, ignore         []string
	noRestart, noSpaceEnv, rerun bool
}

func newDev(p *program) *cobra.Command {
	config := &server.Config{Keys: p.Stdin, Output: p.Stdout, Errors: p.Stderr, Getenv: p.LookupEnv}
	var f devFlags
	cmd := &cobra.Command{
		Use:     "dev [flags] -- COMMAND...",
		GroupID: groupReceive,
		Short:   "run your program behind the public URL, restart it after edits",
		Long: `Run your own program, in any language, behind the public URL. hubhook starts it
with a free port in PORT, finds its endpoints, and sends it deliveries once it
is ready. When a file below the working directory is edited, the program is
restarted: the URL stays, and deliveries wait and are then handled in order.

COMMAND is a program and its arguments; no shell reads them. Ctrl-C ends the
program first. On a terminal, R restarts it and p pauses restarts, beside the
keys of serve.`,
		Example: `  hubhook dev -- python app.py
  hubhook dev --path /hook -- npm start
  hubhook dev --ignore '*.log' --rerun -- go run .`,
		ValidArgsFunction: completeCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := commandAfterDash(cmd, args, "hubhook dev -- python app.py"); err != nil {
				return err
			}
			if err := p.dev(cmd, *config, f, args); err != nil {
				return fmt.Errorf("dev: %w", err)
			}
			return nil
		},
	}
	addSettings(cmd, config)
	flags := cmd.Flags()
	flags.StringVar(&f.file, "config", "", "configuration `FILE` (default hubhook.yaml, if this directory has one)")
	flags.StringArrayVar(&f.paths, "path", nil, "`PATH` of the program that takes deliveries, as /hook; repeat it for several (default what the program says)")
	flags.StringArrayVar(&f.files, "watch-files", nil, "watch only files that match this `GLOB`; repeat it for several (default all)")
	flags.StringArrayVar(&f.ignore, "ignore", nil, "don't restart for files that match this `GLOB`, besides what .gitignore has; repeat it for several")
	flags.BoolVar(&f.noRestart, "no-restart", false, "don't restart the program when files change")
	flags.BoolVar(&f.noSpaceEnv, "no-space-env", false, "leave SPACE_ID and SPACE_HOST alone, which keep a WebhooksServer from opening a share link")
	flags.BoolVar(&f.rerun, "rerun", false, "after each restart, run the last failed delivery again")
	return cmd
}

// commandAfterDash returns an error unless there is a command, and all of it stands after "--".
func commandAfterDash(cmd *cobra.Command, args []string, example string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case len(args) == 0:
		return wrongUsageHint(cmd, "name it after --: "+example, "there is no command to run")
	case dash != 0:
		return wrongUsageHint(cmd, "name the command after --: "+example, "unexpected argument %q", args[0])
	}
	return nil
}

// completeCommand leaves a command's own words to the shell.
func completeCommand(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// routesOf returns the routes of --path. An endpoint can have any name that a path becomes.
func routesOf(paths []string) (routes []action.Route, err error) {
	for _, path := range paths {
		route, err := action.PathRoute(path)
		if err != nil {
			return nil, &usageError{text.WithHint(err, "begin it with a slash: --path /"+strings.TrimLeft(path, "/"))}
		}
		routes = append(routes, route)
	}
	return routes, nil
}

func (p *program) dev(cmd *cobra.Command, config server.Config, f devFlags, command []string) error {
	routes, err := routesOf(f.paths)
	if err != nil {
		return err
	}
	// A file that is named by its path may be built later. A bare name that is not on PATH is a mistake.
	if _, err := exec.LookPath(command[0]); errors.Is(err, exec.ErrNotFound) {
		return text.WithHint(fmt.Errorf("start the program: %w", err), "name a program that is on PATH, or a file with its path: hubhook dev -- ./"+command[0])
	}
	file, err := p.loadFile(f.file, &action.Commands{})
	if err != nil {
		return err
	}
	config.File = file.Setting
	s, err := server.New(config)
	if err != nil {
		return err
	}
	if n := len(file.Endpoints); n > 0 {
		server.PrintError(p.Stderr, text.WithHint(fmt.Errorf("dev: the configuration file has %s that dev does not serve: a program has endpoints of its own", countOf(n, "endpoint", "endpoints")),
			"hubhook serve serves those of the file"))
	}
	d := &dev{rerun: f.rerun, names: map[string]bool{}, served: map[string]bool{}, advised: map[action.Advice]bool{}}
	supervisor := action.SupervisorConfig{
		Args: command, NoSpaceEnv: f.noSpaceEnv, Attempts: true, Routes: routes, PublicHost: d.publicHost, Lines: d.print,
	}
	if !f.noRestart {
		named, _ := p.LookupEnv(env.Variable("data"))
		data := cmp.Or(config.Data, named, p.dataOfFile())
		if data == "" {
			if data, err = p.workspace(); err != nil {
				return err
			}
		}
		watch := action.WatchConfig{Files: f.files, Ignore: f.ignore, Own: []string{data, file.Path}, Outputs: filesOf(p.Stdout, p.Stderr)}
		if d.watcher, err = p.watch(cmd.Context(), watch); cmd.Context().Err() != nil {
			return nil // Ctrl-C while it looked
		} else if err != nil {
			return wrongPattern(err)
		}
		defer d.watcher.Close()
		supervisor.Changes = d.watcher.Changes()
	}
	stop := followFile(cmd.Context(), file, &action.Commands{}, func(edited *action.File, err error) {
		if err != nil {
			p.sayBroken(err)
			return
		}
		edited.Close()
		p.sayLater(file.Path, file.ChangedSettings(edited))
	})
	defer stop()
	return d.run(cmd.Context(), s, supervisor)
}

// filesOf returns those of the outputs that are files.
func filesOf(outputs ...io.Writer) (files []fs.FileInfo) {
	for _, output := range outputs {
		if f, ok := output.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
				files = append(files, info)
			}
		}
	}
	return files
}

// wrongPattern makes wrong usage of a pattern that can't be read.
func wrongPattern(err error) error {
	if wrong, ok := errors.AsType[*action.PatternError](err); ok {
		return &usageError{text.WithHint(wrong, "write it as in .gitignore: '*.log', or data/ for a directory")}
	}
	return err
}

// watch looks at the files below the working directory, and says so where it takes long: nothing else is shown before.
func (p *program) watch(ctx context.Context, config action.WatchConfig) (watcher *action.Watcher, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		watcher, err = action.NewWatcher(ctx, config)
	}()
	slow := time.NewTimer(slowLook)
	defer slow.Stop()
	select {
	case <-done:
	case <-slow.C:
		server.PrintError(p.Stderr, text.WithHint(errors.New("dev: looking at all files below this directory takes a while"),
			"start hubhook in the program's own directory, leave out what holds no code with --ignore DIR/, or don't watch files: --no-restart"))
		<-done
	}
	return watcher, err
}

// dev is a program that runs beside a server.
type dev struct {
	server     companion.Server
	supervisor *action.Supervisor
	watcher    *action.Watcher // nil with --no-restart
	rerun      bool

	// Of the goroutine that attends to events.
	names   map[string]bool        // endpoints that are shown
	served  map[string]bool        // those that the server was named
	advised map[action.Advice]bool // what was said
	edited  bool                   // the program was restarted and is not ready yet

	mu     sync.Mutex
	paused bool
	failed string // ID of the delivery that failed last, "" once it has run again
}

// run runs the server, and the program beside it, until ctx ends or the server fails. The program ends first: what it has is finished or
// put back, and then the server drains.
func (d *dev) run(ctx context.Context, s *server.Server, config action.SupervisorConfig) error {
	working, endProgram := context.WithCancel(ctx)
	defer endProgram()
	serving, endServer := context.WithCancel(context.WithoutCancel(ctx))
	defer endServer()
	var tasks sync.WaitGroup
	var failure error
	joined := &companion.Program{
		Attach: func(joined companion.Server) {
			d.server = joined
			config.Secret = joined.Secret()
			if d.supervisor, failure = action.NewSupervisor(config); failure != nil {
				endServer()
				return
			}
			tasks.Go(func() {
				defer endServer()
				d.attend(working)
			})
		},
		Handler: d.handler,
		Waits:   func() { d.supervisor.Wake() },
		Key:     d.press,
		Quit:    endProgram,
	}
	err := s.Run(companion.With(serving, joined))
	endProgram()
	tasks.Wait()
	return errors.Join(failure, err)
}

// attend runs the program from when the banner is shown until ctx ends.
func (d *dev) attend(ctx context.Context) {
	known := time.NewTimer(urlWithin)
	defer known.Stop()
	select {
	case <-d.server.Shown():
	case <-known.C:
		if d.server.Asking() { // what the program prints would push the question off the screen
			select {
			case <-d.server.Shown():
			case <-ctx.Done():
				return
			}
		}
	case <-ctx.Done():
		return
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	if d.watcher != nil {
		tasks.Go(func() {
			if err := d.watcher.Run(ctx); err != nil && ctx.Err() == nil {
				d.server.Warn("watching for edits has ended: "+err.Error(), "press R to restart the program, or start hubhook again")
			}
		})
		tasks.Go(func() { d.warnOfWatching(ctx) })
	}
	tasks.Go(func() { d.supervisor.Run(ctx) }) // it returns nil
	for event := range d.supervisor.Events() {
		d.tell(ctx, event)
	}
}

func (d *dev) warnOfWatching(ctx context.Context) {
	for {
		select {
		case notice := <-d.watcher.Notices():
			d.server.Warn(notice.Cause, notice.Fix)
		case <-ctx.Done():
			return
		}
	}
}

// publicHost is the host that the program is told as that of its Space.
func (d *dev) publicHost() string {
	u, err := url.Parse(d.server.PublicURL())
	if err != nil {
		return ""
	}
	return u.Host
}

func (d *dev) print(line action.ProgramLine) {
	d.server.Print(api.ProgramOutput{Program: line.Program, Output: line.Plain()})
}

// handler returns the handler of an endpoint, and notes which delivery has failed last.
func (d *dev) handler(name string) companion.Handler {
	send := d.supervisor.Handler(name, d.server.Secret)
	return func(ctx context.Context, body *payload.Payload) (any, error) {
		result, err := send(ctx, body)
		var later *action.NotTakenError
		if delivery, ok := server.DeliveryFrom(ctx); err != nil && ok && !errors.As(err, &later) {
			d.mu.Lock()
			d.failed = delivery.ID
			d.mu.Unlock()
		}
		return result, err
	}
}

// press obeys the keys that serve does not have.
func (d *dev) press(key rune) {
	switch key {
	case 'R':
		d.supervisor.Restart()
	case 'p':
		d.mu.Lock()
		d.paused = !d.paused
		paused := d.paused
		d.mu.Unlock()
		if paused {
			d.supervisor.Pause()
		} else {
			d.supervisor.Resume()
		}
	}
}

// tell shows an event, and has deliveries wait or go on.
func (d *dev) tell(ctx context.Context, event action.ProgramEvent) {
	switch {
	case event.Open:
		d.server.Resume()
	case event.Phase == action.ProgramStarting, event.Phase == action.ProgramRestarting, event.Phase == action.ProgramExited, event.Phase == action.ProgramStopped:
		d.server.Pause()
	}
	shown := api.ProgramEvent{Program: d.supervisor.Name(), Phase: string(event.Phase), Text: words(event)}
	switch event.Phase {
	case action.ProgramListening:
		shown.Endpoints, _ = d.list(event.Routes) // there may be more
	case action.ProgramReady, action.ProgramEndpoints:
		shown.Endpoints = d.learn(event.Routes)
	}
	d.show(shown, event)
	switch event.Phase {
	case action.ProgramRestarting:
		d.edited = true
	case action.ProgramReady:
		if d.edited && d.rerun {
			d.runAgain(ctx)
		}
		d.edited = false
	}
}

// show shows an event. The advice about a trouble stands in the same line, other advice in a line of its own. Advice that was shown before
// is left out, but for that about an exit or a crash loop.
func (d *dev) show(shown api.ProgramEvent, event action.ProgramEvent) {
	advice := event.Advice
	shown.Trouble = event.Phase == action.ProgramExited
	if advice != nil && !shown.Trouble && event.Phase != action.ProgramLooping {
		if d.advised[*advice] {
			advice = nil
		} else if len(d.advised) < mostAdvice {
			d.advised[*event.Advice] = true
		}
	}
	switch {
	case advice == nil && event.Phase == action.ProgramAdvice: // nothing is left of it
	case advice == nil:
		d.server.Show(shown)
	case shown.Trouble:
		shown.Hint = advice.Fix
		d.server.Show(shown)
	case shown.Text == "":
		shown.Text, shown.Hint, shown.Trouble = advice.Cause, advice.Fix, true
		d.server.Show(shown)
	default:
		d.server.Show(shown)
		d.server.Show(api.ProgramEvent{Program: shown.Program, Phase: string(action.ProgramAdvice), Text: advice.Cause, Hint: advice.Fix, Trouble: true})
	}
}

// words says what an event is about; "" where there is nothing to say, or its advice is all.
func words(event action.ProgramEvent) string {
	switch event.Phase {
	case action.ProgramStarting:
		return "starts"
	case action.ProgramReady:
		return "is ready"
	case action.ProgramEndpoints:
		return "has more endpoints"
	case action.ProgramRestarting:
		switch len(event.Files) {
		case 0:
			return "restarts"
		case 1:
			return "restarts, since " + event.Files[0] + " was edited"
		}
		return fmt.Sprintf("restarts, since %s and %d more were edited", event.Files[0], len(event.Files)-1)
	case action.ProgramExited:
		if !event.Exit.Started {
			return fmt.Sprintf("could not be started (%s); it is tried again after an edit, or in %v", event.Exit.How, event.Wait)
		}
		why := ""
		if event.Advice != nil {
			why = ": " + event.Advice.Cause
		}
		return fmt.Sprintf("ended by itself (%s)%s; it is started again after an edit, or in %v", event.Exit.How, why, event.Wait)
	case action.ProgramPaused:
		return "is not restarted from now on; press p to go on"
	case action.ProgramResumed:
		return "is restarted after edits again"
	case action.ProgramStopped:
		return "has ended"
	}
	return ""
}

// learn has the server serve the program's endpoints and no others, and returns them where there are new ones.
func (d *dev) learn(routes []action.Route) []api.Endpoint {
	endpoints, names := d.list(routes)
	unserved := func(name string) bool { return !d.served[name] }
	if slices.ContainsFunc(names, unserved) {
		for _, name := range names {
			d.served[name] = true
		}
		if err := d.server.Name(names); err != nil {
			d.server.Warn(err.Error(), text.Hint(err))
		}
	}
	return endpoints
}

// list returns the names of the program's endpoints that can be served, and the endpoints where one of them was not shown yet.
func (d *dev) list(routes []action.Route) (endpoints []api.Endpoint, names []string) {
	added := false
	for _, route := range routes {
		if _, err := server.EndpointName(route.Name); err != nil {
			d.server.Warn(fmt.Sprintf("the program's endpoint %s is not served: %v", route.Path, err), "give its path letters, digits, _, - and . only")
			continue
		}
		names = append(names, route.Name)
		endpoints = append(endpoints, api.Endpoint{Name: route.Name})
		added = added || !d.names[route.Name]
		d.names[route.Name] = true
	}
	if !added {
		endpoints = nil
	}
	return endpoints, names
}

// runAgain repeats the delivery that failed last.
func (d *dev) runAgain(ctx context.Context) {
	d.mu.Lock()
	id := d.failed
	d.failed = ""
	d.mu.Unlock()
	if id == "" {
		return
	}
	if err := d.server.Replay(ctx, id); err != nil {
		d.server.Warn("run the last failed delivery again: "+err.Error(), text.Hint(err))
	}
}
