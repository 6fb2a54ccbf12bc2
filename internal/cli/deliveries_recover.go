package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/queue"
)

func newRecover(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover [flags]",
		Short: "save what can be read of a damaged database",
		Long: `Save what can be read of a damaged database into a new one. The damaged file is
kept beside it, and what was lost is said. hubhook has to be stopped. A database
that is not damaged is left as it is.`,
		Example:           `  hubhook deliveries recover --data /var/lib/hubhook`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object")
	data := addData(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := p.recover(cmd, *data, *asJSON); err != nil {
			return fmt.Errorf("deliveries recover: %w", explainLocal(err))
		}
		return nil
	}
	return cmd
}

// recoveredJSON is what recover --json prints.
type recoveredJSON struct {
	Database     string   `json:"database"`
	Sound        bool     `json:"sound"`
	Deliveries   int      `json:"deliveries"`
	Unfinished   int      `json:"unfinished"`
	Kept         string   `json:"kept,omitempty"`
	BadPages     int      `json:"bad_pages"`
	LostContent  []string `json:"lost_content"`
	Died         []string `json:"died"`
	LostAttempts []string `json:"lost_attempts"`
	Rebuilt      []string `json:"rebuilt"`
	Renamed      []string `json:"renamed_endpoints"`
	Vanished     int      `json:"vanished"`
}

func (p *program) recover(cmd *cobra.Command, data string, asJSON bool) error {
	dir, err := p.dataDirectory(data)
	if err != nil {
		return err
	}
	c := queue.RecoverConfig{Dir: dir}
	m := p.meter("reading " + dir)
	if m != nil {
		c.Progress = func(done, total int) { m.show(int64(done), int64(total)) }
	}
	r, err := queue.Recover(cmd.Context(), c)
	m.end()
	if err != nil {
		return err
	}
	if asJSON {
		list := func(ids []string) []string { return append([]string{}, ids...) } // [] rather than null
		return p.printJSON(recoveredJSON{
			r.Database, r.Sound, r.Deliveries, r.Unfinished, r.Kept, r.BadPages,
			list(r.LostContent), list(r.Died), list(r.LostAttempts), list(r.Rebuilt), list(r.Renamed), r.Vanished,
		})
	}
	p.printRecovery(r)
	return nil
}

func (p *program) printRecovery(r *queue.Recovery) {
	stored := fmt.Sprintf("%s, %d of them unfinished", countOf(r.Deliveries, "delivery", "deliveries"), r.Unfinished)
	if r.Sound {
		fmt.Fprintf(p.out, "%s is not damaged: %s. Nothing was changed.\n", r.Database, stored)
		return
	}
	fmt.Fprintf(p.out, "Saved into a new %s: %s.\n", r.Database, stored)
	fmt.Fprintf(p.out, "The damaged file is kept as %s (%s seen).\n", r.Kept, countOf(r.BadPages, "damaged page", "damaged pages"))
	lost := false
	named := func(ids []string, what string, note func(id string) string) {
		if len(ids) == 0 {
			return
		}
		lost = true
		fmt.Fprintf(p.out, "%s: %s\n", p.ink.Bad(what), countOf(len(ids), "delivery", "deliveries"))
		for _, id := range ids {
			fmt.Fprintf(p.out, "  %s%s\n", id, note(id))
		}
	}
	nothing := func(string) string { return "" }
	named(r.LostContent, "Lost headers and body", func(id string) string {
		if _, died := slices.BinarySearch(r.Died, id); died {
			return "  was unfinished, and is dead now"
		}
		return ""
	})
	named(r.LostAttempts, "Lost attempts", nothing)
	named(r.Rebuilt, "Lost the record, put together from the rest", nothing)
	for _, name := range r.Renamed {
		lost = true
		fmt.Fprintf(p.out, "%s: it is called %s now\n", p.ink.Bad("Lost the name of an endpoint"), name)
	}
	if r.Vanished > 0 {
		lost = true
		fmt.Fprintf(p.out, "%s: %s, by the counts that were kept\n", p.ink.Bad("Nothing is left"), countOf(r.Vanished, "delivery", "deliveries"))
	}
	if !lost {
		fmt.Fprintln(p.out, "Nothing was lost.")
	}
}
