package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
)

type replay struct {
	*program
	where    *where
	dead     bool
	since    string
	endpoint string
	json     bool
}

func newReplay(p *program) *cobra.Command {
	r := &replay{program: p}
	cmd := &cobra.Command{
		Use:   "replay ID... | --dead [flags]",
		Short: "handle deliveries once more, with the same bytes and headers",
		Long: `Handle deliveries once more, with the same bytes and headers. Each becomes a new
delivery, whose ID is printed. --dead takes all that are dead and have not been
replayed yet, oldest first.`,
		Example: `  hubhook deliveries replay 01J9ZK...
  hubhook deliveries replay --dead --since 2h`,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&r.dead, "dead", false, "all dead deliveries that have no replay")
	flags.StringVar(&r.since, "since", "", "with --dead, those that came since this `TIME`, 2h ago or 2026-01-31T08:00:00Z")
	flags.StringVar(&r.endpoint, "endpoint", "", "with --dead, those of the endpoint `NAME`")
	flags.BoolVar(&r.json, "json", false, "print one JSON object a line")
	r.where = addWhere(cmd)
	completeFlag(cmd, "endpoint", p.completeEndpoint(r.where))
	cmd.ValidArgsFunction = p.completeDelivery(r.where)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if err := r.run(cmd, ids); err != nil {
			return fmt.Errorf("deliveries replay: %w", err)
		}
		return nil
	}
	return cmd
}

func (r *replay) run(cmd *cobra.Command, ids []string) error {
	given := cmd.Flags().Changed
	const see = "see hubhook deliveries replay --help"
	switch {
	case len(ids) > 0 && (given("dead") || given("since") || given("endpoint")):
		return &usageError{text.WithHint(errors.New("IDs go without --dead, --since and --endpoint"), see)}
	case len(ids) == 0 && !r.dead:
		return &usageError{text.WithHint(errors.New("want the ID of a delivery, or --dead"), "hubhook deliveries list shows the IDs; "+see)}
	}
	from, err := since(r.since)
	if err != nil {
		return err
	}
	client, err := r.client(cmd, r.where)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if len(ids) == 0 {
		dead, _, err := list(ctx, client, queue.Filter{State: queue.Dead, Unreplayed: true, Since: from, Endpoint: r.endpoint}, 0)
		if err != nil {
			return err
		}
		for _, d := range slices.Backward(dead) {
			ids = append(ids, d.ID)
		}
		if len(ids) == 0 {
			r.note("There is no dead delivery without a replay.")
		}
	}
	return r.eachDelivery(cmd, ids, "replayed", func(id string) error {
		newID, err := client.Replay(ctx, id, nil)
		if err != nil {
			return err
		}
		if r.json {
			return r.printJSON(struct {
				Delivery string `json:"delivery"`
				ReplayOf string `json:"replay_of"`
			}{newID, id})
		}
		fmt.Fprintln(r.out, newID)
		return nil
	})
}
