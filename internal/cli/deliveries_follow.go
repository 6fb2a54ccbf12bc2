package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/api"
)

func newFollow(p *program) *cobra.Command {
	w, pick := &where{}, &picking{}
	cmd := &cobra.Command{
		Use:   "follow [flags]",
		Short: "print deliveries as they come",
		Long: `Print each delivery once, when it begins to match the flags, until Ctrl-C. So
without flags each delivery is printed when it arrives, with --state dead when
it becomes dead.`,
		Example: `  hubhook deliveries follow
  hubhook deliveries follow --state dead --json | jq .reason`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().SortFlags = false
	pick.addTo(p, cmd, w)
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a line")
	w.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := p.follow(cmd, w, pick, *asJSON); err != nil {
			return fmt.Errorf("deliveries follow: %w", err)
		}
		return nil
	}
	return cmd
}

func (p *program) follow(cmd *cobra.Command, w *where, pick *picking, asJSON bool) error {
	f, err := pick.read()
	if err != nil {
		return err
	}
	client, err := p.client(cmd, w)
	if err != nil {
		return err
	}
	var failed error
	err = eachNew(cmd.Context(), client, f, func(d api.Delivery) (enough bool) {
		if asJSON {
			failed = p.printJSON(d)
		} else {
			fmt.Fprint(p.out, layOut([][]cell{p.row(d)}, p.ink.Width()))
		}
		return failed != nil || p.out.err != nil // nobody reads any more
	})
	switch {
	case err == nil:
		return failed // that of p.out is Main's
	case cmd.Context().Err() != nil:
		return nil // Ctrl-C
	case errors.Is(err, io.EOF):
		return errors.New("hubhook was stopped")
	}
	return explain(err)
}
