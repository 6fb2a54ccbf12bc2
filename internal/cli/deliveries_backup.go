package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/queue"
)

func newBackup(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE [flags]",
		Short: "copy the database to a file, whether hubhook runs or not",
		Long: `Copy hubhook's database to a new file, as it is at one moment. hubhook may run
and goes on meanwhile. To restore a backup, stop hubhook, and put the file into
the data directory as hubhook.db, with no hubhook.db-... beside it.`,
		Example: `  hubhook deliveries backup hubhook-$(date +%F).db`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongUsage(cmd, "want the file to write")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object")
	data := addData(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.backup(cmd, *data, args[0], *asJSON); err != nil {
			return fmt.Errorf("deliveries backup: %w", explainLocal(err))
		}
		return nil
	}
	return cmd
}

func (p *program) backup(cmd *cobra.Command, data, file string, asJSON bool) error {
	dir, err := p.dataDirectory(data)
	if err != nil {
		return err
	}
	c := queue.BackupConfig{Dir: dir, File: file}
	m := p.meter("backing up " + dir)
	if m != nil {
		c.Progress = m.show
	}
	report, err := queue.Backup(cmd.Context(), c)
	m.end()
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(struct {
			File       string `json:"file"`
			Data       string `json:"data"`
			Deliveries int    `json:"deliveries"`
			Bytes      int64  `json:"bytes"`
		}{file, dir, report.Deliveries, report.Bytes})
	}
	fmt.Fprintf(p.out, "Wrote %s of %s to %s (%d KiB).\n", countOf(report.Deliveries, "delivery", "deliveries"), dir, file, report.Bytes>>10)
	return nil
}
