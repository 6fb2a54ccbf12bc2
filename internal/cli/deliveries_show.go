package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/ui"
)

func newShow(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID [flags]",
		Short: "show one delivery: headers, body, and every attempt to handle it",
		Long: `Show one delivery: what happened in words, with links to the Hub, headers, body,
and every attempt to handle it with its error, stack, output and result.
--web shows it on the inspector's page instead.`,
		Example: `  hubhook deliveries show 01J9ZK...
  hubhook deliveries show --web 01J9ZK...
  hubhook deliveries show --body 01J9ZK... > payload.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongUsage(cmd, "want the ID of one delivery, have %d", len(args))
			}
			return wantIDs(cmd, args)
		},
	}
	bodyOnly := cmd.Flags().Bool("body", false, "print the body alone, byte for byte")
	asJSON := cmd.Flags().Bool("json", false, "print a JSON object")
	web := cmd.Flags().Bool("web", false, "open it on the inspector's page, in your browser")
	w := addWhere(cmd)
	one := p.completeDelivery(w)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return one(cmd, args, word)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := alone(cmd, "json", "body"); err != nil {
			return err
		}
		if err := alone(cmd, "web", "body", "json"); err != nil {
			return err
		}
		client, err := p.client(cmd, w)
		if err != nil {
			return fmt.Errorf("deliveries show: %w", err)
		}
		record, err := client.Get(cmd.Context(), args[0])
		switch {
		case err != nil:
			return fmt.Errorf("deliveries show: %w", explainID(err))
		case *web && !given(cmd, "body", "json"):
			page, err := client.DeliveryPage(record.ID)
			if err == nil {
				err = p.openPage(cmd, client, page)
			}
			if err != nil {
				return fmt.Errorf("deliveries show: %w", err)
			}
		case *bodyOnly && !given(cmd, "json"):
			p.out.Write([]byte(record.Body)) // Main reports its error
		case *asJSON:
			return p.printJSON(record)
		default:
			p.printRecord(record)
		}
		return nil
	}
	return cmd
}

func (p *program) printRecord(r api.Record) {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s%s%s\n", p.ink.Faint(name), strings.Repeat(" ", 13-len(name)), value)
		}
	}
	field("Delivery", p.ink.Strong(r.ID))
	field("State", p.ink.State(string(r.State), string(r.State)))
	field("Reason", text.Printable(r.Reason, 0))
	if !r.RunAt.IsZero() {
		field("Next attempt", moment(r.RunAt.Time, false))
	}
	field("Endpoint", text.Printable(r.Endpoint, 0))
	field("Event", event(r.Delivery))
	field("Repo", repo(r.Delivery))
	field("Summary", text.Printable(r.Summary, 0))
	field("Received", moment(r.Received.Time, false))
	field("Webhook-Id", text.Printable(r.WebhookID, 0))
	field("Replay of", r.ReplayOf)
	field("Merged into", r.MergedInto)
	if n := len(r.Merged); n > 0 {
		field("Merged", fmt.Sprintf("%d into this one; --json lists them", n))
	}
	switch {
	case r.Source == api.Follow || r.Source == api.CatchUp:
		field("Source", string(r.Source)+"; made from what was read on the Hub")
	case r.Synthetic:
		field("Sample", "yes; it did not come from the Hub")
	}
	for _, n := range []struct {
		name  string
		count int
	}{{"Duplicates", r.Duplicates}, {"Replays", r.Replays}} {
		if n.count > 0 {
			field(n.name, fmt.Sprint(n.count))
		}
	}
	title := func(text string) { fmt.Fprintf(&b, "\n%s\n", p.ink.Strong(text)) }
	if len(r.Links) > 0 {
		title("Links")
		for _, l := range r.Links {
			fmt.Fprintf(&b, "  %s: %s\n", p.ink.Faint(text.Printable(l.Text, 0)), text.Printable(l.URL, 0))
		}
	}
	title("Headers")
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		for _, value := range r.Headers[name] {
			fmt.Fprintf(&b, "  %s: %s\n", p.ink.Faint(text.Printable(name, 0)), text.Printable(value, 0))
		}
	}
	title(fmt.Sprintf("Body (%d bytes)", len(r.Body)))
	b.WriteString(indent(prettyJSON([]byte(r.Body))))
	title("Attempts")
	if len(r.AttemptList) == 0 {
		b.WriteString("  none\n")
	}
	for _, a := range r.AttemptList {
		b.WriteString(p.attempt(a))
	}
	fmt.Fprint(p.out, b.String())
}

func (p *program) attempt(a api.Attempt) string {
	var b strings.Builder
	began := a.Started.Local().Format("15:04:05.000")
	switch {
	case a.DurationMS == nil:
		fmt.Fprintf(&b, "  %d  %s  running\n", a.N, began)
	case a.Error != "":
		fmt.Fprintf(&b, "  %d  %s  %s in %s: %s\n", a.N, began, p.ink.Bad("failed"), milliseconds(*a.DurationMS), text.Printable(a.Error, 0))
	default:
		fmt.Fprintf(&b, "  %d  %s  %s in %s\n", a.N, began, p.ink.State("done", "done"), milliseconds(*a.DurationMS))
	}
	part := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "     %s\n%s", p.ink.Faint(name+":"), indent(indent(text)))
		}
	}
	part("stack", text.PrintableLines(a.Stack))
	part("output", text.PrintableLines(a.Output))
	if len(a.Result) > 0 && string(a.Result) != "null" {
		part("result", prettyJSON(a.Result))
	}
	return b.String()
}

func milliseconds(n int64) string { return ui.Duration(time.Duration(n) * time.Millisecond) }

// prettyJSON lays JSON out over lines; what isn't JSON stays as it is, but for what a terminal could obey.
func prettyJSON(value []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, value, "", "  ") != nil {
		return text.PrintableLines(string(value))
	}
	return string(text.PrintableJSON(b.Bytes()))
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}
