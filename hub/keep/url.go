package keep

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

// hidden stands in the record in place of a secret in a URL, because secrets are never stored. The secrets of a borrowed webhook stay in its URL on
// the Hub, where hubhook reads them when it gives the webhook back.
const hidden = "(hidden)"

// urlSecret is where a secret stands in a URL.
type urlSecret struct {
	from, to int  // bytes
	password bool // the secret is a password before the host; otherwise it is a value of "secret" in the query
}

// urlSecrets finds the secrets in a webhook's URL: those that [hub.Webhook.PlainURL] hides. It does not parse the URL as a whole, so that all
// other bytes can stay as they are.
func urlSecrets(address string) (found []urlSecret) {
	add := func(s urlSecret) {
		if s.from < s.to {
			found = append(found, s)
		}
	}
	address, _, _ = strings.Cut(address, "#")
	before, query, _ := strings.Cut(address, "?")
	if scheme, rest, ok := strings.Cut(before, "://"); ok {
		authority, _, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			if user, _, ok := strings.Cut(authority[:at], ":"); ok {
				start := len(scheme) + len("://")
				add(urlSecret{start + len(user) + 1, start + at, true})
			}
		}
	}
	start := len(before) + 1
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if key, err := url.QueryUnescape(name); err == nil && key == "secret" {
			add(urlSecret{start + len(name) + 1, start + len(part), false})
		}
		start += len(part) + 1
	}
	return found
}

// hideSecrets returns a URL without its secrets.
func hideSecrets(address string) string {
	return replaceSecrets(address, func(int, string) string { return hidden })
}

// replaceSecrets returns a URL with other texts in place of its secrets. with gets the number of each secret, from 0 on, and its text.
func replaceSecrets(address string, with func(n int, secret string) string) string {
	var b strings.Builder
	end := 0
	for n, s := range urlSecrets(address) {
		b.WriteString(address[end:s.from])
		b.WriteString(with(n, address[s.from:s.to]))
		end = s.to
	}
	return b.String() + address[end:]
}

// own returns the URL that a borrowed webhook has when it is not borrowed. Its secrets are those in the URL that it has on the Hub.
func (o *Original) own(hook hub.Webhook) (string, error) {
	have, missing := urlSecrets(hook.URL), false
	own := replaceSecrets(o.URL, func(n int, secret string) string {
		switch {
		case secret != hidden: // stored by an earlier version of hubhook
			return secret
		case n < len(have):
			return hook.URL[have[n].from:have[n].to]
		}
		missing = true
		return secret
	})
	if missing {
		return "", text.WithHint(fmt.Errorf("the URL of webhook %s on the Hub lacks the secret of its own URL, %s", hook.ID, hub.Webhook{URL: o.URL}.PlainURL()),
			"give it its own URL by hand: hubhook hub update "+hook.ID+" --url URL")
	}
	return own, nil
}

// withSecretsOf returns address, which has no secrets and no query, with the secrets of another URL.
func withSecretsOf(own, address string) string {
	var query []string
	for _, s := range urlSecrets(own) {
		if s.password {
			scheme, rest, _ := strings.Cut(address, "://")
			user := own[strings.Index(own, "://")+len("://") : s.to]
			address = scheme + "://" + user + "@" + rest
			continue
		}
		query = append(query, "secret="+own[s.from:s.to])
	}
	if len(query) > 0 {
		address += "?" + strings.Join(query, "&")
	}
	return address
}

// target returns the URL for w's webhook at the base URL. The secrets in the URL of a borrowed webhook stay in it.
func (k *Keeper) target(w *kept, hook hub.Webhook, base string) (string, error) {
	address := base + "/webhooks/" + w.endpoint
	if w.borrow == "" {
		return address, nil
	}
	own, err := w.own(hook)
	return withSecretsOf(own, address), err
}

// own returns the URL that a borrowed webhook has when it is not borrowed. hook is the webhook as it is on the Hub.
func (w *kept) own(hook hub.Webhook) (string, error) {
	if w.entry == nil {
		return hook.URL, nil
	}
	return w.entry.Borrowed.own(hook)
}

// acceptsSecretIn reports whether the secret in a webhook's URL is a configured one.
func (k *Keeper) acceptsSecretIn(address string) bool {
	u, err := url.Parse(address)
	return err == nil && slices.Contains(k.c.Secrets, u.Query().Get("secret"))
}

// sameURL reports whether two URLs lead to the same place. Secrets in them do not count. The Hub may send a URL in another form than it got.
func sameURL(a, b string) bool {
	return a == b || plainForm(a) == plainForm(b)
}

// plainForm returns a URL in the form in which URLs are compared: without secrets, default ports and a slash at the end.
func plainForm(address string) string {
	address = hideSecrets(address)
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u.String()
}
