// Package cli is hubhook's command line: the commands, their flags and help, and what they print.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui"
)

// The exit statuses. Their comments are the documentation of them.
const (
	exitDone   = 0 // done; of `serve`: stopped by Ctrl-C or SIGTERM, with what was under way finished or kept for the next start
	exitFailed = 1 // it failed; of `test`: a case did; of `doctor`: a check did; of `deliveries wait`: nothing came in time
	exitUsage  = 2 // wrong usage: an unknown command, flag, scope or endpoint, or a setting that can't be right
)

// Process is what a command may touch of the process that it runs in.
type Process struct {
	Args      []string // without the program's name
	Stdin     *os.File // its keys are obeyed by serve if it is a terminal; nil means none
	Stdout    io.Writer
	Stderr    io.Writer
	LookupEnv func(string) (string, bool) // os.LookupEnv, in tests another
}

// Main runs the command that p.Args name until it is done or ctx ends, and returns the exit status: 0 done, 1 failed, 2 wrong usage.
// What went wrong is printed already.
func Main(ctx context.Context, p Process) int {
	out := &checkedWriter{w: p.Stdout}
	root := newRoot(&program{Process: p, out: out, ink: ui.NewInk(p.Stdout)})
	root.SetArgs(append([]string{}, p.Args...)) // not nil, which cobra takes for its own process's arguments
	root.SetOut(out)
	root.SetErr(p.Stderr)
	if len(p.Args) > 0 && p.Args[0] == cobra.ShellCompRequestCmd {
		plainFlags(root)
	}
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("write to standard output: %w", out.err)
	}
	if err == nil {
		return exitDone
	}
	server.PrintError(p.Stderr, err)
	var wrongSetting *server.ConfigError
	var wrongUsage *usageError
	if errors.As(err, &wrongUsage) || errors.As(err, &wrongSetting) {
		return exitUsage
	}
	return exitFailed
}

// Commands returns all commands with their flags and help, for tools that document or check them.
func Commands() *cobra.Command {
	nothing := func(string) (string, bool) { return "", false }
	return newRoot(&program{Process: Process{Stdout: io.Discard, Stderr: io.Discard, LookupEnv: nothing}, out: &checkedWriter{w: io.Discard}})
}

// program is what all commands share.
type program struct {
	Process
	out *checkedWriter // Stdout; what commands print goes through it
	ink ui.Ink         // of Stdout
}

// note tells something that is no error, and no result either.
func (p *program) note(format string, args ...any) {
	fmt.Fprintf(p.Stderr, format+"\n", args...) // nobody is left to tell that it failed
}

// checkedWriter remembers the first error, so that not every line that is printed has to be checked.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(b)
	c.err = err
	return n, err
}

// The groups of `hubhook --help`.
const (
	groupReceive = "receive"
	groupLook    = "look"
	groupOther   = "other"
)

func newRoot(p *program) *cobra.Command {
	serve := newServe(p)
	root := &cobra.Command{
		Use:   "hubhook [flags]",
		Short: "receive Hugging Face Hub webhooks",
		Long: `hubhook receives Hugging Face Hub webhooks: it starts a server, opens a public
URL, prints the endpoints to paste into the Hub's settings, stores every
delivery and shows it as it comes.`,
		Example: `  hubhook                          one endpoint, inbox; so does hubhook serve
  hubhook serve trigger_training   an endpoint with a name of yours
  hubhook trigger repo.content     in another terminal: send it a sample event
  hubhook deliveries list          what has come so far`,
		Args:              commandOnly,
		RunE:              serve.RunE,
		ValidArgsFunction: cobra.NoFileCompletions,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return p.readVariables(cmd) },
	}
	root.AddGroup(
		&cobra.Group{ID: groupReceive, Title: "Receive:"},
		&cobra.Group{ID: groupLook, Title: "Look, try and repeat, while hubhook runs:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	// hubhook [flags] is hubhook serve [flags].
	root.Flags().AddFlagSet(serve.Flags())
	root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if asked, _ := cmd.Flags().GetBool("version"); asked {
			return p.printVersion(false)
		}
		return serve.RunE(cmd, args)
	}
	root.SetFlagErrorFunc(flagError)
	setHelp(p, root)
	root.AddCommand(serve, newDev(p), newTest(p), newRunJob(p), newTrigger(p), newDeliveries(p), newHub(p), newDoctor(p), newMCP(p), newVersion(p), newCompletion(p))
	completeByName(root)
	return root
}

// usageError is a wrong command line, exit status 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// wrongUsage says what is wrong with how cmd was called; the hint is where to read how it is called.
func wrongUsage(cmd *cobra.Command, format string, args ...any) error {
	return wrongUsageHint(cmd, "see "+cmd.CommandPath()+" --help", format, args...)
}

func wrongUsageHint(cmd *cobra.Command, hint, format string, args ...any) error {
	return &usageError{text.WithHint(fmt.Errorf(act(cmd)+format, args...), hint)}
}

// act begins the error texts of cmd: "deliveries show: ", "" for hubhook itself.
func act(cmd *cobra.Command) string {
	_, name, ok := strings.Cut(cmd.CommandPath(), " ")
	if !ok {
		return ""
	}
	return name + ": "
}

// commandOnly refuses whatever is no command of cmd.
func commandOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see " + cmd.CommandPath() + " --help"
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %s %s? %s", cmd.CommandPath(), strings.Join(near, " or "), hint)
	} else if !cmd.HasParent() {
		hint = fmt.Sprintf("for an endpoint of that name: hubhook serve %s; otherwise %s", args[0], hint)
	}
	return wrongUsageHint(cmd, hint, "unknown command %q", args[0])
}
