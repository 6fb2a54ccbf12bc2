package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/version"
)

func newVersion(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "version [flags]",
		GroupID:           groupOther,
		Short:             "print the version",
		Long:              "Print the version of hubhook, that of the Go which built it, and the platform.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object")
	cmd.RunE = func(*cobra.Command, []string) error { return p.printVersion(*asJSON) }
	return cmd
}

func (p *program) printVersion(asJSON bool) error {
	if asJSON {
		return p.printJSON(struct {
			Version string `json:"version"`
			Go      string `json:"go"`
			OS      string `json:"os"`
			Arch    string `json:"arch"`
		}{version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH})
	}
	fmt.Fprintf(p.out, "hubhook %s (%s %s/%s)\n", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
