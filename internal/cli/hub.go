package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui"
)

func newHub(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "hub",
		GroupID: groupOther,
		Short:   "list, make, change and delete your webhooks on the Hub",
		Long: `Your webhooks on the Hub, without a browser. The token is the one of the hf
command: HF_TOKEN, or what hf auth login stored. HF_ENDPOINT names another Hub.`,
		Example: `  hubhook hub list
  hubhook hub create --url https://me.ngrok.app/webhooks/in --watch user:me
  hubhook hub enable 654bbbc16f2ec14d77f109cc`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage(cmd, "want list, show, create, update, enable, disable, delete, replay or cleanup")
			}
			return commandOnly(cmd, args)
		},
		RunE:              func(*cobra.Command, []string) error { return nil }, // Args has refused every call
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.AddCommand(newHubList(p), newHubShow(p), newHubCreate(p), newHubUpdate(p), newHubEnable(p), newHubDisable(p), newHubDelete(p), newHubReplay(p), newHubCleanup(p))
	return cmd
}

// hub returns a client of the Hub that the environment names. The client says on standard error when it has to wait.
func (p *program) hub() (*hub.Client, error) {
	return hub.New(hub.Config{
		LookupEnv: p.LookupEnv,
		Attempts:  3, // somebody waits for the answer
		OnWarning: func(_, message string) { p.note("The Hub warns: %s", message) },
		OnWait: func(d time.Duration, err error) {
			if err == nil {
				p.note("The Hub's rate limit is used up; going on in %s.", ui.Duration(d.Round(time.Second)))
				return
			}
			p.note("%v\nTrying again in %s.", err, ui.Duration(d.Round(100*time.Millisecond)))
		},
	})
}

// wantWebhooks refuses a call without a webhook's ID, and one with more than most, unless that is 0.
func wantWebhooks(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "hubhook hub list shows the IDs; see " + cmd.CommandPath() + " --help"
		switch {
		case len(args) == 0:
			return wrongUsageHint(cmd, hint, "want the ID of a webhook")
		case most > 0 && len(args) > most:
			return wrongUsageHint(cmd, hint, "unexpected argument %q", args[most])
		}
		return nil
	}
}

// completeWebhook completes the IDs of webhooks, any number of them if most is 0.
func (p *program) completeWebhook(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const noFiles = cobra.ShellCompDirectiveNoFileComp
		client, err := hub.New(hub.Config{LookupEnv: p.LookupEnv, Attempts: 1})
		if err != nil || most > 0 && len(args) >= most {
			return nil, noFiles
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		webhooks, err := client.Webhooks.List(ctx)
		if err != nil {
			return nil, noFiles
		}
		var ids []string
		for _, w := range webhooks {
			ids = append(ids, cobra.CompletionWithDesc(text.Printable(w.ID, 0), string(w.State)+"  "+target(w)))
		}
		return ids, noFiles | cobra.ShellCompDirectiveKeepOrder
	}
}

// eachWebhook calls do for webhooks one by one. It goes on if a webhook does not exist, or if the person at the terminal wants to keep it: it prints that
// error, and returns the number of such webhooks in its own error.
func (p *program) eachWebhook(ids []string, did string, do func(id string) error) error {
	failed := 0
	for i, id := range ids {
		err := do(id)
		var stays declined
		switch {
		case err == nil:
		case len(ids) == 1:
			return err
		case errors.Is(err, hub.ErrNotFound), errors.As(err, &stays):
			failed++
			server.PrintError(p.Stderr, err)
		default:
			return fmt.Errorf("%d of %d were not %s, from %s on: %w", failed+len(ids)-i, len(ids), did, id, err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d were not %s", failed, len(ids), did)
	}
	return nil
}

// printWebhook prints a webhook that was changed: its ID, or with asJSON all of it.
func (p *program) printWebhook(w hub.Webhook, asJSON bool) error {
	if asJSON {
		return p.printJSON(w)
	}
	fmt.Fprintln(p.out, text.Printable(w.ID, 0))
	return nil
}

// target says in one line what a webhook does with an event.
func target(w hub.Webhook) string {
	switch {
	case w.Job == nil:
		return text.OneLine(w.PlainURL(), 200)
	case w.Job.SpaceID != "":
		return text.OneLine("Job in Space "+w.Job.SpaceID, 200)
	case w.Job.DockerImage != "":
		return text.OneLine("Job in "+w.Job.DockerImage, 200)
	}
	return "Job"
}

// watches writes the items that a webhook watches.
func watches(w hub.Webhook) []string {
	var items []string
	for _, item := range w.Watched {
		items = append(items, text.OneLine(item.String(), 200))
	}
	return items
}

func domains(w hub.Webhook) string {
	var names []string
	for _, d := range w.Domains {
		names = append(names, text.OneLine(string(d), 100))
	}
	return strings.Join(names, ", ")
}

// webhookState colours words by a webhook's state.
func (p *program) webhookState(s hub.WebhookState, words string) string {
	switch s {
	case hub.Enabled:
		return p.ink.State("done", words)
	case hub.Suspended:
		return p.ink.Bad(words)
	}
	return p.ink.Faint(words)
}

// configuredSecret returns the webhook secret of --secret, or else the first one in HUBHOOK_SECRET or WEBHOOK_SECRET. from says where it was found.
func (p *program) configuredSecret(cmd *cobra.Command, flag string) (secret hub.Secret, from string, err error) {
	from = "--secret"
	if !cmd.Flags().Changed("secret") {
		flag, from = p.firstSecret()
	} else if flag == "" {
		return "", "", wrongUsageHint(cmd, "leave the flag out for none", "--secret: the webhook secret is empty")
	}
	if strings.ContainsFunc(flag, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", "", wrongUsageHint(cmd, "the Hub sends the secret as a plain header, so use ASCII letters, digits and signs only",
			"%s: the webhook secret has a character that is not printable ASCII", from)
	}
	return hub.Secret(flag), from, nil
}

// firstSecret returns the first webhook secret of HUBHOOK_SECRET or WEBHOOK_SECRET, and the name of the variable.
func (p *program) firstSecret() (secret, from string) {
	for _, name := range []string{env.Variable("secret"), env.WebhookSecret} {
		value, _ := p.LookupEnv(name)
		first, _, _ := strings.Cut(value, ",")
		if first = strings.TrimSpace(first); first != "" {
			return first, name
		}
	}
	return "", ""
}
