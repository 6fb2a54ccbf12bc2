package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
)

// ours is what is known of the hubhook here, against which the Hub's webhooks are judged.
type ours struct {
	running    *api.Status       // nil where none runs
	hub        string            // the Hub's address
	record     keep.Record       // of the webhooks that hubhook keeps, in the data directory
	shared     keep.Record       // of those that the processes which share the database keep
	earlier    []string          // public URLs that the running one has had, without a slash at the end
	configured bool              // a webhook secret is configured in this shell
	accepts    func(string) bool // whether a secret is among those that are configured in this shell
}

// place is where a webhook's deliveries go.
type place int

const (
	placeElsewhere place = iota
	placeHere            // to the hubhook here
	placeEarlier         // to a URL that the hubhook here has had
	placeNowhere         // to an address that the Hub can't reach
	placeJob             // to a Hub Job
)

// verdict is how one webhook stands.
type verdict struct {
	id       string
	place    place
	endpoint string // the name in its URL, "" where that has none
	said     []string
	fixes    []string
	result   api.Result
}

// bad reports whether there is something to fix.
func (v *verdict) bad() bool { return v.result == api.Warn || v.result == api.Fail }

// say begins another sentence.
func (v *verdict) say(words string) { v.said = append(v.said, words) }

// add appends to the last sentence, after a comma.
func (v *verdict) add(words string) { v.said[len(v.said)-1] += ", " + words }

// problem adds something that is wrong, and its fix. words is "" if another call has said it already.
func (v *verdict) problem(result api.Result, words, fix string) {
	if words != "" {
		v.say(words)
	}
	if fix != "" && !slices.Contains(v.fixes, fix) {
		v.fixes = append(v.fixes, fix)
	}
	if v.result != api.Fail {
		v.result = result
	}
}

func (v *verdict) finding() api.Finding {
	return api.Finding{Name: "webhook " + text.OneLine(v.id, 100), Result: v.result, Text: strings.Join(v.said, "; "), Fix: strings.Join(v.fixes, "\n")}
}

// base is the URL below which the running hubhook's endpoints are, "" where none runs.
func (o *ours) base() string {
	if o.running == nil {
		return ""
	}
	return strings.TrimRight(cmp.Or(o.running.Addresses.Public, o.running.Addresses.Local), "/")
}

// address is the URL of the endpoint here. If there are several, or none is known, it ends with the placeholder NAME.
func (o *ours) address() string {
	if o.running != nil && len(o.running.Endpoints) == 1 {
		return o.running.Endpoints[0].URL
	}
	return cmp.Or(o.base(), "URL") + "/webhooks/NAME"
}

// kept returns the entry of a webhook that the running hubhook keeps.
func (o *ours) kept(id string) *api.Webhook {
	if o.running == nil {
		return nil
	}
	for i, w := range o.running.Webhooks {
		if w.ID == id && id != "" {
			return &o.running.Webhooks[i]
		}
	}
	return nil
}

// recorded returns the entry of a webhook in the records, nil for none. shared says that it is the one in the database.
func (o *ours) recorded(id string) (entry *keep.Entry, shared bool) {
	for i, e := range slices.Concat(o.record.Entries, o.shared.Entries) {
		if e.ID == id && e.Hub == o.hub {
			return e, i >= len(o.record.Entries)
		}
	}
	return nil, false
}

// judge says where a webhook's deliveries go, and what is wrong with that.
func (o *ours) judge(w hub.Webhook) *verdict {
	v := &verdict{id: w.ID, result: api.OK}
	kept := o.kept(w.ID)
	recorded, shared := o.recorded(w.ID)
	u := o.placeOf(v, w, kept != nil, recorded)
	switch {
	case kept != nil:
		o.judgeKept(v, kept)
	case shared && o.running == nil:
		v.place = placeHere
		v.say("the processes that share the database keep it while one of them runs, and none runs here")
	case recorded != nil && o.running == nil:
		v.place = placeHere
		v.say("hubhook keeps it while it runs, and none runs here")
	}
	o.judgeState(v, w, kept, recorded, shared)
	if u == nil || kept != nil {
		return v
	}
	if v.place == placeHere && o.running != nil {
		o.judgePath(v, u)
		o.judgeSecret(v, w, u)
	}
	if u.Scheme == "http" && !o.hubIsLocal() && (v.place == placeHere || v.place == placeEarlier) {
		v.problem(api.Warn, "it posts over http, so that others on the network can read the secret", o.update(v, "https://"+u.Host+u.EscapedPath()))
	}
	return v
}

// hubIsLocal reports whether the Hub is on this machine or network, as a stand-in is. Such a Hub can reach local URLs.
func (o *ours) hubIsLocal() bool { return localURL(o.hub) }

// localURL reports whether a URL can be reached from its own machine or network alone.
func localURL(address string) bool {
	u, err := url.Parse(address)
	return err == nil && local(u.Hostname())
}

func local(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsUnspecified() || addr.IsLinkLocalUnicast()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// tunnels are domains below which tunnel services give out names.
var tunnels = []string{".ngrok-free.app", ".ngrok-free.dev", ".ngrok.app", ".ngrok.dev", ".ngrok.io", ".trycloudflare.com", ".lhr.life", ".pinggy.link", ".gradio.live"}

// placeOf says where a webhook's deliveries go. It returns the URL, nil for a Job and for what is no URL.
func (o *ours) placeOf(v *verdict, w hub.Webhook, kept bool, recorded *keep.Entry) *url.URL {
	if w.Job != nil {
		v.place = placeJob
		v.say("it starts a " + target(w) + ", and posts to no hubhook")
		return nil
	}
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" {
		v.place = placeNowhere
		v.problem(api.Warn, "it has no valid URL", o.update(v, o.address()))
		return nil
	}
	v.endpoint = endpointIn(u)
	v.say("it posts to " + target(w))
	base, _ := url.Parse(o.base())
	moved := func(why string, result api.Result) *url.URL {
		v.place = placeEarlier
		to := "none runs here now"
		if o.running != nil {
			to = "hubhook is at " + o.base() + " now"
		}
		v.add(why + "; " + to)
		v.problem(result, "", o.update(v, o.rightFor(v.endpoint))+"\nor have hubhook keep it right: hubhook serve --webhook "+w.ID)
		return u
	}
	onlyURL := u.Scheme + "://" + u.Host
	switch {
	case base != nil && base.Host != "" && strings.EqualFold(u.Host, base.Host):
		v.place = placeHere
	case o.hubIsLocal() && o.running != nil && sameHost(o.running.Addresses.Local, u):
		v.place = placeHere
	case local(u.Hostname()) && !o.hubIsLocal():
		v.place = placeNowhere
		v.add("which the Hub can't reach: it is an address of one machine or network alone")
		v.problem(api.Warn, "", o.update(v, o.rightFor(v.endpoint)))
		if o.running != nil && sameHost(o.running.Addresses.Local, u) {
			v.result = api.Fail
		}
	case kept, recorded != nil && o.running == nil: // hubhook itself keeps the URL right while it runs
	case slices.Contains(o.earlier, onlyURL), o.gave(w.URL):
		return moved("which was the public URL of the hubhook here", api.Fail)
	case o.running != nil && o.serves(v.endpoint) && slices.ContainsFunc(tunnels, func(domain string) bool { return strings.HasSuffix(u.Hostname(), domain) }):
		return moved("which may be an earlier tunnel of the hubhook here, as it has the same endpoint", api.Warn)
	}
	return u
}

// gave reports whether hubhook has given a webhook this URL once, by the records.
func (o *ours) gave(address string) bool {
	return slices.ContainsFunc(slices.Concat(o.record.Entries, o.shared.Entries), func(e *keep.Entry) bool { return e.Wrote(address) })
}

// endpointIn returns the name of the endpoint in a URL, "" where its path is not that of an endpoint.
func endpointIn(u *url.URL) string {
	segments := strings.FieldsFunc(u.Path, func(c rune) bool { return c == '/' })
	if len(segments) < 2 || segments[0] != "webhooks" {
		return ""
	}
	return strings.Join(segments[1:], "/")
}

// serves reports whether the running hubhook has an endpoint of that name.
func (o *ours) serves(name string) bool {
	return name != "" && slices.ContainsFunc(o.running.Endpoints, func(e api.Endpoint) bool { return e.Name == name })
}

// rightFor returns the URL to which a webhook of that endpoint should post.
func (o *ours) rightFor(name string) string {
	if o.running != nil && o.serves(name) {
		return o.base() + "/webhooks/" + name
	}
	return o.address()
}

// update is the command that gives the webhook another URL.
func (o *ours) update(v *verdict, address string) string {
	return "hubhook hub update " + v.id + " --url " + address
}

// judgeKept adds what the running hubhook says of a webhook that it keeps.
func (o *ours) judgeKept(v *verdict, k *api.Webhook) {
	v.place = placeHere
	v.endpoint = k.Endpoint
	words := fmt.Sprintf("hubhook keeps it for %s: %s since %s", k.Endpoint, k.State, at(k.Since))
	if k.Error != "" {
		words += ", " + k.Error
	}
	switch k.State {
	case keep.Active:
		if k.Error == "" {
			v.say(words)
			return
		}
		v.problem(api.Warn, words, cmp.Or(k.Hint, "look at what hubhook prints"))
	case keep.Waiting:
		v.problem(api.Warn, words, cmp.Or(k.Hint, "it waits for a public URL that is proven; see the checks of the tunnel"))
	case keep.Failed, keep.Taken:
		v.problem(api.Fail, words, cmp.Or(k.Hint, "look at what hubhook prints"))
	default: // the state on the Hub says the rest
		v.say(words)
	}
}

// judgeState adds whether the webhook delivers.
func (o *ours) judgeState(v *verdict, w hub.Webhook, kept *api.Webhook, recorded *keep.Entry, shared bool) {
	enable := "hubhook hub enable " + w.ID
	switch {
	case w.State == hub.Suspended && kept != nil:
		v.problem(api.Fail, "the Hub has suspended it, since its deliveries failed", "hubhook enables it once the public URL is proven; see the checks of the tunnel")
	case w.State == hub.Suspended && v.place == placeHere, w.State == hub.Suspended && v.place == placeEarlier:
		v.problem(api.Fail, "the Hub has suspended it, since its deliveries failed", "once hubhook can be reached again: "+enable)
	case w.State == hub.Suspended:
		v.problem(api.Warn, "the Hub has suspended it, since its deliveries failed", "correct what it posts to, then: "+enable)
	case w.State == hub.Disabled && recorded != nil && o.running == nil:
		v.say("it is disabled meanwhile")
	case w.State == hub.Disabled && v.place == placeHere:
		v.problem(api.Fail, "it is disabled", enable)
	case w.State == hub.Disabled:
		v.say("it is disabled")
	case shared: // a process on another machine may keep it
	case recorded != nil && o.running == nil && recorded.Borrowed == nil:
		v.problem(api.Warn, "it is still enabled, so the Hub posts to a hubhook that does not run", "start hubhook again, or have it deleted: hubhook hub cleanup")
	}
}

// judgePath adds whether an endpoint is at the webhook's path.
func (o *ours) judgePath(v *verdict, u *url.URL) {
	var names []string
	for _, e := range o.running.Endpoints {
		names = append(names, e.Name)
	}
	switch {
	case v.endpoint == "":
		v.problem(api.Fail, fmt.Sprintf("no endpoint is at %s: want /webhooks/NAME", text.OneLine(cmp.Or(u.Path, "/"), 200)), o.update(v, o.address()))
	case !o.serves(v.endpoint) && o.running.Program == nil: // a program under dev makes endpoints known late
		v.problem(api.Fail, fmt.Sprintf("no endpoint is called %q; there are %s", text.OneLine(v.endpoint, 200), strings.Join(names, ", ")), o.update(v, o.address()))
	}
}

// judgeSecret adds whether the webhook sends the secret that is wanted here.
func (o *ours) judgeSecret(v *verdict, w hub.Webhook, u *url.URL) {
	if o.running.Secret == "none" {
		return
	}
	inURL := u.Query().Get("secret")
	switch shown := string(w.Secret); {
	case !w.HasSecret && inURL == "":
		v.problem(api.Fail, "it sends no secret, and is refused with 401", o.giveSecret(w.ID))
	case !o.configured || shown == "" && inURL == "": // not known here, or not shown by the Hub
	case !o.accepts(shown) && !o.accepts(inURL):
		v.problem(api.Warn, "its secret is not the one that is configured in this shell", o.giveSecret(w.ID))
	}
}

func (o *ours) giveSecret(id string) string {
	return "with the secret of hubhook here in WEBHOOK_SECRET: hubhook hub update " + id + ` --secret "$WEBHOOK_SECRET"`
}

// at writes a time in a finding.
func at(t api.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
