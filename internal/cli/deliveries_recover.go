package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/ui"
)

func newRecover(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover [flags]",
		Short: "save what can be read of a damaged database",
		Long: `Save what can be read of a damaged database into a new one. The damaged file is
kept beside it, and what was lost is listed. hubhook has to be stopped. A
database that is not damaged is left unchanged.`,
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

// shownLost is how many deliveries of each kind of loss are named on the screen. With more, a file names them all.
const shownLost = 20

func (p *program) printRecovery(r *queue.Recovery) {
	stored := fmt.Sprintf("%s, %d of them unfinished", countOf(r.Deliveries, "delivery", "deliveries"), r.Unfinished)
	if r.Sound {
		fmt.Fprintf(p.out, "%s is not damaged: %s. Nothing was changed.\n", r.Database, stored)
		return
	}
	fmt.Fprintf(p.out, "Saved into a new %s: %s.\n", r.Database, stored)
	fmt.Fprintf(p.out, "The damaged file is kept as %s (%s seen).\n", r.Kept, countOf(r.BadPages, "damaged page", "damaged pages"))
	list := ""
	if max(len(r.LostContent), len(r.LostAttempts), len(r.Rebuilt)) > shownLost {
		list = r.Kept + ".lost"
		if err := os.WriteFile(list, []byte(losses(r, "", ui.Ink{})), 0o600); err != nil {
			p.note("%v; all that was lost is named here", err)
			list = ""
		}
	}
	fmt.Fprint(p.out, losses(r, list, p.ink))
}

// losses says what was lost, a line for each, or the first few and that the rest is in the file list.
func losses(r *queue.Recovery, list string, ink ui.Ink) string {
	var text strings.Builder
	named := func(what string, ids []string, note func(id string) string) {
		if len(ids) == 0 {
			return
		}
		fmt.Fprintf(&text, "%s: %s\n", ink.Bad(what), countOf(len(ids), "delivery", "deliveries"))
		shown := ids
		if list != "" && len(ids) > shownLost {
			shown = ids[:shownLost]
		}
		for _, id := range shown {
			fmt.Fprintf(&text, "  %s%s\n", id, note(id))
		}
		if more := len(ids) - len(shown); more > 0 {
			fmt.Fprintf(&text, "  and %d more; all are in %s\n", more, list)
		}
	}
	nothing := func(string) string { return "" }
	named("Lost headers and body", r.LostContent, func(id string) string {
		if _, died := slices.BinarySearch(r.Died, id); died {
			return "  was unfinished, and is dead now"
		}
		return ""
	})
	named("Lost attempts", r.LostAttempts, nothing)
	named("Lost the record, put together from the rest", r.Rebuilt, nothing)
	for _, name := range r.Renamed {
		fmt.Fprintf(&text, "%s: it is called %s now\n", ink.Bad("Lost the name of an endpoint"), name)
	}
	if r.Vanished > 0 {
		fmt.Fprintf(&text, "%s: %s, by the counts that were kept\n", ink.Bad("Nothing is left"), countOf(r.Vanished, "delivery", "deliveries"))
	}
	if text.Len() == 0 {
		return "Nothing was lost.\n"
	}
	return text.String()
}
