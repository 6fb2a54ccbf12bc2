package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/checkup"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui/inspector"
)

// itemLook finds out why nothing comes from an item of the Hub. Its checks are made one after the other, in the order of a delivery's way.
type itemLook struct {
	*hubLook
	item      hub.Watched
	inspector *inspector.Client // of the running hubhook

	// What the checks have found.
	name      string    // the item's present name
	changed   time.Time // when it last changed
	watchers  []hub.Webhook
	endpoints []string // of the running hubhook, to which watchers post or try to
	came      []api.Delivery
	more      bool // came has only the newest
	gathered  bool // came is known
}

func (d *doctor) lookAt(item hub.Watched, l *hubLook) *itemLook {
	return &itemLook{hubLook: l, item: item, inspector: d.inspector, name: item.Name}
}

// onHub are the checks of the Hub's side.
func (l *itemLook) onHub() []checkup.Check {
	return []checkup.Check{
		{Name: "hub", Doing: "asking the Hub", Run: l.reach},
		{Name: "token", Doing: "asking the Hub whose token it is", Run: l.token},
		{Name: l.item.Type, Doing: "asking the Hub for " + l.item.String(), Run: l.exists},
		{Name: "watched", Doing: "asking the Hub for your webhooks", Run: l.watched},
		{Name: "webhook", Doing: "looking at the webhooks", All: l.each},
		{Name: "rate limit", Run: l.rate},
	}
}

// wayIn picks the checks that say whether the running hubhook can be reached.
func (l *itemLook) wayIn(hooks *server.Server) (lists [][]checkup.Check) {
	for _, list := range hooks.Checkup(l.here.running) {
		var picked []checkup.Check
		for _, check := range list {
			run := check.Run
			switch check.Name {
			case "port":
			case "tunnel":
				check.Run = func(ctx context.Context) api.Finding {
					f := run(ctx)
					if f.Result == api.Fail {
						f.Fix = "hubhook doctor tries each step of the connection to the tunnel's service"
					}
					return f
				}
			case "public URL":
				check.Run = func(ctx context.Context) api.Finding {
					if l.here.running.Addresses.Public == "" && !l.here.hubIsLocal() && l.followed() == nil {
						return checkup.Fail(text.WithHint(errors.New("hubhook has none, so that the Hub can't reach it"),
							"open a tunnel (leave --no-tunnel out), or name the URL that leads here with --public-url; --follow needs none"))
					}
					return run(ctx)
				}
			default:
				continue
			}
			picked = append(picked, check)
		}
		lists = append(lists, picked)
	}
	return lists
}

// arrived are the checks of what has arrived at the running hubhook.
func (l *itemLook) arrived() []checkup.Check {
	return []checkup.Check{
		{Name: "refused", Run: l.refused},
		{Name: "deliveries", Run: l.deliveries},
		{Name: "quota", Run: l.quota},
		{Name: "followed", Run: l.follows},
	}
}

// isOwner reports whether the item is a user or an organization.
func (l *itemLook) isOwner() bool { return l.item.Type == "user" || l.item.Type == "org" }

// followed returns how the running hubhook follows the item, nil where it does not.
func (l *itemLook) followed() *api.Followed {
	if l.here.running == nil {
		return nil
	}
	for i, f := range l.here.running.Followed {
		if f.Item == l.item.String() || f.Item == l.item.Type+":"+l.name {
			return &l.here.running.Followed[i]
		}
	}
	return nil
}

// ask asks the Hub for an item, and returns its present name.
func (l *itemLook) ask(ctx context.Context, item hub.Watched) (name string, private bool, changed time.Time, err error) {
	switch item.Type {
	case "user", "org":
		return item.Name, false, time.Time{}, l.client.Account(ctx, item)
	case "bucket":
		b, err := l.client.Bucket(ctx, item.Name)
		updated, _ := time.Parse(time.RFC3339, b.UpdatedAt)
		return b.Name, b.Private, updated, err
	}
	r, err := l.client.Repo(ctx, hub.RepoID{Type: payload.RepoType(item.Type), Name: item.Name})
	return r.Name, r.Private, r.LastModified, err
}

// exists says whether the Hub has the item, and lets this token see it.
func (l *itemLook) exists(ctx context.Context) api.Finding {
	if l.client == nil || l.failed != nil {
		return checkup.Skip(notAsked)
	}
	name, private, changed, err := l.ask(ctx, l.item)
	switch {
	case errors.Is(err, hub.ErrNotFound):
		f := checkup.Fail(text.WithHint(fmt.Errorf("the Hub has no %s, or does not show it to this token", l.item), text.Hint(err)))
		if l.user.Name == "" {
			f.Text = fmt.Sprintf("the Hub has no %s, or shows it only to those who have a token", l.item)
		}
		if other := l.otherType(ctx); other != "" {
			f.Fix = "did you mean " + other + "? There is one"
		}
		return f
	case err != nil:
		l.unreachable(err)
		return l.trouble(err)
	}
	l.changed = changed
	said := l.item.String() + " is there"
	if private {
		said += ", private, and this token may see it"
	}
	if !changed.IsZero() {
		said += "; it last changed at " + at(api.Time{Time: changed})
	}
	if name != "" && !strings.EqualFold(name, l.item.Name) {
		l.name = name
		return checkup.Warn(fmt.Sprintf("%s was renamed: it is %s:%s now", l.item, l.item.Type, text.OneLine(name, 200)), "use the new name, in webhooks and filters too: hubhook doctor "+l.item.Type+":"+text.OneLine(name, 200))
	}
	return checkup.OK(said)
}

// otherType returns an item of that name and another type, "" where there is none.
func (l *itemLook) otherType(ctx context.Context) string {
	types := []string{"model", "dataset", "space", "bucket"}
	if l.isOwner() {
		types = []string{"user", "org"}
	}
	for _, kind := range types {
		other := hub.Watched{Type: kind, Name: l.item.Name}
		if kind == "bucket" && !strings.Contains(other.Name, "/") || kind == l.item.Type {
			continue
		}
		if _, _, _, err := l.ask(ctx, other); err == nil {
			return other.String()
		}
	}
	return ""
}

// owner returns the owner in a name, "" for one without an owner.
func owner(name string) string {
	before, _, ok := strings.Cut(name, "/")
	if !ok {
		return ""
	}
	return before
}

// covers reports whether a webhook that watches w gets the events of an item of that name.
func (l *itemLook) covers(w hub.Watched, name string) bool {
	if w.Type == l.item.Type && strings.EqualFold(w.Name, name) {
		return true
	}
	return !l.isOwner() && (w.Type == "user" || w.Type == "org") && strings.EqualFold(w.Name, owner(name))
}

// watched says which webhooks watch the item, and for which kinds of events.
func (l *itemLook) watched(ctx context.Context) api.Finding {
	if f := l.list(ctx); f != nil {
		return *f
	}
	var old []string
	domains := map[hub.Domain]bool{}
	var by []string
	for _, w := range l.webhooks {
		var via []string
		for _, item := range w.Watched {
			if l.covers(item, l.name) {
				via = append(via, item.String())
			} else if l.covers(item, l.item.Name) {
				old = append(old, w.ID)
			}
		}
		if len(via) == 0 {
			continue
		}
		l.watchers = append(l.watchers, w)
		by = append(by, text.OneLine(w.ID+" ("+strings.Join(via, ", ")+")", 300))
		for _, d := range w.Domains {
			domains[d] = true
		}
	}
	whose := text.OneLine(cmp.Or(l.user.Name, "the token's user"), 100)
	now := hub.Watched{Type: l.item.Type, Name: l.name}
	for _, w := range l.watchers {
		if len(w.Domains) == 0 { // what the Hub means by no domains is not known, so assume both
			domains[hub.RepoDomain], domains[hub.DiscussionDomain] = true, true
		}
	}
	switch {
	case len(l.watchers) == 0 && l.followed() != nil:
		return checkup.Skip("no webhook watches it; hubhook follows it without one")
	case len(l.watchers) == 0 && len(old) > 0:
		return checkup.Fail(text.WithHint(fmt.Errorf("webhook %s watches the old name, %s, of what is %s now", strings.Join(old, ", "), l.item, now),
			"hubhook hub update "+old[0]+" --watch "+now.String()+"   and everything else that it should watch"))
	case len(l.watchers) == 0:
		fix := "have hubhook keep one: hubhook serve --watch " + now.String() + "\nor make one: hubhook hub create --url " + l.here.address() + " --watch " + now.String()
		err := fmt.Errorf("none of the %d webhooks of %s watches %s, nor its owner", len(l.webhooks), whose, now)
		if l.isOwner() || owner(l.name) == "" {
			err = fmt.Errorf("none of the %d webhooks of %s watches %s", len(l.webhooks), whose, now)
		}
		for _, kept := range l.keptFor(now) { // hubhook should have made it, so its error says more
			if kept.Error != "" {
				err, fix = fmt.Errorf("%w; hubhook is to keep one: %s", err, kept.Error), cmp.Or(kept.Hint, fix)
			}
		}
		return checkup.Fail(text.WithHint(err, fix))
	}
	said := "by " + countOf(len(by), "webhook", "webhooks") + " of " + whose + ": " + strings.Join(by, ", ")
	fix := "hubhook hub update " + l.watchers[0].ID + " --domain repo --domain discussion"
	switch {
	case !domains[hub.RepoDomain]:
		return checkup.Fail(text.WithHint(fmt.Errorf("%s, for discussions alone: no push, no new branch and no change of its settings comes", said), fix))
	case !domains[hub.DiscussionDomain] && l.item.Type != "bucket":
		return checkup.Warn(said+", for the repo alone: no discussion, pull request or comment comes", fix)
	}
	return checkup.OK(said)
}

// keptFor returns the webhooks that the running hubhook is to keep for an item.
func (l *itemLook) keptFor(item hub.Watched) (kept []api.Webhook) {
	if l.here.running == nil {
		return nil
	}
	for _, w := range l.here.running.Webhooks {
		if slices.Contains(w.Watched, item.String()) {
			kept = append(kept, w)
		}
	}
	return kept
}

// Bounds of one check, so that it ends in time: of the webhooks that it judges, and of the URLs elsewhere that it asks.
const (
	mostWatchers = 20
	mostOthers   = 3
)

// each judges the webhooks that watch the item. One that posts elsewhere is fine where another one posts here.
func (l *itemLook) each(ctx context.Context) []api.Finding {
	if len(l.watchers) == 0 {
		return []api.Finding{checkup.Skip("none watches it, as far as is known")}
	}
	var verdicts []*verdict
	here, good := false, false
	for _, w := range l.watchers[:min(len(l.watchers), mostWatchers)] {
		v := l.here.judge(w)
		verdicts = append(verdicts, v)
		here = here || v.place == placeHere
		good = good || v.place == placeHere && !v.bad()
		if (v.place == placeHere || v.place == placeEarlier) && v.endpoint != "" && !slices.Contains(l.endpoints, v.endpoint) {
			l.endpoints = append(l.endpoints, v.endpoint)
		}
	}
	var findings []api.Finding
	others := 0
	for i, v := range verdicts {
		if w := l.watchers[i]; !here && l.here.running != nil && l.followed() == nil {
			switch v.place {
			case placeJob:
				v.problem(api.Fail, "", "a webhook has a Job or a URL; make another one for hubhook: hubhook hub create --url "+l.here.address()+" --watch "+l.item.String())
			case placeElsewhere:
				v.add("which is not this hubhook")
				if others++; others <= mostOthers {
					v.add(answers(ctx, w.URL))
				}
				v.problem(api.Fail, "", "if it is to post here: "+l.here.update(v, l.here.rightFor(v.endpoint))+"\nif not, make another one: hubhook hub create --url "+l.here.address()+" --watch "+l.item.String())
			}
		}
		if good && v.result == api.Fail {
			v.result = api.Warn // another webhook brings the same events
		}
		findings = append(findings, v.finding())
	}
	return findings
}

// otherTimeout bounds the look at the address of somebody else.
const otherTimeout = 3 * time.Second

// answers says what answers at a webhook's URL. It asks for /healthz and sends nothing of the webhook.
func answers(ctx context.Context, address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "it is not a URL"
	}
	ctx, cancel := context.WithTimeout(ctx, otherTimeout)
	defer cancel()
	health := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/healthz"}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, health.String(), nil)
	if err != nil {
		return "it can't be asked"
	}
	r.Header.Set("User-Agent", "hubhook/"+version.String())
	resp, err := oneRequest().Do(r)
	if err != nil {
		return "nothing answers there, asked from here"
	}
	defer resp.Body.Close()
	var said struct{ Status string }
	if json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&said) == nil && said.Status == "ok" {
		return "another hubhook seems to answer there"
	}
	return "something else answers there"
}

// notTheCause are checks of what doctor needs in order to look. Deliveries come without it.
var notTheCause = []string{"hub", "token", "rate limit"}

// harmless are checks whose warnings say nothing about deliveries: another version of hubhook runs, or the public URL can't be asked from here.
var harmless = []string{"hubhook", "public URL"}

// why sums up: the first failure in the order of a delivery's way is the cause, else a warning.
func (l *itemLook) why(findings []api.Finding) api.Finding {
	var cause, warned, blind *api.Finding
	var others []string
	arrived := false
	for _, f := range findings {
		delivered := f.Name == "deliveries" && len(l.came) > 0
		arrived = arrived || delivered && f.Result == api.OK
		switch {
		case slices.Contains(notTheCause, f.Name):
			if blind == nil && (f.Result == api.Fail || f.Result == api.Warn && l.failed != nil) {
				blind = &f
			}
		case f.Result == api.Fail && cause == nil:
			cause = &f
		case f.Result == api.Fail:
			others = append(others, f.Name)
		case f.Result == api.Warn && (delivered || warned == nil && !slices.Contains(harmless, f.Name)):
			warned = &f // what became of a delivery is known; why others don't come is a guess
		}
	}
	if cause == nil && !arrived {
		cause = warned
	}
	nothing := "nothing comes from " + l.item.String() + ": "
	switch {
	case cause != nil:
		said := cause.Text
		if strings.HasPrefix(cause.Name, "webhook ") {
			said = cause.Name + ": " + said
		}
		if len(others) > 0 {
			said += " (see also " + strings.Join(others, ", ") + ")"
		}
		if len(l.came) > 0 {
			nothing = "little comes from " + l.item.String() + ": "
		}
		return api.Finding{Name: "why", Result: cause.Result, Text: nothing + said, Fix: cause.Fix}
	case arrived:
		return api.Finding{Name: "why", Result: api.OK, Text: fmt.Sprintf("it comes: the latest at %s; the next one comes %s", at(l.came[0].Received), l.next())}
	case blind != nil:
		return api.Finding{Name: "why", Result: api.Skip, Text: "it can't be known without the Hub: " + blind.Text}
	case !l.listed && l.followed() == nil:
		return api.Finding{Name: "why", Result: api.Skip, Text: "it can't be known without the list of your webhooks; HF_TOKEN sets a token"}
	}
	return api.Finding{Name: "why", Result: api.OK, Text: "nothing is in the way, and nothing has happened since: the first one comes " + l.next()}
}

// next says what makes the Hub send something.
func (l *itemLook) next() string {
	switch l.item.Type {
	case "bucket":
		return "with an upload or a deletion of a file"
	case "user", "org":
		return "with a push to a repo of " + l.item.Name + ", a discussion or a comment"
	}
	return "with a push, a new branch or tag, a discussion or a comment"
}
