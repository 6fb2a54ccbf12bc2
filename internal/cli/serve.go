package cli

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/companion"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/tunnel"
)

// defaultEndpoint is served where neither a name nor a file says what to serve.
const defaultEndpoint = "inbox"

// serve is what `hubhook serve` is told, beside the names of endpoints.
type serve struct {
	*program
	config   server.Config
	run      []string // NAME=COMMAND
	forward  []string // NAME=URL
	file     string   // "" for the working directory's, if there is one
	insecure bool
	changed  func(api.Upstream) // shows that one of --forward or hubhook.yaml no longer answers, or does again
}

func newServe(p *program) *cobra.Command {
	var usages strings.Builder
	for _, provider := range tunnel.Registered() {
		if provider.Usage != "" {
			usages.WriteString("\n\n" + provider.Usage)
		}
	}
	s := &serve{program: p, config: server.Config{Keys: p.Stdin, Output: p.Stdout, Errors: p.Stderr, Getenv: p.LookupEnv}}
	cmd := &cobra.Command{
		Use:     "serve [NAME...] [flags]",
		GroupID: groupReceive,
		Short:   "serve endpoints; the Hub posts to https://.../webhooks/NAME",
		Long: `Serve endpoints: open a public URL for this machine, print the endpoints to
paste into the Hub's settings, store each delivery before it is answered, and
show it. Ctrl-C stops.

Each NAME is an endpoint, /webhooks/NAME, that stores and shows its deliveries.
--run starts a command for each delivery, --forward sends each to a URL, and
hubhook.yaml in this directory can do both and more. Without any of these there
is one endpoint, inbox. NAME has letters, digits, _, - and ., in segments joined
by /.` + usages.String(),
		Example: `  hubhook serve trigger_training
  hubhook serve --run trigger_training=./train.sh
  hubhook serve --forward mirror=http://127.0.0.1:3000/hook
  WEBHOOK_SECRET=... hubhook serve --url me.ngrok.app trigger_training mirror
  hubhook serve --ssh localhost.run                        # without an account
  hubhook serve --no-tunnel --host 0.0.0.0 --port 8080     # in production`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := s.serve(cmd, names); err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
	own := cmd.Flags()
	own.StringArrayVar(&s.run, "run", nil, "run a command for each delivery of an endpoint, `NAME=COMMAND`; repeatable")
	own.StringArrayVar(&s.forward, "forward", nil, "send the deliveries of an endpoint on, `NAME=URL`; repeatable")
	own.StringVar(&s.file, "config", "", "configuration `FILE` (default hubhook.yaml, if this directory has one)")
	own.BoolVar(&s.insecure, "insecure", false, "run commands for anyone who posts to the public URL, without a webhook secret")
	addSettings(cmd, &s.config)
	return cmd
}

// setting marks flags that server.Config reads the variables of.
const setting = "setting"

// addSettings gives cmd the flags that set config's fields, but for those that are left out.
func addSettings(cmd *cobra.Command, config *server.Config, without ...string) {
	all, flags := flag.NewFlagSet("", flag.ContinueOnError), flag.NewFlagSet("", flag.ContinueOnError)
	config.Flags(all)
	all.VisitAll(func(f *flag.Flag) {
		if !slices.Contains(without, f.Name) {
			flags.Var(f.Value, f.Name, f.Usage)
		}
	})
	cmd.Flags().AddGoFlagSet(flags)
	flags.VisitAll(func(f *flag.Flag) { cmd.Flags().Lookup(f.Name).Annotations = map[string][]string{setting: nil} })
	if flags.Lookup("answer") != nil {
		completeFlag(cmd, "answer", completeWords("stored", "handled"))
	}
	var providers []string
	for _, provider := range tunnel.Registered() {
		providers = append(providers, provider.Name)
		for _, f := range provider.Flags {
			if len(f.Words) > 0 && flags.Lookup(f.Name) != nil {
				completeFlag(cmd, f.Name, completeWords(f.Words...))
			}
		}
	}
	completeFlag(cmd, "tunnel", completeWords(providers...))
	completeFlag(cmd, "inspector", completeWords("off"))
}

func (s *serve) serve(cmd *cobra.Command, names []string) error {
	names, err := endpointNames(names)
	if err != nil {
		return err
	}
	var hooks *server.Server
	commands := &action.Commands{Secret: func() string { return hooks.Secret() }, Upstream: func(endpoint string, h action.Health) { s.changed(h.View(endpoint)) }, Hub: s.hubAsked()}
	flagged, err := action.FromFlags(s.run, s.forward, commands)
	if err != nil {
		return &usageError{text.WithHint(err, "write it as --run trigger_training=./train.sh, or --forward mirror=http://127.0.0.1:3000/hook")}
	}
	file, err := s.loadFile(s.file, commands)
	if err != nil {
		return err
	}
	config := s.config
	config.File = file.Setting
	if hooks, err = server.New(config); err != nil {
		return err
	}
	if err := s.checkSecret(hooks, slices.Concat(flagged, file.Endpoints)); err != nil {
		return err
	}
	live, err := action.NewLive(hooks, flagged, names, defaultEndpoint, file)
	if err != nil {
		return err
	}
	defer live.Close()
	stop := s.follow(cmd.Context(), hooks, file, live, commands)
	defer stop()
	err = hooks.Run(companion.WithUpstreams(cmd.Context(), &companion.Upstreams{
		Attach: func(changed func(api.Upstream)) { s.changed = changed },
		Now:    live.Upstreams,
	}))
	commands.Wait() // or those that are being ended would outlive hubhook
	return err
}

// endpointNames checks names.
func endpointNames(names []string) ([]string, error) {
	var checked []string
	for _, name := range names {
		name, err := server.EndpointName(name)
		if err != nil {
			return nil, &usageError{text.WithHint(err, "an endpoint's name has letters, digits, _, - and ., in segments joined by /: trigger_training")}
		}
		if slices.Contains(checked, name) {
			return nil, &usageError{text.WithHint(fmt.Errorf("endpoint %s is named twice", name), "name each endpoint once; it takes any number of webhooks")}
		}
		checked = append(checked, name)
	}
	return checked, nil
}

// checkSecret refuses to run commands for everyone on the internet.
func (s *serve) checkSecret(hooks *server.Server, endpoints []*action.Endpoint) error {
	if s.insecure || !hooks.Public() || hooks.Secret() != "" {
		return nil
	}
	for _, e := range endpoints {
		if e.Run != "" {
			return &usageError{text.WithHint(
				fmt.Errorf("endpoint %s runs a command, and without a webhook secret anyone who learns the public URL can run it", e.Name),
				"set WEBHOOK_SECRET to the secret in the webhook's settings on the Hub, or let everyone with --insecure")}
		}
	}
	return nil
}
