package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

func newHubList(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [flags]",
		Aliases: []string{"ls"},
		Short:   "list your webhooks",
		Long: `List the webhooks of the token's user. On a terminal long lines are cut; in a
pipe or a file they are whole. --json prints one object a line. Secrets are
never printed, not in URLs either.`,
		Example: `  hubhook hub list
  hubhook hub list --json | jq -r 'select(.disabled != false).id'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := p.hub()
		if err != nil {
			return err
		}
		webhooks, err := client.Webhooks.List(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			for _, w := range webhooks {
				if err := p.printJSON(w); err != nil {
					return err
				}
			}
			return nil
		}
		if len(webhooks) == 0 {
			p.note("No webhooks yet.\n  hint: make one with: hubhook hub create --url URL --watch TYPE:NAME")
			return nil
		}
		p.webhookTable(webhooks)
		return nil
	}
	return cmd
}

func (p *program) webhookTable(webhooks []hub.Webhook) {
	var header []cell
	for _, title := range []string{"ID", "STATE", "DOMAINS", "SECRET", "WATCHES", "TARGET"} {
		header = append(header, cell{title, p.ink.Faint})
	}
	rows := [][]cell{header}
	for _, w := range webhooks {
		state := func(words string) string { return p.webhookState(w.State, words) }
		secret := "no"
		if w.HasSecret {
			secret = "yes"
		}
		items := watches(w)
		shown := dash(strings.Join(items, ", "))
		if p.ink.Width() > 0 && len(items) > 2 {
			shown = fmt.Sprintf("%s, %s and %d more", items[0], items[1], len(items)-2)
		}
		rows = append(rows, []cell{
			{text.Printable(w.ID, 0), nil}, {string(w.State), state}, {dash(domains(w)), nil}, {secret, nil}, {shown, p.ink.Strong}, {target(w), nil},
		})
	}
	fmt.Fprint(p.out, layOut(rows, p.ink.Width()))
}

func newHubShow(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show ID [flags]",
		Aliases:           []string{"info"},
		Short:             "show one webhook",
		Long:              `Show one webhook: its state, what it watches, and where its deliveries go.`,
		Example:           `  hubhook hub show 654bbbc16f2ec14d77f109cc`,
		Args:              wantWebhooks(1),
		ValidArgsFunction: p.completeWebhook(1),
	}
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, err := p.hub()
		if err != nil {
			return err
		}
		w, err := client.Webhooks.Get(cmd.Context(), ids[0])
		switch {
		case err != nil:
			return err
		case *asJSON:
			return p.printJSON(w)
		}
		p.webhookFields(client.Endpoint(), w)
		return nil
	}
	return cmd
}

func (p *program) webhookFields(endpoint string, w hub.Webhook) {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s%s%s\n", p.ink.Faint(name), strings.Repeat(" ", 10-len(name)), value)
		}
	}
	id := text.Printable(w.ID, 0)
	field("Webhook", p.ink.Strong(id))
	field("State", p.webhookState(w.State, string(w.State)))
	field("Target", target(w))
	if w.Job != nil {
		field("Command", text.OneLine(strings.Join(w.Job.Command, " "), 1000))
	}
	for i, item := range watches(w) {
		if i == 0 {
			field("Watches", item)
			continue
		}
		fmt.Fprintf(&b, "%10s%s\n", "", item)
	}
	field("Domains", domains(w))
	field("Secret", map[bool]string{true: "yes", false: "no"}[w.HasSecret])
	field("Activity", endpoint+"/settings/webhooks/"+id+"/activity")
	fmt.Fprint(p.out, b.String())
	switch w.State {
	case hub.Suspended:
		p.note("The Hub suspended it, as its deliveries failed.\n  hint: once the URL answers again: hubhook hub enable %s", id)
	case hub.Disabled:
		p.note("It is disabled and delivers nothing.\n  hint: hubhook hub enable %s", id)
	}
}
