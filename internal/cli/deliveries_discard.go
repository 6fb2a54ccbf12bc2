package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

func newDiscard(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discard ID... [flags]",
		Short: "give up unfinished deliveries; a running handler is cancelled",
		Long: `Give up deliveries that wait, run or are to be retried; a running handler is
cancelled. They stay in the log and can be replayed. The IDs are printed.`,
		Example: `  hubhook deliveries discard 01J9ZK...`,
		Args:    wantIDs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a line")
	w := addWhere(cmd)
	cmd.ValidArgsFunction = p.completeDelivery(w)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, err := p.client(cmd, w)
		if err == nil {
			err = p.eachDelivery(cmd, ids, "discarded", func(id string) error {
				if err := client.Discard(cmd.Context(), id); err != nil {
					return err
				}
				if *asJSON {
					return p.printJSON(api.Answer{Delivery: id, State: string(queue.Discarded)})
				}
				fmt.Fprintln(p.out, id)
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("deliveries discard: %w", err)
		}
		return nil
	}
	return cmd
}
