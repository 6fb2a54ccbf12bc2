package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui/inspector"
)

const defaultWait = time.Minute

func newWait(p *program) *cobra.Command {
	w, pick := &where{}, &picking{}
	cmd := &cobra.Command{
		Use:   "wait [flags]",
		Short: "wait for the next delivery, and print it",
		Long: `Wait for the next delivery that the flags match, and print it as a JSON object,
as show --json does. Deliveries that match already do not count: with
--state done it is the next one that becomes done.`,
		Example: `  hubhook deliveries wait --endpoint trigger_training
  hubhook deliveries wait --state dead --timeout 10m | jq .reason`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().SortFlags = false
	pick.addTo(p, cmd, w)
	timeout := cmd.Flags().Duration("timeout", defaultWait, "wait at most this `DURATION`")
	w.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		record, err := p.wait(cmd, w, pick, *timeout)
		if err != nil {
			return fmt.Errorf("deliveries wait: %w", err)
		}
		return p.printJSON(record)
	}
	return cmd
}

func (p *program) wait(cmd *cobra.Command, w *where, pick *picking, timeout time.Duration) (api.Record, error) {
	f, err := pick.read()
	if err != nil {
		return api.Record{}, err
	}
	if timeout <= 0 {
		return api.Record{}, &usageError{text.WithHint(fmt.Errorf("--timeout: want a duration above 0, have %v", timeout), "--timeout 10m waits for ten minutes")}
	}
	client, err := p.client(cmd, w)
	if err != nil {
		return api.Record{}, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	id, err := next(ctx, client, f)
	switch {
	case err == nil:
		record, err := client.Get(cmd.Context(), id)
		return record, explainID(err)
	case cmd.Context().Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return api.Record{}, text.WithHint(fmt.Errorf("no such delivery within %v", timeout), "wait longer with --timeout 10m, or look at what came with: hubhook deliveries list")
	case errors.Is(err, io.EOF):
		return api.Record{}, errors.New("hubhook was stopped meanwhile")
	}
	return api.Record{}, explain(err)
}

// next waits for a delivery that comes to match f, and returns its ID.
func next(ctx context.Context, client *inspector.Client, f queue.Filter) (string, error) {
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	f.Limit = maxPage
	var found string
	var failed error
	var known map[string]bool // the newest that match, nil before the first look
	var newest string         // of all deliveries at the first look
	look := func() {
		page, err := client.List(ctx, f)
		if failed = err; err != nil {
			return
		}
		first := known == nil
		if first {
			known = map[string]bool{}
			all, err := client.List(ctx, queue.Filter{Limit: 1})
			if failed = err; err != nil {
				return
			}
			if len(all.Deliveries) > 0 {
				newest = all.Deliveries[0].ID
			}
		}
		for _, d := range page.Deliveries { // the newest first, so the oldest of the new ones is left in found
			if !first && !known[d.ID] {
				found = d.ID
			}
			known[d.ID] = true
		}
	}
	// What a filter without state and text asks for never changes, so an older delivery has always matched.
	fixed := f.State == "" && f.Query == ""
	err := client.Stream(streaming, func(e inspector.StreamEvent) {
		if found != "" {
			return
		}
		switch e.Name {
		case "open", "missed":
			look()
		case "delivery":
			var d api.Delivery
			if failed = json.Unmarshal(e.Data, &d); failed != nil {
				break
			}
			switch matches := picks(f, d); {
			case !matches:
				delete(known, d.ID)
			case !known[d.ID] && !(fixed && d.ID <= newest):
				found = d.ID
			}
		}
		if failed != nil || found != "" {
			stop()
		}
	})
	switch {
	case failed != nil:
		return "", failed
	case found != "":
		return found, nil
	}
	return "", err
}

// picks reports whether f picks d, as a list does.
func picks(f queue.Filter, d api.Delivery) bool {
	if f.Endpoint != "" && d.Endpoint != f.Endpoint || f.State != "" && d.State != string(f.State) || f.Action != "" && d.Event.Action != f.Action ||
		f.Repo != "" && f.Repo != d.Repo.Name && f.Repo != d.Repo.Type+":"+d.Repo.Name ||
		f.Scope != "" && !payload.Scope(d.Event.Scope).In(payload.Scope(f.Scope)) || d.Received.Before(f.Since) {
		return false
	}
	for _, words := range []string{d.ID, d.WebhookID, d.Repo.Name, d.Reason} {
		if strings.Contains(strings.ToLower(words), strings.ToLower(f.Query)) {
			return true
		}
	}
	return false
}
