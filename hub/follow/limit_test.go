package follow

import (
	"flag"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// The Hub's rate limits, in requests in 5 minutes.
const (
	quotaWithToken    = 1000
	quotaWithoutToken = 500
)

// within fails if a call has waited because the Hub's rate limit was used up, or was refused.
func (w *world) within() {
	w.Helper()
	if n := w.waits.Load(); n > 0 {
		w.Errorf("%d calls waited for the rate limit", n)
	}
	for _, r := range w.hub.Requests.All() {
		if r.Status == http.StatusTooManyRequests {
			w.Errorf("the Hub refused %s %s", r.Method, r.Path)
		}
	}
}

var wholeHour = flag.Bool("hour", false, "follow 110 repos for an hour, not for 12 minutes")

// Following 100 quiet repos and 10 with a push a minute stays within the Hub's rate limit. `make bench` reads the attributes.
func TestFollowingManyRepos(t *testing.T) {
	minutes := 12
	if *wholeHour {
		minutes = 60
	}
	for name, quota := range map[string]int{"token": quotaWithToken, "anonymous": quotaWithoutToken} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, hubtest.Options{Quota: quota}, func(w *world) {
				if quota == quotaWithToken {
					w.client = w.clientWith(w.hub.Accounts.AddToken(hubtest.Token{}))
				}
				w.budget = quota
				var repos []*hubtest.Repo
				for i := range 110 {
					repos = append(repos, w.repo(payload.Dataset, fmt.Sprintf("someone/dataset-%d", i)))
					w.follow("dataset:" + repos[i].Name())
				}
				w.run()
				for range minutes {
					w.pass(time.Minute)
					for _, busy := range repos[:10] {
						w.push(busy, "")
					}
				}
				w.within()
				requests, rounds := w.hub.Requests.Count("", ""), int(time.Duration(minutes)*time.Minute/w.f.Every())
				if least := 2 * len(repos) * (rounds - 1); requests < least {
					t.Errorf("%d requests in %d minutes, want %d at least for looks every %s", requests, minutes, least, w.f.Every())
				}
				deliveries := len(w.events())
				if deliveries < 10*(rounds-1) {
					t.Errorf("%d deliveries of 10 busy repos, with a look every %s", deliveries, w.f.Every())
				}
				received, sent := w.hub.Requests.Bytes()
				w.Attr("every", w.f.Every().String())
				w.Attr("requests", fmt.Sprint(requests))
				w.Attr("bytes", fmt.Sprint(received+sent))
				w.Attr("deliveries", fmt.Sprint(deliveries))
			})
		})
	}
}

// The first looks stay within the rate limit too, where they alone would be more than it allows.
func TestManyItems(t *testing.T) {
	for name, item := range map[string]string{"repos": "model:me/%d", "buckets": "bucket:me/%d"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, hubtest.Options{Quota: quotaWithoutToken}, func(w *world) {
				w.budget = quotaWithoutToken
				for i := range 300 {
					w.follow(fmt.Sprintf(item, i))
					if id := w.items[i].Repo; id.Type == payload.Bucket {
						_, err := w.hub.CreateBucket(id.Name, hubtest.RepoOptions{})
						w.must(err)
					} else {
						w.repo(id.Type, id.Name)
					}
				}
				w.run()
				w.pass(12 * time.Minute)
				w.within()
				for _, v := range w.f.Followed() {
					if v.State != Following {
						t.Errorf("%s is %s: %s", v.Item, v.State, v.Error)
						break
					}
				}
			})
		})
	}
}

// Others can use up the limit too: they have the same token, or the same address. Then looks wait, no item fails, it is said once, and
// nothing is missed.
func TestLimitUsedByOthers(t *testing.T) {
	inWorld(t, hubtest.Options{Quota: quotaWithoutToken}, func(w *world) {
		var repos []*hubtest.Repo
		for i := range 20 {
			repos = append(repos, w.repo(payload.Dataset, fmt.Sprintf("me/%d", i)))
			w.follow("dataset:" + repos[i].Name())
		}
		w.budget = quotaWithoutToken
		w.run()
		w.pass(time.Minute)
		w.shown = nil
		others := w.clientWith("")
		for range 6 {
			for others.Pause() == 0 { // others take all that is left of this window
				others.Repo(w.Context(), w.items[0].Repo)
			}
			for _, r := range repos {
				w.push(r, "")
			}
			w.pass(5 * time.Minute)
			if n := len(w.events()); n != len(repos) {
				t.Errorf("%d deliveries of %d repos", n, len(repos))
			}
		}
		if len(w.shown) > 0 {
			t.Errorf("shown was %+v", w.shown[0])
		}
		if w.limited != 1 {
			t.Errorf("it was said %d times that the rate limit is used up", w.limited)
		}
		refused := 0
		for _, r := range w.hub.Requests.All() {
			if r.Status == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused > 6*looksAtOnce {
			t.Errorf("%d requests were refused in 6 windows", refused)
		}
	})
}

// The Hub says how many requests it allows, which is more for some accounts. Looks come as often as that allows.
func TestTheHubSaysItsLimit(t *testing.T) {
	for name, c := range map[string]struct {
		options hubtest.Options
		says    string
	}{
		"more":           {hubtest.Options{Quota: 2500}, "[2500 requests, every 1m0s]"},
		"less":           {hubtest.Options{Quota: 400}, "[400 requests, every 3m26s]"},
		"a short window": {hubtest.Options{Quota: 100, QuotaWindow: time.Minute}, "[500 requests, every 2m45s]"},
		"as was assumed": {hubtest.Options{Quota: quotaWithToken}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, c.options, func(w *world) {
				for i := range 110 {
					r := w.repo(payload.Dataset, fmt.Sprintf("me/%d", i))
					w.follow("dataset:" + r.Name())
				}
				w.budget = quotaWithToken
				w.run()
				w.pass(12 * time.Minute)
				if got := fmt.Sprint(w.paced); got != c.says {
					t.Errorf("it says %s, want %s", got, c.says)
				}
				if every := w.f.Followed()[0].EverySeconds; every != int64(w.f.Every()/time.Second) {
					t.Errorf("a repo is shown to be looked at every %d s, and is every %s", every, w.f.Every())
				}
				w.hub.Requests.Reset()
				w.pass(15 * time.Minute)
				for _, r := range w.hub.Requests.All() {
					if r.Status == http.StatusTooManyRequests {
						t.Fatalf("the Hub refused %s %s", r.Method, r.Path)
					}
				}
				rounds := int(15 * time.Minute / w.f.Every())
				if n := w.hub.Requests.Count("", ""); n < 220*(rounds-1) || n > 220*(rounds+1) {
					t.Errorf("%d requests in 15 minutes for %d repos, each looked at every %s", n, len(w.items), w.f.Every())
				}
			})
		})
	}
}

// A bucket's feed that the rate limit keeps from being opened waits, as looks do. That is no failure of the bucket.
func TestAFeedWaitsForTheLimit(t *testing.T) {
	inWorld(t, hubtest.Options{Quota: 20}, func(w *world) {
		b := w.bucket()
		w.shown = nil
		for others := w.clientWith(""); others.Pause() == 0; { // others take all that is left of this window
			others.Bucket(w.Context(), "me/b")
		}
		b.Feed.Cut()
		w.upload(b, "a")
		w.pass(4 * time.Minute)
		w.want()
		w.pass(4 * time.Minute)
		w.want(ofB + " a:add")
		if len(w.shown) > 0 {
			t.Errorf("shown was %+v", w.shown[0])
		}
		if w.limited != 1 {
			t.Errorf("it was said %d times that the rate limit is used up", w.limited)
		}
	})
}
