package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/checkup"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

// doctor is what `hubhook doctor` is told.
type doctor struct {
	*program
	config server.Config
	where  where
	file   string
	json   bool

	inspector *inspector.Client // of the running hubhook, nil where none is known
}

// undiagnosed are the settings of serve that doctor has no check for.
var undiagnosed = []string{"reply-within", "answer", "follow", "follow-every", "catch-up", "exit-on-down", "keep", "keep-count", "max-waiting", "json", "fresh"}

func newDoctor(p *program) *cobra.Command {
	d := &doctor{program: p, config: server.Config{Getenv: p.LookupEnv}}
	cmd := &cobra.Command{
		Use:     "doctor [TYPE:NAME] [flags] [-- COMMAND...]",
		GroupID: groupLook,
		Short:   "what is wrong? check secret, data, ports, public URL, the Hub",
		Long: `Check what hubhook needs, and the state of the running hubhook: hubhook.yaml,
the secret, the data directory and its disk, the ports, each step of the
connection to the tunnel's service, the public URL, the clock, the program of
hubhook dev, and on the Hub the token's rights and the state, URL and secret of
your webhooks. Each line begins with ok, warn, fail or skip. The fix is below a
warning or a failure. A failure makes the exit status 1.

With TYPE:NAME, dataset:me/data for example, doctor says why nothing comes from
that repo, bucket, user or organization.

hubhook need not run. The flags are those that you give hubhook serve. With
COMMAND, doctor looks whether hubhook dev could start it. Nothing is changed,
and no public URL is opened.`,
		Example: `  hubhook doctor
  hubhook doctor dataset:me/data
  hubhook doctor --port 8080 --url me.ngrok.app
  hubhook doctor -- python app.py
  hubhook doctor --json | jq 'select(.result == "fail")'`,
		ValidArgsFunction: completeItem,
		RunE: func(cmd *cobra.Command, args []string) error {
			item, command, err := itemAndCommand(cmd, args)
			if err != nil {
				return err
			}
			if err := d.run(cmd, item, command); err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&d.json, "json", false, "print one JSON object for each check")
	flags.StringVar(&d.where.server, "server", "", "`URL` of the running hubhook's inspector, as its banner shows it")
	flags.StringVar(&d.file, "config", "", "configuration `FILE` (default hubhook.yaml, if this directory has one)")
	addSettings(cmd, &d.config, undiagnosed...)
	return cmd
}

// itemAndCommand reads what stands before and after "--": an item of the Hub, or a command.
func itemAndCommand(cmd *cobra.Command, args []string) (item *hub.Watched, command []string, err error) {
	before := args
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before, command = args[:dash], args[dash:]
	}
	switch {
	case len(before) == 0:
		return nil, command, nil
	case len(before) > 1:
		return nil, nil, wrongUsageHint(cmd, "put the command after --: hubhook doctor -- python app.py", "unexpected argument %q", before[1])
	case len(command) > 0:
		return nil, nil, wrongUsage(cmd, "%s and a command after -- don't go together", before[0])
	}
	watched, err := hub.ParseWatched(before[0])
	if err != nil {
		return nil, nil, wrongUsageHint(cmd, "write a repo as dataset:me/data; put a command to check after --: hubhook doctor -- python app.py", "%w", err)
	}
	return &watched, nil, nil
}

// completeItem completes the types of the Hub's items, and files after "--".
func completeItem(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return watchedPrefixes(), cobra.ShellCompDirectiveNoSpace
}

func (d *doctor) run(cmd *cobra.Command, item *hub.Watched, command []string) error {
	file, read := d.configuration()
	d.where.data = d.dataOf(file)
	running, here := d.running(cmd)
	if item != nil {
		return d.runItem(cmd.Context(), *item, file, running, here)
	}
	lists := [][]checkup.Check{{checkup.Known("hubhook", here)}}
	if running != nil {
		for _, loop := range running.Loops {
			lists = append(lists, []checkup.Check{checkup.Known("loop", checkup.Warn(loop.Text, loop.Hint))})
		}
		for _, followed := range running.Followed {
			lists = append(lists, []checkup.Check{checkup.Known("followed "+followed.Item, following(&followed))})
		}
	}
	hooks, err := d.server(file)
	if err == nil && read.Result == api.OK && running == nil {
		if err := (&serve{program: d.program}).checkSecret(hooks, file.Endpoints); err != nil {
			read = checkup.Fail(err)
		}
	}
	lists = append(lists, []checkup.Check{checkup.Known(action.FileName, read)})
	if err != nil {
		lists = append(lists, []checkup.Check{checkup.Known("settings", checkup.Fail(err))})
	} else {
		lists = append(lists, hooks.Checkup(running)...)
	}
	look := d.look(cmd.Context(), running, hooks)
	lists = append(lists,
		append(look.checks(), checkup.Check{Name: "webhooks", Doing: "asking the Hub for your webhooks", All: look.every}, checkup.Check{Name: "rate limit", Run: look.rate}),
		[]checkup.Check{{Name: "program", Run: func(context.Context) api.Finding { return d.programOf(running, command) }}},
	)
	return d.report(cmd.Context(), lists)
}

// server returns a server with the settings of the flags, the variables and file. It is not run.
func (d *doctor) server(file *action.File) (*server.Server, error) {
	config := d.config
	config.File = file.Setting
	return server.New(config)
}

// runItem says why nothing comes from an item of the Hub.
func (d *doctor) runItem(ctx context.Context, item hub.Watched, file *action.File, running *api.Status, here api.Finding) error {
	hooks, err := d.server(file)
	if err != nil {
		return err
	}
	if running == nil && here.Result == api.Skip {
		here = checkup.Fail(text.WithHint(errors.New("no hubhook runs here, so that nothing can come"), "start it: hubhook serve --watch "+item.String()+"\nor name the one that runs with --data DIR or --server URL"))
	}
	look := d.lookAt(item, d.look(ctx, running, hooks))
	r := newReporter(d)
	r.item = true
	lists := [][]checkup.Check{{checkup.Known("hubhook", here)}, look.onHub()}
	if running != nil {
		lists = append(lists, look.wayIn(hooks)...)
	}
	r.make(ctx, lists)
	r.make(ctx, [][]checkup.Check{look.arrived()})
	if ctx.Err() == nil {
		r.show(look.why(r.findings))
	}
	return r.end(ctx)
}

// report makes the checks and prints what they find.
func (d *doctor) report(ctx context.Context, lists [][]checkup.Check) error {
	r := newReporter(d)
	r.make(ctx, lists)
	return r.end(ctx)
}

// reporter prints findings as they come.
type reporter struct {
	*doctor
	onTerminal bool
	waiting    int // the length of the line that says what doctor waits for
	findings   []api.Finding
	failure    error
	item       bool // the last finding sums up
}

func newReporter(d *doctor) *reporter {
	return &reporter{doctor: d, onTerminal: ui.NewInk(d.Stderr).Width() > 0}
}

// make makes the checks.
func (r *reporter) make(ctx context.Context, lists [][]checkup.Check) {
	checkup.Run(ctx, lists, func(c checkup.Check) {
		if r.onTerminal {
			r.clear()
			shown := c.Doing + " ..."
			r.waiting = len(shown)
			fmt.Fprint(r.Stderr, shown)
		}
	}, func(f api.Finding) {
		r.clear()
		if ctx.Err() == nil { // what an interrupted check finds is no finding
			r.findings = append(r.findings, f)
			r.show(f)
		}
	})
}

func (r *reporter) clear() {
	if r.waiting > 0 {
		fmt.Fprintf(r.Stderr, "\r%s\r", strings.Repeat(" ", r.waiting)) // if this fails, there is no other place for the error
		r.waiting = 0
	}
}

// show prints a finding.
func (r *reporter) show(f api.Finding) {
	if r.json {
		r.failure = errors.Join(r.failure, r.printJSON(f))
	} else {
		r.line(f)
	}
}

// count returns how many findings have that result.
func (r *reporter) count(result api.Result) (n int) {
	for _, f := range r.findings {
		if f.Result == result {
			n++
		}
	}
	return n
}

// end sums up, and returns an error where a check failed.
func (r *reporter) end(ctx context.Context) error {
	failed, warned := r.count(api.Fail), r.count(api.Warn)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case r.failure != nil:
		return r.failure
	case failed > 0:
		return fmt.Errorf("%s failed", countOf(failed, "check", "checks"))
	case r.item || r.json:
	case warned > 0:
		fmt.Fprintf(r.out, "\nNothing failed; %s.\n", countOf(warned, "warning", "warnings"))
	default:
		fmt.Fprintf(r.out, "\nAll is well.\n")
	}
	return nil
}

// line prints a finding, and below it the fix.
func (d *doctor) line(f api.Finding) {
	word := fmt.Sprintf("%-4s", f.Result)
	switch f.Result {
	case api.OK:
		word = d.ink.State("done", word)
	case api.Warn:
		word = d.ink.State("retrying", word)
	case api.Fail:
		word = d.ink.State("dead", word)
	default:
		word = d.ink.Faint(word)
	}
	fmt.Fprintf(d.out, "%s  %-16s  %s\n", word, f.Name, text.Printable(f.Text, 0))
	lead := "fix: "
	for line := range strings.Lines(f.Fix) {
		fmt.Fprintf(d.out, "%24s%s%s\n", "", d.ink.Faint(lead), text.Printable(strings.TrimSuffix(line, "\n"), 0))
		lead = "     "
	}
}

// dataOf returns the data directory that the flags, the variables or file name, "" for none.
func (d *doctor) dataOf(file *action.File) string {
	variable, _ := d.LookupEnv(env.Variable("data"))
	named, _ := file.Setting("data")
	return cmp.Or(append([]string{d.config.Data, variable}, named...)...)
}

// askWithin is how long the running hubhook may take to say how it stands.
const askWithin = 5 * time.Second

// running returns how the running hubhook stands, nil where there is none or it can't be asked.
func (d *doctor) running(cmd *cobra.Command) (*api.Status, api.Finding) {
	ctx, cancel := context.WithTimeout(cmd.Context(), askWithin)
	defer cancel()
	client, err := d.client(cmd, &d.where)
	var status api.Status
	var unreadable *fs.PathError
	if err == nil {
		d.inspector = client
		status, err = client.Status(ctx)
	}
	switch {
	case errors.Is(err, inspector.ErrNotRunning) && d.where.server == "":
		return nil, checkup.Skip(notHere + "; the checks look at whether one could run")
	case errors.As(err, &unreadable) && d.where.server == "": // the check of the data directory says why
		return nil, checkup.Skip("it can't be seen whether one runs: " + err.Error())
	case err != nil:
		return nil, checkup.Fail(text.WithHint(err, cmp.Or(text.Hint(err), text.Hint(explain(err)), "look at what the running hubhook prints, and start it again")))
	case status.Version != version.String():
		return &status, checkup.Warn(fmt.Sprintf("process %d runs version %s; this is %s", status.PID, text.Printable(status.Version, 100), version.String()), "restart it to have it run this version")
	}
	return &status, checkup.OK(fmt.Sprintf("process %d runs, since %s", status.PID, status.Started.UTC().Format(time.RFC3339)))
}

// configuration reads the configuration file. For the other checks a broken file counts as none.
func (d *doctor) configuration() (*action.File, api.Finding) {
	path := d.file
	if path == "" {
		path, _ = d.LookupEnv(env.Variable("config"))
	}
	file, err := d.loadFile(path, &action.Commands{})
	switch {
	case err != nil:
		return &action.File{}, checkup.Fail(err)
	case file.Missing():
		return file, checkup.Skip("this directory has none")
	}
	return file, checkup.OK(fmt.Sprintf("%s can be read, with %s", file.Path, countOf(len(file.Endpoints), "endpoint", "endpoints")))
}

// mostSkew is the least difference of clocks that is reported. Lists show seconds, and the Hub's answer takes a while, so less does not matter.
const mostSkew = 10 * time.Second

// skew compares this machine's clock with that of host. The clock showed asked before the request and answered after it. date is host's time in its
// answer, without fractions of a second.
func skew(asked, answered, date time.Time, host string) api.Finding {
	ahead := max(asked.Sub(date)-time.Second, 0)
	behind := max(date.Sub(answered), 0)
	const fix = "set the clock, or turn time synchronization on: times in lists are wrong, and certificates may be refused"
	switch {
	case ahead > mostSkew:
		return checkup.Warn(fmt.Sprintf("this machine's clock is %v ahead of %s", ahead.Round(time.Second), host), fix)
	case behind > mostSkew:
		return checkup.Warn(fmt.Sprintf("this machine's clock is %v behind %s", behind.Round(time.Second), host), fix)
	}
	return checkup.OK("it agrees with that of " + host)
}

// programOf says how the program of the running `hubhook dev` stands, or whether a command could be started.
func (d *doctor) programOf(running *api.Status, command []string) api.Finding {
	if len(command) > 0 {
		path, err := exec.LookPath(command[0])
		if err != nil {
			return checkup.Fail(text.WithHint(fmt.Errorf("hubhook dev can't start %s: %w", text.Printable(command[0], 200), errors.Unwrap(err)),
				"install it, activate the environment that has it, or write its path: hubhook dev -- ./"+text.Printable(command[0], 200)))
		}
		return checkup.OK("hubhook dev can start " + text.Printable(path, 0))
	}
	if running == nil || running.Program == nil {
		return checkup.Skip("no hubhook dev runs here; hubhook doctor -- COMMAND checks whether a command can be started")
	}
	p := running.Program
	what := strings.TrimSpace(p.Name + " " + cmp.Or(p.Text, "is "+p.Phase))
	switch {
	case slices.Contains([]string{"exited", "crash loop", "stopped"}, p.Phase):
		return checkup.Fail(text.WithHint(errors.New(what), cmp.Or(p.Hint, "correct it; hubhook dev shows what it printed, and starts it again after an edit")))
	case p.Phase == "ready" || p.Phase == "listening":
		return checkup.OK(what)
	}
	return checkup.Warn(what, cmp.Or(p.Hint, "wait until it is ready; deliveries wait meanwhile"))
}
