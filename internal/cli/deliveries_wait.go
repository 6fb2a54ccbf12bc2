package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
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
		Long: `Wait for the next delivery that begins to match the flags, and print it as a
JSON object, as show --json does. Deliveries that match already do not count:
--state done waits for the next one that becomes done.`,
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
func next(ctx context.Context, client *inspector.Client, f queue.Filter) (id string, err error) {
	err = eachNew(ctx, client, f, func(d api.Delivery) (enough bool) {
		id = d.ID
		return true
	})
	return id, err
}

// mostKnown bounds how many deliveries eachNew remembers.
const mostKnown = 10 * maxPage

// eachNew calls found for each delivery that comes to match f, until found has enough: then it returns nil. It returns an error where ctx
// or the stream ends.
func eachNew(ctx context.Context, client *inspector.Client, f queue.Filter, found func(api.Delivery) (enough bool)) error {
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	f.Limit = maxPage
	var known []string // the newest that match, in the order in which they were seen
	looked, newest := false, ""
	var failed error
	enough := false
	tell := func(d api.Delivery) {
		known = append(known[max(0, len(known)+1-mostKnown):], d.ID)
		enough = enough || found(d)
	}
	look := func() {
		page, err := client.List(ctx, f)
		if failed = err; err != nil {
			return
		}
		slices.Reverse(page.Deliveries) // the oldest first
		for _, d := range page.Deliveries {
			switch {
			case !looked:
				known = append(known, d.ID)
			case !enough && !slices.Contains(known, d.ID):
				tell(d)
			}
		}
		if looked {
			return
		}
		looked = true
		all, err := client.List(ctx, queue.Filter{Limit: 1})
		if failed = err; err == nil && len(all.Deliveries) > 0 {
			newest = all.Deliveries[0].ID
		}
	}
	// What a filter without state and text asks for never changes, so an older delivery has always matched.
	fixed := f.State == "" && f.Query == ""
	err := client.Stream(streaming, func(e inspector.StreamEvent) {
		if failed != nil || enough {
			return // the stream is about to end
		}
		switch e.Name {
		case "open", "missed":
			look()
		case "delivery":
			var d api.Delivery
			if failed = json.Unmarshal(e.Data, &d); failed != nil {
				break
			}
			at := slices.Index(known, d.ID)
			switch matches := picks(f, d); {
			case !matches && at >= 0:
				known = slices.Delete(known, at, at+1)
			case matches && at < 0 && !(fixed && d.ID <= newest):
				tell(d)
			}
		}
		if failed != nil || enough {
			stop()
		}
	})
	switch {
	case failed != nil:
		return failed
	case enough:
		return nil
	}
	return err
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
