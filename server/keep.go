package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
)

const (
	// At its end hubhook takes this long at most to disable webhooks and to give them back. The tunnel stays open for the first part of that time,
	// so that deliveries that the Hub still sends arrive.
	keepRelease     = 5 * time.Second
	keepTunnelStays = 2 * time.Second

	hubTimeout  = 10 * time.Second // of one request
	hubAttempts = 2                // the keeper itself tries again, with longer waits
	hubWait     = 5 * time.Second

	anotherTimeout = 5 * time.Second // for asking another hubhook whether it keeps a webhook
)

// Watch makes hubhook keep a webhook on the Hub for the endpoint, which watches these items beside those of [Config].Watch: TYPE:NAME,
// dataset:me/data for example. See Config.Watch for what that means. Once [Server.Run] has begun, [Server.Replace] refuses items that the
// endpoint did not have then.
func Watch(items ...string) Option {
	return func(e *endpoint) error {
		for _, item := range items {
			w, err := hub.ParseWatched(item)
			if err != nil {
				return fmt.Errorf("Watch: %w", err)
			}
			e.watched = append(e.watched, w)
		}
		return nil
	}
}

// Webhook makes hubhook borrow the webhook with that ID for the endpoint while [Server.Run] runs, as [Config].Webhooks does. Once Run has
// begun, [Server.Replace] refuses an ID that the endpoint did not have then.
func Webhook(id string) Option {
	return func(e *endpoint) error {
		if id == "" {
			return fmt.Errorf("Webhook: the ID is empty")
		}
		e.borrowed = append(e.borrowed, id)
		return nil
	}
}

// checkKeptSince returns an error if e wants a webhook kept that before did not want: the endpoint of the same name when the server started, nil if
// there was none. The keeper learns only at the start what to keep.
func (e *endpoint) checkKeptSince(before *endpoint) error {
	if before == nil {
		before = &endpoint{}
	}
	what := ""
	for _, w := range e.watched {
		if !slices.Contains(before.watched, w) {
			what = "watch " + w.String()
		}
	}
	for _, id := range e.borrowed {
		if !slices.Contains(before.borrowed, id) {
			what = "borrow webhook " + id
		}
	}
	if what == "" {
		return nil
	}
	return text.WithHint(fmt.Errorf("%s: the server runs already, and the options Watch and Webhook have to be there before", what),
		"register the endpoint with them before Run, with a nil handler if need be, and replace it later")
}

// forEndpoint is an item of a setting, and the endpoint that it is for, "" for all.
type forEndpoint[T any] struct {
	endpoint string
	item     T
}

// splitEndpoint takes [ENDPOINT=]ITEM apart.
func splitEndpoint(value string) (endpoint, item string, err error) {
	before, after, ok := strings.Cut(value, "=")
	if !ok {
		return "", value, nil
	}
	endpoint, err = EndpointName(before)
	return endpoint, after, err
}

// checkKept reads what is to be watched and borrowed.
func (s *settings) checkKept() error {
	for _, value := range given(s.Watch) {
		endpoint, item, err := splitEndpoint(value)
		var watched hub.Watched
		if err == nil {
			watched, err = hub.ParseWatched(item)
		}
		if err != nil {
			return &ConfigError{text: fmt.Sprintf("%s: %v", s.places["watch"], err),
				hint: "write it as dataset:me/data, or as train=dataset:me/data for the endpoint train; types: " + strings.Join(hub.WatchedTypes(), ", ")}
		}
		s.watched = append(s.watched, forEndpoint[hub.Watched]{endpoint, watched})
	}
	for _, value := range given(s.Webhooks) {
		endpoint, id, err := splitEndpoint(value)
		if err == nil && (id == "" || strings.ContainsAny(id, "/ ?#:")) {
			err = fmt.Errorf("%q is no ID of a webhook", id)
		}
		if err == nil && slices.ContainsFunc(s.borrowed, func(b forEndpoint[string]) bool { return b.item == id }) {
			err = fmt.Errorf("webhook %s is named twice", id)
		}
		if err != nil {
			return &ConfigError{text: fmt.Sprintf("%s: %v", s.places["webhook"], err),
				hint: "write the ID as it stands in the webhook's address on the Hub or in hubhook hub list, or ENDPOINT=ID if there are several endpoints"}
		}
		s.borrowed = append(s.borrowed, forEndpoint[string]{endpoint, id})
	}
	return nil
}

// given returns values, or none if they are a single empty value: that of a variable that is set to nothing.
func given(values []string) []string {
	if len(values) == 1 && values[0] == "" {
		return nil
	}
	return values
}

// checkKeptEndpoints returns an error where a watched item or a webhook is for an endpoint that is not there. The endpoints of a program under
// `hubhook dev` are not known yet.
func (s *Server) checkKeptEndpoints() error {
	if s.joined != nil {
		return nil
	}
	for _, w := range s.settings.watched {
		if w.endpoint != "" && s.endpoints.named(w.endpoint) == nil {
			return s.unknownEndpoint("watch", w.endpoint)
		}
	}
	for i, b := range s.settings.borrowed {
		switch {
		case b.endpoint == "" && len(s.endpoints.all()) != 1:
			return &ConfigError{text: fmt.Sprintf("%s: webhook %s is for which endpoint?", s.settings.places["webhook"], b.item),
				hint: fmt.Sprintf("write it as ENDPOINT=%s; endpoints here: %s", b.item, strings.Join(s.names(), ", "))}
		case b.endpoint == "":
			s.settings.borrowed[i].endpoint = s.endpoints.all()[0].name
		case s.endpoints.named(b.endpoint) == nil:
			return s.unknownEndpoint("webhook", b.endpoint)
		}
	}
	return nil
}

// unknownEndpoint is the error of a setting for an endpoint that is not there.
func (s *Server) unknownEndpoint(setting, name string) error {
	return &ConfigError{text: fmt.Sprintf("%s: there is no endpoint %s", s.settings.places[setting], name), hint: "endpoints here: " + strings.Join(s.names(), ", ")}
}

// keeping is how a run keeps webhooks on the Hub.
type keeping struct {
	keeper *keep.Keeper // nil where there is nothing to keep
	run    sync.WaitGroup

	shared *sharedRecord // of the processes that share a database; nil where there are none
	led    bool          // this process kept the webhooks to the end; of the goroutine in run, until that has ended
}

// openKeeper makes the keeper, if webhooks are to be kept or an earlier run has left some behind.
func (r *run) openKeeper() {
	c := keep.Config{Records: keep.InDirectory(r.settings.Data), Secrets: r.settings.Secrets, Show: r.showWebhook, Another: KeptElsewhere(r.settings.probeClient)}
	for _, w := range r.settings.watched {
		c.Watch = append(c.Watch, keep.Item{Endpoint: w.endpoint, Watched: w.item})
	}
	for _, b := range r.settings.borrowed {
		c.Borrow = append(c.Borrow, keep.Loan{Endpoint: b.endpoint, ID: b.item})
	}
	for _, e := range r.endpoints.all() {
		for _, w := range e.watched {
			c.Watch = append(c.Watch, keep.Item{Endpoint: e.name, Watched: w})
		}
		for _, id := range e.borrowed {
			c.Borrow = append(c.Borrow, keep.Loan{Endpoint: e.name, ID: id})
		}
	}
	left := false // an earlier run has left a record
	if r.settings.Database == "" {
		_, err := os.Stat(filepath.Join(r.settings.Data, keep.RecordFile))
		left = err == nil
	} else {
		r.keeping.shared = &sharedRecord{q: r.store}
		c.Records = r.keeping.shared
		stored, err := r.keeping.shared.read()
		left = err == nil && stored.Version > 0
	}
	if !left && len(c.Watch)+len(c.Borrow) == 0 {
		return
	}
	client, err := r.hubClient(hub.Config{Timeout: hubTimeout, Attempts: hubAttempts, LongestWait: hubWait})
	if err != nil {
		c.Unusable = err
		if len(c.Watch)+len(c.Borrow) == 0 { // no webhook will show the error
			r.screen.Warn(ui.Notice{Text: "look after the webhooks on the Hub that an earlier run has left: " + err.Error(), Hint: text.Hint(err)})
		}
	} else {
		on := keep.On(client)
		c.API, c.Hub, c.User, c.Ready = on.API, on.Hub, on.User, on.Ready
	}
	r.keeping.keeper = keep.New(c)
	r.keeper.Store(r.keeping.keeper)
	r.keepEndpoints()
	r.keeping.keeper.Prepare()
	if err == nil {
		r.openCatchUp(client)
	}
	if !r.opensTunnel() && !r.settings.provesPublicURL() {
		r.setWay(r.where.get().public, keep.Unchecked)
	}
}

// hubClient returns a client of the Hub that the environment names. The screen shows the Hub's warnings.
func (r *run) hubClient(c hub.Config) (*hub.Client, error) {
	c.LookupEnv = r.settings.Getenv
	c.OnWarning = func(_, message string) { r.screen.Warn(ui.Notice{Text: "the Hub warns: " + message}) }
	return hub.New(c)
}

// keepEndpoints tells the keeper which endpoints there are by now.
func (s *Server) keepEndpoints() {
	keeper := s.keeper.Load()
	if keeper == nil {
		return
	}
	names := s.names()
	keeper.SetEndpoints(names, s.joined == nil || s.joined.hasNamed())
	if s.joined == nil || len(names) < 2 {
		return
	}
	for _, b := range s.settings.borrowed { // only now is it known that the program has several endpoints
		if b.endpoint == "" {
			s.joined.askWhich.Do(func() {
				s.screen.Warn(ui.Notice{Text: fmt.Sprintf("webhook %s is for which endpoint? It is left alone", b.item),
					Hint: fmt.Sprintf("write it as ENDPOINT=%s; endpoints here: %s", b.item, strings.Join(names, ", "))})
			})
		}
	}
}

// setWay tells the keeper how the Hub can reach the endpoints.
func (s *Server) setWay(url string, p keep.Proof) {
	s.wayIs(p)
	if keeper := s.keeper.Load(); keeper != nil {
		keeper.SetWay(url, p)
	}
}

// keepWebhooks starts to keep webhooks, until ctx ends.
func (r *run) keepWebhooks(ctx context.Context) {
	if r.keeping.keeper == nil {
		return
	}
	r.keeping.run.Go(func() {
		r.countDay(ctx)
		if r.keeping.shared == nil {
			r.keepAndCatchUp(ctx)
			return
		}
		r.keeping.keeper.LeaveToAnother()
		r.store.Lead(ctx, keepTask, func(leading context.Context) {
			r.keepAndCatchUp(leading)
			if r.keeping.led = ctx.Err() != nil; !r.keeping.led {
				r.keeping.keeper.LeaveToAnother()
			}
		})
	})
}

// countDay counts the deliveries of the last 24 hours, also those before this process.
func (r *run) countDay(ctx context.Context) {
	for _, name := range r.names() {
		steps, err := r.store.TimeSeries(ctx, queue.TimeSeriesQuery{Endpoint: name, Step: time.Hour, Steps: 24})
		if err != nil {
			return // this is only a count, and the store reports its own errors
		}
		for _, step := range steps {
			n := int64(0)
			for _, count := range step.States {
				n += count
			}
			r.keeping.keeper.Delivered(name, "", n, step.Start)
		}
	}
}

// releaseWebhooks disables the kept webhooks or gives them back. It returns once that is done or keepTunnelStays has passed, with a function that
// waits for the rest, keepRelease at most.
func (r *run) releaseWebhooks() (wait func()) {
	if r.keeping.keeper == nil {
		return func() {}
	}
	r.keeping.run.Wait()
	if shared := r.keeping.shared; shared != nil {
		// Other processes go on with the webhooks, so only the last process releases them. It does so now, while the queue still stores its record.
		if r.keeping.led && !shared.succeeded(context.Background()) {
			r.closeKeeper()
		}
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.closeKeeper()
	}()
	select {
	case <-done:
	case <-time.After(keepTunnelStays):
	}
	return func() { <-done }
}

// keepsAll reports whether each endpoint has a webhook that is kept.
func (s *Server) keepsAll() bool {
	kept := s.webhooks()
	return !slices.ContainsFunc(s.names(), func(name string) bool {
		return !slices.ContainsFunc(kept, func(w api.Webhook) bool { return w.Endpoint == name && w.State != keep.Left })
	})
}

func (r *run) closeKeeper() {
	ctx, cancel := context.WithTimeout(context.Background(), keepRelease)
	defer cancel()
	r.keeping.keeper.Close(ctx)
}

// showWebhook shows what becomes of a kept webhook.
func (s *Server) showWebhook(c api.WebhookChange) {
	if c.State == keep.Active { // it was just made, enabled, or given another URL, so deliveries may have been lost before
		s.catchUpNow()
	}
	s.screen.Webhook(c)
	if private := s.private.Load(); private != nil {
		private.Webhook(c)
	}
}

// webhooks returns the webhooks that are kept.
func (s *Server) webhooks() []api.Webhook {
	if keeper := s.keeper.Load(); keeper != nil {
		return keeper.Webhooks()
	}
	return []api.Webhook{}
}

// keptFor returns the webhooks that the settings ask for, for the endpoints of a program that the keeper may not know yet.
func (s *Server) keptFor(endpoints []api.Endpoint) (kept []api.Webhook) {
	for _, e := range endpoints {
		w := api.Webhook{Endpoint: e.Name, State: keep.Waiting}
		for _, item := range s.settings.watched {
			if item.endpoint == "" || item.endpoint == e.Name {
				w.Watched = append(w.Watched, item.item.String())
			}
		}
		if w.Watched != nil {
			kept = append(kept, w)
		}
		for _, loan := range s.settings.borrowed {
			if loan.endpoint == e.Name || loan.endpoint == "" && len(endpoints) == 1 {
				kept = append(kept, api.Webhook{Endpoint: e.Name, State: keep.Waiting, ID: loan.item, Borrowed: true})
			}
		}
	}
	return kept
}

// generatedFor reports whether hubhook has generated secret for the endpoint's webhook.
func (s *Server) generatedFor(endpoint, secret string) bool {
	keeper := s.keeper.Load()
	return keeper != nil && keeper.Accepts(endpoint, secret)
}

// KeptElsewhere returns a function for [keep.Config].Another. It asks the server at a webhook's URL whether it is a hubhook that keeps the webhook. No
// answer means no. Nil for client: http.DefaultClient.
func KeptElsewhere(client *http.Client) func(ctx context.Context, address, id string) bool {
	return func(ctx context.Context, address, id string) bool {
		u, err := url.Parse(address)
		if err != nil {
			return false
		}
		ctx, cancel := context.WithTimeout(ctx, anotherTimeout)
		defer cancel()
		ask := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/healthz", RawQuery: url.Values{"webhook": {id}}.Encode()}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ask.String(), nil)
		if err != nil {
			return false
		}
		req.Header.Set("User-Agent", "hubhook/"+version.String())
		req.Close = true
		resp, err := cmp.Or(client, http.DefaultClient).Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var h health
		err = json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&h)
		return err == nil && h.Keeps
	}
}

// countForHub counts a delivery towards what the Hub sends in a day. p is nil for a body that can't be read.
func (s *Server) countForHub(endpoint string, p *payload.Payload) {
	keeper := s.keeper.Load()
	if keeper == nil {
		return
	}
	id := ""
	if p != nil {
		id = p.Webhook.ID
	}
	keeper.Delivered(endpoint, id, 1, time.Now())
}
