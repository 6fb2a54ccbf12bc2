package cli

import (
	"errors"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

// webhookFlags are the flags of hub create and hub update.
type webhookFlags struct {
	url, job, secret string
	watch, domain    []string
	json             bool
}

// ofWebhook are the flags that change a webhook.
var ofWebhook = []string{"url", "job", "watch", "domain", "secret"}

func (f *webhookFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.url, "url", "", "`URL` that the Hub posts to")
	flags.StringVar(&f.job, "job", "", "`ID` of a Hub Job that the Hub runs again instead")
	flags.StringArrayVar(&f.watch, "watch", nil, "watch `TYPE:NAME`, dataset:me/data or user:me; repeatable")
	flags.StringArrayVar(&f.domain, "domain", nil, "deliver this `DOMAIN`, repo or discussion; repeatable")
	flags.StringVar(&f.secret, "secret", "", "webhook `SECRET` that deliveries carry (WEBHOOK_SECRET too)")
	flags.BoolVar(&f.json, "json", false, "print the webhook as a JSON object")
	completeFlag(cmd, "watch", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return watchedPrefixes(), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	completeFlag(cmd, "domain", completeWords(string(hub.RepoDomain), string(hub.DiscussionDomain)))
}

// watchedPrefixes returns how TYPE:NAME can begin, for completion.
func watchedPrefixes() []string {
	var prefixes []string
	for _, kind := range hub.WatchedTypes() {
		prefixes = append(prefixes, kind+":")
	}
	return prefixes
}

// settle drops the URL or the Job of a variable if the command line has the other one of the two.
func (f *webhookFlags) settle(cmd *cobra.Command) error {
	url, job := cmd.Flags().Changed("url"), cmd.Flags().Changed("job")
	switch {
	case url && !job:
		f.job = ""
	case job && !url:
		f.url = ""
	}
	if f.url != "" && f.job != "" {
		return wrongUsage(cmd, "--url and --job don't go together")
	}
	return nil
}

// apply puts into w what the flags say, and leaves the rest alone.
func (f *webhookFlags) apply(cmd *cobra.Command, w *hub.Webhook) error {
	if f.url != "" {
		u, err := url.Parse(f.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			// The URL is not repeated: it may have the secret in it.
			return wrongUsageHint(cmd, "it looks like https://me.ngrok.app/webhooks/NAME", "--url: want a URL with http:// or https:// and a host")
		}
		w.URL, w.Job = f.url, nil
	}
	if f.job != "" {
		w.URL, w.Job = "", &hub.Job{SourceID: f.job}
	}
	if len(f.watch) > 0 {
		w.Watched = nil
	}
	for _, item := range f.watch {
		watched, err := hub.ParseWatched(item)
		if err != nil {
			return wrongUsage(cmd, "--watch: %w", err)
		}
		w.Watched = append(w.Watched, watched)
	}
	if len(f.domain) > 0 {
		w.Domains = nil
	}
	for _, domain := range f.domain {
		d := hub.Domain(domain)
		if d != hub.RepoDomain && d != hub.DiscussionDomain {
			return wrongUsage(cmd, "--domain: there is no domain %q; want repo or discussion", domain)
		}
		w.Domains = append(w.Domains, d)
	}
	return nil
}

func newHubCreate(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --url URL|--job ID --watch TYPE:NAME... [flags]",
		Short: "make a webhook",
		Long: `Make a webhook of the token's user, for a URL or for a Hub Job. It delivers both
domains unless --domain says which. Without --secret deliveries carry the first
secret of WEBHOOK_SECRET, if that is set. The ID is printed.`,
		Example: `  hubhook hub create --url https://me.ngrok.app/webhooks/in --watch user:me
  hubhook hub create --job 687f911eaea852de79c4a50a --watch org:my-org`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	var f webhookFlags
	f.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.settle(cmd); err != nil {
			return err
		}
		switch {
		case f.url == "" && f.job == "":
			return wrongUsage(cmd, "want --url URL, or --job ID for a Job")
		case len(f.watch) == 0:
			return wrongUsage(cmd, "want --watch TYPE:NAME, dataset:me/data for example")
		}
		var w hub.Webhook
		if err := f.apply(cmd, &w); err != nil {
			return err
		}
		secret, from, err := p.configuredSecret(cmd, f.secret)
		if err != nil {
			return err
		}
		client, err := p.hub()
		if err != nil {
			return err
		}
		made, err := client.Webhooks.Create(cmd.Context(), hub.NewWebhook{URL: w.URL, Job: w.Job, Watched: w.Watched, Domains: w.Domains, Secret: secret})
		if err != nil {
			return err
		}
		if err := p.printWebhook(made, f.json); err != nil {
			return err
		}
		p.fromVariables(cmd, &f)
		switch {
		case secret == "" && w.URL != "" && !strings.Contains(w.URL, "secret="):
			p.note("Its deliveries carry no secret: anyone can post to that URL.\n  hint: hubhook hub update %s --secret SECRET", text.Printable(made.ID, 0))
		case from != "--secret" && secret != "":
			p.note("Its secret is the one in %s.", from)
		}
		p.warnLoopback(client, w.URL)
		return nil
	}
	return cmd
}

// fromVariables says which parts of a webhook came from variables, because these may have been set for serve.
func (p *program) fromVariables(cmd *cobra.Command, f *webhookFlags) {
	for _, part := range []struct {
		name string
		set  bool
	}{{"url", f.url != ""}, {"job", f.job != ""}, {"watch", len(f.watch) > 0}, {"domain", len(f.domain) > 0}} {
		if part.set && !cmd.Flags().Changed(part.name) {
			p.note("--%s was not given: its value is that of %s.", part.name, env.Variable(part.name))
		}
	}
}

// warnLoopback says that a Hub elsewhere can't reach a URL of this machine.
func (p *program) warnLoopback(client *hub.Client, address string) {
	if localURL(address) && !localURL(client.Endpoint()) {
		p.note("The Hub can't reach a URL of your own machine.\n  hint: take the public URL that hubhook serve prints")
	}
}

func newHubUpdate(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update ID [flags]",
		Short: "change a webhook",
		Long: `Change a webhook. What no flag names stays as it is; --watch and --domain
replace the whole list. The Hub hides a webhook's secret, and an update without
the secret may remove it. So the secret is sent again: that of --secret, or the
first of WEBHOOK_SECRET.`,
		Example: `  hubhook hub update 654bbbc16f2ec14d77f109cc --url https://me.example/hook
  hubhook hub update 654bbbc16f2ec14d77f109cc --watch user:me --watch org:my-org`,
		Args:              wantWebhooks(1),
		ValidArgsFunction: p.completeWebhook(1),
	}
	var f webhookFlags
	f.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if given(cmd, ofWebhook...) {
			f.onlyGiven(cmd) // variables may have been set for serve, and must not change more than the flags ask for
		}
		if err := f.settle(cmd); err != nil {
			return err
		}
		if f.url == "" && f.job == "" && len(f.watch) == 0 && len(f.domain) == 0 && !cmd.Flags().Changed("secret") {
			return wrongUsage(cmd, "want what to change: --url, --job, --watch, --domain or --secret")
		}
		secret, from, err := p.configuredSecret(cmd, f.secret)
		if err != nil {
			return err
		}
		if err := f.apply(cmd, &hub.Webhook{}); err != nil { // before anything is sent
			return err
		}
		client, err := p.hub()
		if err != nil {
			return err
		}
		w, err := client.Webhooks.Get(cmd.Context(), ids[0])
		if err != nil {
			return err
		}
		if err := f.apply(cmd, &w); err != nil {
			return err
		}
		again := false
		switch {
		case from == "--secret":
			w.Secret = secret
		case w.HasSecret && w.Secret == "" && secret != "":
			w.Secret, again = secret, true
		}
		changed, err := client.Webhooks.Update(cmd.Context(), w)
		if err != nil {
			return text.WithHint(err, secretHint(err))
		}
		if err := p.printWebhook(changed, f.json); err != nil {
			return err
		}
		p.fromVariables(cmd, &f)
		if again {
			p.note("Its secret is now the one in %s: the Hub hides the one that it had.", from)
		}
		p.warnLoopback(client, f.url)
		return nil
	}
	return cmd
}

// onlyGiven drops what came from variables.
func (f *webhookFlags) onlyGiven(cmd *cobra.Command) {
	flags := cmd.Flags()
	if !flags.Changed("url") {
		f.url = ""
	}
	if !flags.Changed("job") {
		f.job = ""
	}
	if !flags.Changed("watch") {
		f.watch = nil
	}
	if !flags.Changed("domain") {
		f.domain = nil
	}
}

// secretHint is the hint of err, in the words of the command line where the Hub hides the secret.
func secretHint(err error) string {
	if errors.Is(err, hub.ErrSecretHidden) {
		return "give it again with --secret or WEBHOOK_SECRET; an update without it may remove it"
	}
	return text.Hint(err)
}
