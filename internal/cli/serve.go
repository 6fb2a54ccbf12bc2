package cli

import (
	"flag"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/tunnel"
)

// defaultEndpoint is served where no name is given.
const defaultEndpoint = "inbox"

func newServe(p *program) *cobra.Command {
	standard, _ := tunnel.Lookup("")
	config := &server.Config{Keys: p.Stdin, Output: p.Stdout, Errors: p.Stderr, Getenv: p.LookupEnv}
	cmd := &cobra.Command{
		Use:     "serve [NAME...] [flags]",
		GroupID: groupReceive,
		Short:   "serve endpoints; the Hub posts to https://.../webhooks/NAME",
		Long: `Serve endpoints: open a public URL for this machine, print the endpoints to
paste into the Hub's settings, store each delivery before it is answered, and
show it. Ctrl-C stops.

Each NAME is an endpoint, /webhooks/NAME; without one there is a single
endpoint, inbox. NAME has letters, digits, _, - and ., in segments joined by /.

` + standard.Usage,
		Example: `  hubhook serve trigger_training
  WEBHOOK_SECRET=... hubhook serve --url me.ngrok.app trigger_training mirror
  hubhook serve --no-tunnel --host 0.0.0.0 --port 8080     # in production`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := p.serve(cmd, *config, names); err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	config.Flags(flags)
	cmd.Flags().AddGoFlagSet(flags)
	completeFlag(cmd, "answer", completeWords("stored", "handled"))
	var providers []string
	for _, provider := range tunnel.Registered() {
		providers = append(providers, provider.Name)
	}
	completeFlag(cmd, "tunnel", completeWords(providers...))
	completeFlag(cmd, "inspector", completeWords("off"))
	return cmd
}

func (p *program) serve(cmd *cobra.Command, config server.Config, names []string) error {
	if len(names) == 0 {
		names = []string{defaultEndpoint}
	}
	seen := map[string]bool{}
	for i, name := range names {
		name, err := server.EndpointName(name)
		if err != nil {
			return &usageError{text.WithHint(err, "an endpoint's name has letters, digits, _, - and ., in segments joined by /: trigger_training")}
		}
		if seen[name] {
			return &usageError{text.WithHint(fmt.Errorf("endpoint %s is named twice", name), "name each endpoint once; it takes any number of webhooks")}
		}
		seen[name], names[i] = true, name
	}
	s, err := server.New(config)
	if err != nil {
		return err
	}
	for _, name := range names {
		s.Handle(name, nil)
	}
	return s.Run(cmd.Context())
}
