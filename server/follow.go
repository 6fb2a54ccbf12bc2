package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/follow"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
)

const (
	followAttempts = 2 // of one request; the follower itself tries again, with longer waits

	// The number of requests in 5 minutes that the Hub allows a free account (its documentation). Once the Hub's answers name a number, that one
	// counts.
	budgetWithToken    = 1000
	budgetWithoutToken = 500
)

// Follow makes hubhook follow these items on the Hub for the endpoint, beside those of [Config].Follow: TYPE:NAME, dataset:me/data for
// example. See Config.Follow for what that means.
func Follow(items ...string) Option {
	return func(e *endpoint) error {
		for _, item := range items {
			id, err := parseFollowed(item)
			if err != nil {
				return fmt.Errorf("Follow: %w", err)
			}
			e.followed = append(e.followed, id)
		}
		return nil
	}
}

// followedTypes are the types of items that can be followed.
var followedTypes = []payload.RepoType{payload.Model, payload.Dataset, payload.Space, payload.Bucket}

func parseFollowed(item string) (hub.RepoID, error) {
	if w, err := hub.ParseWatched(item); err == nil && !slices.Contains(followedTypes, payload.RepoType(w.Type)) {
		return hub.RepoID{}, fmt.Errorf("%q can't be followed; follow the repos of the %s, or have a webhook watch it (--watch)", item, w.Type)
	}
	id, err := hub.ParseRepoID(item)
	if err == nil && !slices.Contains(followedTypes, id.Type) {
		err = fmt.Errorf("%q can't be followed: a %s has no history that the Hub tells", item, id.Type)
	}
	return id, err
}

// checkFollow reads what is to be followed.
func (s *settings) checkFollow() error {
	for _, value := range given(s.Follow) {
		endpoint, item, err := splitEndpoint(value)
		var id hub.RepoID
		if err == nil {
			id, err = parseFollowed(item)
		}
		if err != nil {
			return &ConfigError{text: fmt.Sprintf("%s: %v", s.places["follow"], err),
				hint: "write it as dataset:me/data, or as train=dataset:me/data for the endpoint train; types: model, dataset, space, bucket"}
		}
		s.followed = append(s.followed, forEndpoint[hub.RepoID]{endpoint, id})
	}
	if s.FollowEvery != 0 && s.FollowEvery < follow.LeastEvery {
		return &ConfigError{text: fmt.Sprintf("%s: %s is too often for the Hub", s.places["follow-every"], s.FollowEvery), hint: fmt.Sprintf("want %s or more", follow.LeastEvery)}
	}
	return nil
}

// followItems returns what is followed, for which endpoint.
func (s *Server) followItems() (items []follow.Item) {
	add := func(endpoint string, id hub.RepoID) {
		if it := (follow.Item{Endpoint: endpoint, Repo: id}); !slices.Contains(items, it) {
			items = append(items, it)
		}
	}
	for _, f := range s.settings.followed {
		add(f.endpoint, f.item)
	}
	for _, e := range s.endpoints.all() {
		for _, id := range e.followed {
			add(e.name, id)
		}
	}
	// An item that every endpoint follows is not followed once more for one of them.
	return slices.DeleteFunc(items, func(it follow.Item) bool {
		return it.Endpoint != "" && slices.Contains(items, follow.Item{Repo: it.Repo})
	})
}

// onlyFollows reports whether hubhook follows the Hub, and nothing wants a public URL: no webhook is kept, and no setting is about the tunnel.
func (s *Server) onlyFollows() bool {
	if len(s.followItems()) == 0 || len(s.settings.watched)+len(s.settings.borrowed) > 0 || s.settings.Provider != nil {
		return false
	}
	if s.settings.places["tunnel"] != "" || s.settings.places["url"] != "" {
		return false
	}
	return !slices.ContainsFunc(s.endpoints.all(), func(e *endpoint) bool { return len(e.watched)+len(e.borrowed) > 0 })
}

// opensTunnel reports whether Run opens a public URL.
func (s *Server) opensTunnel() bool { return s.settings.opensTunnel() && !s.onlyFollows() }

// openFollower makes the follower if there is something to follow.
func (r *run) openFollower(ctx context.Context) {
	items := r.followItems()
	if len(items) == 0 {
		return
	}
	client, err := r.hubClient(hub.Config{Attempts: followAttempts})
	if err != nil {
		r.screen.Warn(ui.Notice{Text: "follow the Hub: " + err.Error(), Hint: text.Hint(err)})
		r.off.Store(notFollowed(items, err))
		return
	}
	token, err := client.Token()
	if err != nil {
		r.screen.Warn(ui.Notice{Text: "follow the Hub: " + err.Error(), Hint: text.Hint(err)})
	}
	anonymous, asked := token.Value == "", cmp.Or(r.settings.FollowEvery, follow.DefaultEvery)
	budget, with := budgetWithToken, "with a free account's token"
	if anonymous {
		budget, with = budgetWithoutToken, withoutToken
	}
	f := follow.New(follow.Config{
		Hub: client, Store: followStore{s: r.Server, q: r.store}, Items: items, Every: r.settings.FollowEvery, Budget: budget, Endpoints: r.names,
		Show: func(v api.Followed) {
			if ctx.Err() == nil {
				r.showFollowed(v)
			}
		},
		Limited: func(d time.Duration) { r.screen.Warn(limited(d, anonymous)) },
		Paced: func(budget int, every time.Duration) {
			with := withoutToken
			if !anonymous {
				with = "with this token"
			}
			if notice := paced(budget, every, asked, with); every > asked {
				r.screen.Warn(notice)
			} else {
				r.screen.Info(notice)
			}
		},
	})
	r.follower.Store(f)
	if slower(f, asked) {
		r.screen.Warn(paced(budget, f.Every(), asked, with))
	}
}

// limited says that looks wait for the Hub's rate limit.
func limited(d time.Duration, anonymous bool) ui.Notice {
	who, hint := "this token", "other programs with this token count too; nothing is missed meanwhile, it only comes later"
	if anonymous {
		who, hint = "this address", "set HF_TOKEN to have a limit of your own; nothing is missed meanwhile, it only comes later"
	}
	return ui.Notice{
		Text: fmt.Sprintf("follow the Hub: its rate limit for %s is used up; the next look comes in %s", who, d.Round(time.Second)),
		Hint: hint,
	}
}

// slower reports whether repos are looked at less often than was asked for. Buckets don't count, because they have a feed.
func slower(f *follow.Follower, asked time.Duration) bool {
	return f.Every() > asked && slices.ContainsFunc(f.Followed(), func(v api.Followed) bool { return v.EverySeconds > 0 })
}

const withoutToken = "without a token"

// paced says how often repos are looked at within the Hub's rate limit, and what to do if that is less often than was asked for.
func paced(budget int, every, asked time.Duration, with string) ui.Notice {
	hint := "follow fewer repos for more looks; a webhook (--watch) needs no looks"
	if with == withoutToken {
		hint = fmt.Sprintf("set HF_TOKEN: with a token it allows %d or more", budgetWithToken)
	}
	n := ui.Notice{Text: fmt.Sprintf("the Hub allows %d requests in 5 minutes %s, so each followed repo is looked at every %s", budget, with, every)}
	if every > asked {
		n.Text, n.Hint = fmt.Sprintf("%s, not every %s", n.Text, asked), hint
	}
	return n
}

// followHub follows until ctx ends. With a database, one process at a time does.
func (r *run) followHub(ctx context.Context) {
	if f := r.follower.Load(); f != nil {
		r.tasks.Go(func() { r.store.Lead(ctx, follow.Task, f.Run) })
	}
}

// showFollowed shows what becomes of a followed item.
func (s *Server) showFollowed(v api.Followed) {
	s.screen.Followed(v)
	if private := s.private.Load(); private != nil {
		private.StatusChanged()
	}
}

// followed returns the followed items.
func (s *Server) followed() []api.Followed {
	if f := s.follower.Load(); f != nil {
		return f.Followed()
	}
	if off := s.off.Load(); off != nil {
		return *off
	}
	return []api.Followed{}
}

// notFollowed returns the views of items that can't be followed. why is the reason.
func notFollowed(items []follow.Item, why error) *[]api.Followed {
	var all []api.Followed
	for _, it := range items {
		all = append(all, api.Followed{
			Endpoint: it.Endpoint, Item: it.Repo.String(), State: follow.Off, Since: api.Time{Time: time.Now()}, Error: why.Error(), Hint: text.Hint(why),
		})
	}
	return &all
}

// checkFollowedEndpoints returns an error where an item is followed for an endpoint that is not there.
func (s *Server) checkFollowedEndpoints() error {
	if s.joined != nil {
		return nil
	}
	for _, f := range s.settings.followed {
		if f.endpoint != "" && s.endpoints.named(f.endpoint) == nil {
			return s.unknownEndpoint("follow", f.endpoint)
		}
	}
	return nil
}

// followStore is where a follower keeps its marks and deliveries.
type followStore struct {
	s *Server
	q *queue.Queue
	// sameFor is the least time for which a later delivery with the same Webhook-Id is a duplicate.
	sameFor time.Duration
}

func (fs followStore) Marks(ctx context.Context, prefix string) ([]follow.Mark, error) {
	marks, err := fs.q.Marks(ctx, prefix)
	all := make([]follow.Mark, 0, len(marks))
	for _, m := range marks {
		all = append(all, follow.Mark(m))
	}
	return all, err
}

func (fs followStore) SetMark(ctx context.Context, m follow.Mark) error {
	return moved(fs.q.SetMark(ctx, queue.Mark(m)))
}

// Deliver stores a delivery as one from the Hub is stored. No secret is checked, and nobody waits for an answer.
func (fs followStore) Deliver(ctx context.Context, d follow.Delivery) error {
	e := fs.s.endpoints.named(d.Endpoint)
	if e == nil {
		return fmt.Errorf("endpoint %s is not served any more", d.Endpoint)
	}
	p, unusable := payload.Parse(d.Body)
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"hubhook/" + version.String()}, "Webhook-Id": {d.WebhookID}}
	a := newArrival(e.name, header, d.Body, p, unusable)
	fs.s.askKeys(&a, e, true)
	a.WebhookID, a.Synthetic, a.Mark, a.SameFor = d.WebhookID, true, (*queue.Mark)(&d.Mark), fs.sameFor
	fs.s.metrics.received(e.name)
	_, err := fs.q.Accept(ctx, a)
	return moved(err)
}

// moved turns the queue's error for an outdated mark into that of package follow.
func moved(err error) error {
	if errors.Is(err, queue.ErrMarkMoved) {
		return fmt.Errorf("%w: %w", follow.ErrMoved, err)
	}
	return err
}
