package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
)

func newRunJob(p *program) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "run-job NAME [flags]",
		GroupID: groupReceive,
		Short:   "handle the one delivery that a Hub Job was started for",
		Long: `Handle the one delivery for which a webhook has started this Hub Job, as
hubhook.yaml says for the endpoint NAME: with its command or URL, its filter,
timeout and attempts. The Hub puts the payload into WEBHOOK_PAYLOAD; it may also
be in the file that WEBHOOK_PAYLOAD_FILE names.

Nothing is stored, and no port is opened. The exit status is 0 if the delivery
was handled or skipped, and 1 if it failed. A failed attempt is repeated only if
the endpoint has attempts.`,
		Example: `  hubhook run-job trigger_training
  WEBHOOK_PAYLOAD=$(hubhook trigger repo.content --print) hubhook run-job train`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongUsage(cmd, "unexpected argument %q after NAME", args[1])
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			here, err := p.fileHere()
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return namesOf(here.Endpoints), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.runJob(cmd.Context(), file, strings.Trim(strings.Join(args, ""), "/")); err != nil {
				return fmt.Errorf("run-job: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE` with the endpoint (default hubhook.yaml)")
	return cmd
}

func namesOf(endpoints []*action.Endpoint) []string {
	var names []string
	for _, e := range endpoints {
		names = append(names, e.Name)
	}
	return names
}

// runJob handles the delivery with the endpoint of that name in the configuration file.
func (p *program) runJob(ctx context.Context, path, name string) error {
	var hooks *server.Server
	commands := &action.Commands{Secret: func() string { return hooks.Secret() }, Hub: p.hubAsked()}
	file, err := p.loadFile(path, commands)
	if err != nil {
		return err
	}
	defer file.Close()
	known := namesOf(file.Endpoints)
	switch list := strings.Join(known, ", "); {
	case file.Missing():
		return &usageError{text.WithHint(fmt.Errorf("there is no %s in this directory, which would say what to do with the delivery", action.FileName),
			"write one, or name another with --config FILE; docs/actions.md has its keys")}
	case len(known) == 0:
		return &usageError{text.WithHint(fmt.Errorf("%s has no endpoints", file.Path), "add one with run or forward; docs/actions.md has the keys")}
	case name == "":
		return &usageError{text.WithHint(errors.New("want the NAME of an endpoint"), file.Path+" has "+list)}
	case !slices.Contains(known, name):
		return &usageError{text.WithHint(fmt.Errorf("%s has no endpoint %q", file.Path, text.Printable(name, 0)), "it has "+list)}
	}
	if hooks, err = server.New(server.Config{NoTunnel: true, Output: p.Stdout, Errors: p.Stderr, Getenv: p.LookupEnv, File: file.Setting}); err != nil {
		return err
	}
	for _, e := range file.Endpoints {
		hooks.Handle(e.Name, e.Handler(), e.Options()...)
	}
	err = hooks.RunJob(ctx, name)
	commands.Wait() // or those that are being ended would outlive hubhook
	return err
}
