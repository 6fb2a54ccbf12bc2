package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub/follow"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/checkup"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
)

// notHere is the finding of checks that need a running hubhook, when none runs.
const notHere = "no hubhook runs here that could be asked"

// refused says whether the running hubhook has refused requests of the webhooks, and whether a delivery of the item was accepted later.
func (l *itemLook) refused(ctx context.Context) api.Finding {
	if l.here.running == nil {
		return checkup.Skip(notHere)
	}
	if err := l.gather(ctx); err != nil {
		return checkup.Fail(explain(err))
	}
	list, err := l.inspector.Rejected(ctx)
	if err != nil {
		return checkup.Fail(explain(err))
	}
	times, latest := 0, api.Rejected{}
	for _, r := range list.Rejected {
		if len(l.endpoints) > 0 && !slices.Contains(l.endpoints, r.Endpoint) {
			continue
		}
		times += r.Times
		if latest.Status == 0 {
			latest = r
		}
	}
	where := "refused here"
	if len(l.endpoints) > 0 {
		where = "for " + strings.Join(l.endpoints, ", ") + " refused here"
	}
	if times == 0 {
		return checkup.OK("no request " + where + " since hubhook was started")
	}
	said := fmt.Sprintf("%s %s, the latest at %s with %d: %s", countOf(times, "request", "requests"), where, at(latest.Time), latest.Status, latest.Error)
	if len(l.came) > 0 && l.came[0].Received.After(latest.Time.Time) {
		return checkup.OK(said + "; what came later was accepted")
	}
	if len(l.endpoints) == 0 { // no endpoint is known, so the refused request may have come from another webhook
		return checkup.Warn(said, cmp.Or(latest.Fix, "look at what hubhook prints"))
	}
	return checkup.Fail(text.WithHint(errors.New(said), latest.Fix))
}

// mostCame is how many deliveries are looked at: a page of the inspector's list.
const mostCame = 1000

// gather asks for the item's deliveries, also those under its old name. Samples and replays are left out, because they don't come from the Hub.
func (l *itemLook) gather(ctx context.Context) error {
	if l.gathered {
		return nil
	}
	for _, name := range slices.Compact([]string{l.item.Name, l.name}) {
		filter := queue.Filter{Repo: l.item.Type + ":" + name, Limit: mostCame}
		if l.isOwner() {
			filter = queue.Filter{Query: name + "/", Limit: mostCame}
		}
		list, err := l.inspector.List(ctx, filter)
		if err != nil {
			return err
		}
		l.more = l.more || list.Next != nil
		for _, d := range list.Deliveries {
			if d.Source != api.Sample && d.ReplayOf == "" && (!l.isOwner() || strings.EqualFold(owner(d.Repo.Name), name)) {
				l.came = append(l.came, d)
			}
		}
	}
	slices.SortStableFunc(l.came, func(a, b api.Delivery) int { return b.Received.Compare(a.Received.Time) })
	l.gathered = true
	return nil
}

// deliveries says what has come of the item, and what became of it.
func (l *itemLook) deliveries(ctx context.Context) api.Finding {
	if l.here.running == nil {
		return checkup.Skip(notHere)
	}
	if err := l.gather(ctx); err != nil {
		return checkup.Fail(explain(err))
	}
	return became(l.came, l.more)
}

// became says what became of deliveries, newest first.
func became(came []api.Delivery, more bool) api.Finding {
	if len(came) == 0 {
		return checkup.Skip("none of it is stored here")
	}
	states, reasons, sources := map[string]int{}, map[string]int{}, map[api.Source]int{}
	for _, d := range came {
		states[d.State]++
		sources[d.Source]++
		if d.State == string(queue.Skipped) && d.Reason != "" {
			reasons[d.Reason]++
		}
	}
	latest := came[0]
	number := countOf(len(came), "has come", "have come")
	if more {
		number = fmt.Sprintf("%d or more have come", len(came))
	}
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
	}
	for _, s := range []api.Source{api.Follow, api.CatchUp} {
		if n := sources[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d of them by %s", n, s))
		}
	}
	said := fmt.Sprintf("%s: %s; the latest, %s at %s, is %s", number, strings.Join(parts, ", "), latest.ID, at(latest.Received), latest.State)
	fix := "hubhook deliveries show " + latest.ID
	switch latest.State {
	case string(queue.Skipped):
		return checkup.Warn(said+": "+text.OneLine(cmp.Or(mostOf(reasons), latest.Reason), 500), "the endpoint's filter (if) says no; "+fix)
	case string(queue.Dead):
		return checkup.Warn(said+": "+text.OneLine(latest.Reason, 500), "fix the handler, then: hubhook deliveries replay "+latest.ID+"\n"+fix+" has what it printed")
	case string(queue.Retrying):
		return checkup.Warn(said+": "+text.OneLine(latest.Reason, 500), fix+" has what it printed")
	case string(queue.Discarded):
		return checkup.Warn(said+": "+text.OneLine(latest.Reason, 500), "hubhook deliveries replay "+latest.ID)
	}
	return checkup.OK(said)
}

// mostOf writes the three most frequent reasons.
func mostOf(reasons map[string]int) string {
	sorted := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, reason := range sorted[:min(len(sorted), 3)] {
		parts = append(parts, fmt.Sprintf("%s (%d times)", reason, reasons[reason]))
	}
	return strings.Join(parts, "; ")
}

// quota compares the deliveries of 24 hours to each endpoint with the number that the Hub sends for one webhook.
func (l *itemLook) quota(ctx context.Context) api.Finding {
	if l.here.running == nil {
		return checkup.Skip(notHere)
	}
	if len(l.endpoints) == 0 {
		return checkup.Skip("no webhook that watches it posts here")
	}
	most, whose := int64(0), ""
	for _, endpoint := range l.endpoints {
		n := int64(0)
		for _, kept := range l.here.running.Webhooks {
			if kept.Endpoint == endpoint {
				n = max(n, kept.Deliveries)
			}
		}
		list, err := l.inspector.List(ctx, queue.Filter{Endpoint: endpoint, Since: time.Now().Add(-24 * time.Hour), Limit: keep.DailyLimit})
		if err != nil {
			return checkup.Fail(explain(err))
		}
		stored := int64(0)
		for _, d := range list.Deliveries {
			if d.Source == api.Hub && d.ReplayOf == "" {
				stored++
			}
		}
		if n = max(n, stored); n >= most {
			most, whose = n, endpoint
		}
	}
	return ofDay(most, whose)
}

// ofDay is the finding for n deliveries to an endpoint in 24 hours.
func ofDay(n int64, endpoint string) api.Finding {
	said := fmt.Sprintf("%d of %d deliveries came to %s in 24 hours", n, keep.DailyLimit, endpoint)
	const fix = "watch less with one webhook, or share it among several; with PRO, Team or Enterprise the Hub's support can raise the limit"
	switch {
	case n >= keep.DailyLimit:
		return checkup.Fail(text.WithHint(fmt.Errorf("%s, which is all that the Hub sends for one webhook", said), fix))
	case keep.NearLimit(n):
		return checkup.Warn(said+", and the Hub sends no more for one webhook", fix)
	}
	return checkup.OK(said)
}

// follows says how the running hubhook follows the item without a webhook.
func (l *itemLook) follows(context.Context) api.Finding {
	f := l.followed()
	switch {
	case l.here.running == nil:
		return checkup.Skip(notHere)
	case f == nil:
		return checkup.Skip("it is not followed (--follow)")
	}
	return following(f)
}

// following says how an item is followed.
func following(f *api.Followed) api.Finding {
	said := fmt.Sprintf("%s since %s", f.State, at(f.Since))
	if !f.Looked.IsZero() {
		said += ", last looked at " + at(f.Looked)
	}
	if f.Error != "" {
		said += ": " + f.Error
	}
	switch f.State {
	case follow.Failing, follow.Gone, follow.Off:
		return checkup.Fail(text.WithHint(errors.New(said), cmp.Or(f.Hint, "look at what hubhook prints")))
	case follow.Starting:
		return checkup.Warn(said, "wait a moment, and look again")
	}
	return checkup.OK(said)
}
