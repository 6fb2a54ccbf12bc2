package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/ui/inspector"
)

const defaultListed = 50

type listing struct {
	*program
	where *where
	pick  picking
	limit int
	json  bool
	web   bool
}

// picking has the flags that say which deliveries are meant.
type picking struct {
	filter       queue.Filter
	state, since string
}

// addTo gives cmd the flags.
func (k *picking) addTo(p *program, cmd *cobra.Command, w *where) {
	flags := cmd.Flags()
	flags.StringVar(&k.filter.Endpoint, "endpoint", "", "only those of the endpoint `NAME`")
	flags.StringVar(&k.state, "state", "", "only those in this `STATE`: "+strings.Join(stateNames(), ", "))
	flags.StringVar(&k.filter.Scope, "scope", "", "only those of this `SCOPE` and narrower ones, such as repo")
	flags.StringVar(&k.filter.Action, "action", "", "only those with this `ACTION`, such as update")
	flags.StringVar(&k.filter.Repo, "repo", "", "only those about this `REPO`, me/data or dataset:me/data")
	flags.StringVar(&k.filter.Query, "search", "", "only those with this `TEXT` in ID, Webhook-Id, repo or reason")
	flags.StringVar(&k.since, "since", "", "only those that came since this `TIME`, 2h ago or 2026-01-31T08:00:00Z")
	completeFlag(cmd, "endpoint", p.completeEndpoint(w))
	completeFlag(cmd, "state", completeState)
	completeFlag(cmd, "scope", completeScope)
	completeFlag(cmd, "action", completeAction)
}

// read returns what the flags say.
func (k *picking) read() (f queue.Filter, err error) {
	f = k.filter
	f.State = queue.State(k.state)
	if k.state != "" && !slices.Contains(queue.States(), f.State) {
		return f, &usageError{text.WithHint(fmt.Errorf("--state: there is no state %q", k.state), "the states are "+strings.Join(stateNames(), ", "))}
	}
	f.Since, err = since(k.since)
	return f, err
}

// webless are the flags whose wish the inspector's page can't fulfil.
var webless = []string{"json", "limit", "action", "since"}

func newList(p *program) *cobra.Command {
	l := &listing{program: p}
	cmd := &cobra.Command{
		Use:     "list [flags]",
		Aliases: []string{"ls"},
		Short:   "list deliveries, newest first",
		Long: `List deliveries, newest first. On a terminal long lines are cut; in a pipe or a
file they are whole. --json prints one object a line. --web lists them on the
inspector's page instead.`,
		Example: `  hubhook deliveries list --state dead --since 2h
  hubhook deliveries list --repo dataset:me/data
  hubhook deliveries list --json --limit 0 | jq .state
  hubhook deliveries list --web --state dead`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := alone(cmd, "web", webless...); err != nil {
				return err
			}
			if err := l.run(cmd); err != nil {
				return fmt.Errorf("deliveries list: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	l.where = &where{}
	l.pick.addTo(p, cmd, l.where)
	flags.IntVar(&l.limit, "limit", defaultListed, "at most `N`; 0 lists all")
	flags.BoolVar(&l.json, "json", false, "print one JSON object a line")
	flags.BoolVar(&l.web, "web", false, "list them on the inspector's page, in your browser; that page has no filter for time and action")
	l.where.addTo(cmd)
	return cmd
}

func (l *listing) run(cmd *cobra.Command) (err error) {
	f, err := l.pick.read()
	if err != nil {
		return err
	}
	if l.limit < 0 {
		return &usageError{text.WithHint(errors.New("--limit: want a number above 0, or 0 for all"), "see hubhook deliveries list --help")}
	}
	client, err := l.client(cmd, l.where)
	if err != nil {
		return err
	}
	if l.web && !given(cmd, webless...) {
		return l.openList(cmd, client, f)
	}
	deliveries, more, err := list(cmd.Context(), client, f, l.limit)
	if err != nil {
		return err
	}
	switch {
	case len(deliveries) == 0 && f != (queue.Filter{}):
		l.note("No delivery matches.\n  hint: leave out some of the flags, or see all with: hubhook deliveries list")
	case len(deliveries) == 0:
		l.note("No deliveries yet.\n  hint: send a sample event with: hubhook trigger repo.content")
	}
	if l.json {
		for _, d := range deliveries {
			if err := l.printJSON(d); err != nil {
				return err
			}
		}
		return nil
	}
	l.table(deliveries)
	if more {
		l.note("There are more: --limit N lists N, --limit 0 lists all.")
	}
	return nil
}

// openList shows what f picks on the inspector's page.
func (l *listing) openList(cmd *cobra.Command, client *inspector.Client, f queue.Filter) error {
	f.Action, f.Since = "", time.Time{} // of variables, which are for all lists
	page, err := client.ListPage(f)
	if err != nil {
		return err
	}
	return l.openPage(cmd, client, page)
}

// cell is a word of a table, and how it is coloured.
type cell struct {
	text  string
	paint func(string) string // nil: plain
}

func (l *listing) table(deliveries []api.Delivery) {
	if len(deliveries) == 0 {
		return
	}
	var rows [][]cell
	header := []cell{}
	for _, title := range []string{"ID", "RECEIVED", "STATE", "ENDPOINT", "EVENT", "REPO", "NOTE"} {
		header = append(header, cell{title, l.ink.Faint})
	}
	rows = append(rows, header)
	for _, d := range deliveries {
		rows = append(rows, l.row(d))
	}
	fmt.Fprint(l.out, layOut(rows, l.ink.Width()))
}

// row writes what a table has of a delivery.
func (p *program) row(d api.Delivery) []cell {
	state := func(words string) string { return p.ink.State(string(d.State), words) }
	return []cell{
		{d.ID, nil}, {moment(d.Received.Time, p.ink.Width() > 0), p.ink.Faint}, {string(d.State), state}, {text.Printable(d.Endpoint, 0), nil},
		{dash(event(d)), nil}, {dash(repo(d)), p.ink.Strong}, {noteOf(d), nil},
	}
}

// layOut writes rows in columns two spaces apart. Lines are cut at width characters, unless it is 0.
func layOut(rows [][]cell, width int) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		start, end := 0, 0 // of the cell and of what is written, in characters
		for i, c := range row {
			room := utf8.RuneCountInString(c.text)
			if width > 0 {
				room = min(room, width-start)
			}
			if room > 0 {
				text := c.text
				if room < utf8.RuneCountInString(text) {
					text = string([]rune(text)[:room-1]) + "…"
				}
				if c.paint != nil {
					text = c.paint(text)
				}
				b.WriteString(strings.Repeat(" ", start-end) + text)
				end = start + room
			}
			start += widths[i] + 2
		}
		b.WriteString("\n")
	}
	return b.String()
}

// moment writes when something was, in local time; brief leaves out what is plain for something recent.
func moment(t time.Time, brief bool) string {
	if brief && time.Since(t) < 20*time.Hour {
		return t.Local().Format("15:04:05")
	}
	if brief {
		return t.Local().Format("Jan _2 15:04")
	}
	return t.Local().Format("2006-01-02T15:04:05Z07:00")
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// noteOf says what else there is to know of a delivery at a glance.
func noteOf(d api.Delivery) string {
	var notes []string
	if d.Synthetic {
		notes = append(notes, text.Printable(string(d.Source), 0))
	}
	if d.ReplayOf != "" {
		notes = append(notes, "replay of "+d.ReplayOf)
	}
	if d.MergedInto != "" {
		notes = append(notes, "merged into "+d.MergedInto)
	}
	if d.Replays > 0 {
		notes = append(notes, "replayed")
	}
	if d.Attempts > 1 {
		notes = append(notes, fmt.Sprintf("%d attempts", d.Attempts))
	}
	if d.Duplicates > 0 {
		plural := "s"
		if d.Duplicates == 1 {
			plural = ""
		}
		notes = append(notes, fmt.Sprintf("%d duplicate%s", d.Duplicates, plural))
	}
	if d.Reason != "" {
		notes = append(notes, text.Printable(d.Reason, 0))
	}
	return strings.Join(notes, "; ")
}
