package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui/inspector"
)

func newDeliveries(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "deliveries",
		Aliases: []string{"delivery"},
		GroupID: groupLook,
		Short:   "list, show, await, replay and discard deliveries, and save them",
		Long: `Look into the log of the hubhook that runs in this directory: every delivery
that it accepted, and how it was handled. backup works whether it runs or not,
recover while it is stopped.`,
		Example: `  hubhook deliveries list --state dead
  hubhook deliveries show 01J9ZK...
  hubhook deliveries replay --dead --since 2h`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage(cmd, "want list, show, wait, follow, replay, discard, backup or recover")
			}
			return commandOnly(cmd, args)
		},
		RunE:              func(*cobra.Command, []string) error { return nil }, // Args has refused every call
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.AddCommand(newList(p), newShow(p), newWait(p), newFollow(p), newReplay(p), newDiscard(p), newBackup(p), newRecover(p))
	return cmd
}

// wantIDs refuses a call without an ID.
func wantIDs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return wrongUsageHint(cmd, "hubhook deliveries list shows the IDs; see "+cmd.CommandPath()+" --help", "want the ID of a delivery")
	}
	return nil
}

// maxPage is the most deliveries that one request lists.
const maxPage = 1000

// list returns up to limit of the deliveries that f picks, newest first, all of them if limit is 0, and whether there are more.
func list(ctx context.Context, client *inspector.Client, f queue.Filter, limit int) (deliveries []api.Delivery, more bool, err error) {
	for {
		f.Limit = maxPage
		if limit > 0 {
			f.Limit = min(maxPage, limit-len(deliveries))
		}
		page, err := client.List(ctx, f)
		if err != nil {
			return nil, false, explain(err)
		}
		deliveries = append(deliveries, page.Deliveries...)
		if page.Next == nil {
			return deliveries, false, nil
		}
		if limit > 0 && len(deliveries) >= limit {
			return deliveries, true, nil
		}
		f.Before = *page.Next
	}
}

// eachDelivery does something to deliveries one by one. What fails with one doesn't stop it, unless the others would fail as well, and is
// printed under its own ID; the error counts them.
func (p *program) eachDelivery(cmd *cobra.Command, ids []string, did string, do func(id string) error) error {
	failed := 0
	for i, id := range ids {
		err := explainID(do(id))
		var refused *inspector.StatusError
		switch {
		case err == nil:
		case len(ids) == 1:
			return err
		case errors.As(err, &refused):
			failed++
			server.PrintError(p.Stderr, fmt.Errorf("%s%w", act(cmd), err))
		default:
			return fmt.Errorf("%d of %d were not %s, from %s on: %w", failed+len(ids)-i, len(ids), did, id, err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d were not %s", failed, len(ids), did)
	}
	return nil
}

// event writes what a delivery is about, "" if it could not be read.
func event(d api.Delivery) string {
	switch {
	case d.Event.Scope == "" && d.Event.Action == "":
		return ""
	case d.Event.Action == "":
		return text.Printable(d.Event.Scope, 0)
	}
	return text.Printable(d.Event.Scope+"/"+d.Event.Action, 0)
}

func repo(d api.Delivery) string {
	return text.Printable(strings.TrimSpace(d.Repo.Type+" "+d.Repo.Name), 0)
}

// completionTime bounds what a press of Tab waits for.
const completionTime = time.Second

// complete asks the running hubhook for words; there are none without one.
func (p *program) complete(w *where, words func(ctx context.Context, client *inspector.Client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		const noFiles = cobra.ShellCompDirectiveNoFileComp
		if err := p.readVariables(cmd); err != nil {
			return nil, noFiles
		}
		client, err := p.client(cmd, w)
		if err != nil {
			return nil, noFiles
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		return words(ctx, client), noFiles | cobra.ShellCompDirectiveKeepOrder
	}
}

func (p *program) completeEndpoint(w *where) cobra.CompletionFunc {
	return p.complete(w, func(ctx context.Context, client *inspector.Client) (names []string) {
		status, err := client.Status(ctx)
		if err != nil {
			return nil
		}
		for _, e := range status.Endpoints {
			names = append(names, e.Name)
		}
		return names
	})
}

// completeDelivery completes the IDs of the newest deliveries.
func (p *program) completeDelivery(w *where) cobra.CompletionFunc {
	return p.complete(w, func(ctx context.Context, client *inspector.Client) (ids []string) {
		page, err := client.List(ctx, queue.Filter{})
		if err != nil {
			return nil
		}
		for _, d := range page.Deliveries {
			ids = append(ids, cobra.CompletionWithDesc(d.ID, fmt.Sprintf("%s  %s  %s  %s", d.State, d.Endpoint, event(d), repo(d))))
		}
		return ids
	})
}

func completeState(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return stateNames(), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func stateNames() []string {
	names := make([]string, 0, len(queue.States()))
	for _, s := range queue.States() {
		names = append(names, string(s))
	}
	return names
}

func completeScope(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return scopes(), cobra.ShellCompDirectiveNoFileComp
}

func completeAction(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{string(payload.Create), string(payload.Update), string(payload.Move), string(payload.Delete)}, cobra.ShellCompDirectiveNoFileComp
}

// since reads the value of --since, "" for none.
func since(value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := inspector.ParseSince(value, time.Now())
	if err != nil {
		return time.Time{}, &usageError{text.WithHint(fmt.Errorf("--since: %w", err), "--since 2h is what came in the last two hours")}
	}
	return t, nil
}
