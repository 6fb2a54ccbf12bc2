package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

func newHubEnable(p *program) *cobra.Command {
	return p.newSwitch("enable", "enabled", "let webhooks deliver, suspended ones too",
		`Let webhooks deliver again: those that are disabled, and those that the Hub
suspended because their deliveries failed. The IDs are printed.`,
		(*hub.Webhooks).Enable)
}

func newHubDisable(p *program) *cobra.Command {
	return p.newSwitch("disable", "disabled", "stop the deliveries of webhooks",
		`Stop the deliveries of webhooks. They stay as they are and can be enabled again.
The IDs are printed.`,
		(*hub.Webhooks).Disable)
}

// newSwitch makes the command that sets the state of webhooks.
func (p *program) newSwitch(verb, did, short, long string, set func(*hub.Webhooks, context.Context, string) (hub.Webhook, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:               verb + " ID... [flags]",
		Short:             short,
		Long:              long,
		Example:           "  hubhook hub " + verb + " 654bbbc16f2ec14d77f109cc",
		Args:              wantWebhooks(0),
		ValidArgsFunction: p.completeWebhook(0),
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, err := p.hub()
		if err != nil {
			return err
		}
		return p.eachWebhook(ids, did, func(id string) error {
			w, err := set(client.Webhooks, cmd.Context(), id)
			if err != nil {
				return err
			}
			return p.printWebhook(w, *asJSON)
		})
	}
	return cmd
}

func newHubDelete(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete ID... [flags]",
		Short: "delete webhooks",
		Long: `Delete webhooks, after a question on the terminal for each. Without a terminal
--yes is needed. The IDs of those that were deleted are printed.`,
		Example:           `  hubhook hub delete 654bbbc16f2ec14d77f109cc`,
		Args:              wantWebhooks(0),
		ValidArgsFunction: p.completeWebhook(0),
	}
	yes := cmd.Flags().Bool("yes", false, "delete without asking")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a line, with id")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if !*yes && (p.Stdin == nil || !term.IsTerminal(int(p.Stdin.Fd()))) {
			return wrongUsageHint(cmd, "say --yes to delete without being asked", "there is no terminal to ask on whether to delete")
		}
		client, err := p.hub()
		if err != nil {
			return err
		}
		answers := bufio.NewReader(p.Stdin)
		return p.eachWebhook(ids, "deleted", func(id string) error {
			if !*yes {
				if err := p.mayDelete(cmd.Context(), client, answers, id); err != nil {
					return err
				}
			}
			if err := client.Webhooks.Delete(cmd.Context(), id); err != nil {
				return err
			}
			if *asJSON {
				return p.printJSON(map[string]string{"id": id})
			}
			fmt.Fprintln(p.out, text.Printable(id, 0))
			return nil
		})
	}
	return cmd
}

// declined is the ID of a webhook that the person at the terminal wants to keep.
type declined string

func (id declined) Error() string {
	return "hub delete: webhook " + string(id) + " stays: the answer was not yes"
}

// mayDelete asks whether to delete a webhook, and returns an error unless the answer is yes.
func (p *program) mayDelete(ctx context.Context, client *hub.Client, answers *bufio.Reader, id string) error {
	w, err := client.Webhooks.Get(ctx, id)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stderr, "Delete webhook %s (%s, watches %s)? [y/N] ", text.Printable(w.ID, 0), target(w), dash(strings.Join(watches(w), ", ")))
	// A read from a terminal can't be interrupted, so this goroutine may run until the process ends.
	answered := make(chan string, 1)
	go func() {
		line, err := answers.ReadString('\n')
		if err == io.EOF {
			fmt.Fprintln(p.Stderr) // Ctrl-D leaves the cursor behind the question
		}
		answered <- line
	}()
	select {
	case line := <-answered:
		if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(p.Stderr)
		return fmt.Errorf("hub delete: webhook %s stays: interrupted", text.Printable(w.ID, 0))
	}
	return declined(text.Printable(w.ID, 0))
}

func newHubReplay(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay ID DELIVERY [flags]",
		Short: "let the Hub post a delivery of its log again",
		Long: `Let the Hub post a delivery of the webhook's log again: to the webhook's current
URL, with its current secret and the same Webhook-Id. The log is on the page
Activity, which hubhook hub show names. If hubhook has stored the delivery,
hubhook deliveries replay can do it without the Hub.`,
		Example: `  hubhook hub replay 654bbbc16f2ec14d77f109cc 66b1e2f0c8a9d3e4f5a6b7c8`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return wrongUsageHint(cmd, "the webhook's page Activity lists the deliveries; see "+cmd.CommandPath()+" --help", "want the ID of a delivery of webhook %s", args[0])
			}
			return wantWebhooks(2)(cmd, args)
		},
		ValidArgsFunction: p.completeWebhook(1),
	}
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object with status")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := p.hub()
		if err != nil {
			return err
		}
		status, err := client.Webhooks.Replay(cmd.Context(), args[0], args[1])
		switch {
		case errors.Is(err, hub.ErrNotFound):
			return text.WithHint(err, "the webhook's page Activity lists its deliveries: hubhook hub show "+args[0]+
				"\none that hubhook has stored needs no Hub: hubhook deliveries list, then hubhook deliveries replay ID")
		case err != nil:
			return err
		case *asJSON:
			err = p.printJSON(map[string]int{"status": status})
		case status == 0:
			p.note("The Hub posted it again, and does not say how it was answered.")
		default:
			fmt.Fprintf(p.out, "The Hub posted it again; it was answered %d.\n", status)
		}
		if err == nil && status/100 != 2 && status != 0 {
			return fmt.Errorf("hub replay: the endpoint answered %d", status)
		}
		return err
	}
	return cmd
}
