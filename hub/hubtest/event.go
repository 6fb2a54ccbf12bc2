package hubtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/payload"
)

// event is what the Hub posts about one change, in the order of the fields in its documentation.
type event struct {
	Event                 eventName        `json:"event"`
	Repo                  eventRepo        `json:"repo"`
	UpdatedRefs           []updatedRef     `json:"updatedRefs,omitzero"`
	UpdatedFiles          []updatedFile    `json:"updatedFiles,omitzero"`
	UpdatedFilesTruncated *bool            `json:"updatedFilesTruncated,omitzero"`
	UpdatedConfig         map[string]any   `json:"updatedConfig,omitzero"`
	MovedTo               *movedTo         `json:"movedTo,omitzero"`
	Discussion            *eventDiscussion `json:"discussion,omitzero"`
	Comment               *eventComment    `json:"comment,omitzero"`
	Webhook               eventWebhook     `json:"webhook"`
}

type eventName struct {
	Action payload.Action `json:"action"`
	Scope  payload.Scope  `json:"scope"`
}

type eventRepo struct {
	Type      payload.RepoType `json:"type"`
	Name      string           `json:"name"`
	ID        string           `json:"id"`
	Private   bool             `json:"private"`
	Subdomain string           `json:"subdomain,omitzero"`
	URL       eventURL         `json:"url"`
	HeadSHA   string           `json:"headSha,omitzero"`
	Owner     idObject         `json:"owner"`
}

type eventURL struct {
	Web string `json:"web"`
	API string `json:"api,omitzero"`
}

type idObject struct {
	ID string `json:"id"`
}

type updatedRef struct {
	Ref    string  `json:"ref"`
	OldSHA *string `json:"oldSha"`
	NewSHA *string `json:"newSha"`
}

type updatedFile struct {
	Path    string             `json:"path"`
	Action  payload.FileAction `json:"action"`
	XetHash string             `json:"xetHash,omitzero"`
	Size    *int64             `json:"size,omitzero"`
}

type movedTo struct {
	Name  string   `json:"name"`
	Owner idObject `json:"owner"`
}

type eventDiscussion struct {
	ID            string                   `json:"id"`
	Title         string                   `json:"title"`
	URL           eventURL                 `json:"url"`
	Status        payload.DiscussionStatus `json:"status"`
	Author        idObject                 `json:"author"`
	Num           int                      `json:"num"`
	IsPullRequest bool                     `json:"isPullRequest"`
	Changes       *eventChanges            `json:"changes,omitzero"`
	Pinned        bool                     `json:"pinned,omitzero"`
}

type eventChanges struct {
	Base          string `json:"base"`
	MergeCommitID string `json:"mergeCommitId,omitzero"`
}

type eventComment struct {
	ID      string   `json:"id"`
	Author  idObject `json:"author"`
	Content *string  `json:"content,omitzero"`
	Hidden  bool     `json:"hidden"`
	URL     eventURL `json:"url"`
}

type eventWebhook struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
}

// newEventRepo is called with the lock held.
func newEventRepo(h *Hub, kind payload.RepoType, name, id string, private bool) eventRepo {
	segment := string(kind) + "s/"
	web := h.options.URL + "/" + segment + name
	if kind == payload.Model {
		web = h.options.URL + "/" + name
	}
	return eventRepo{
		Type: kind, Name: name, ID: id, Private: private,
		URL:   eventURL{Web: web, API: h.options.URL + "/api/" + segment + name},
		Owner: idObject{h.Accounts.ensure(ownerOf(name)).id},
	}
}

// event begins the event of a change of the repo. headSha comes with the scopes of repos alone (the Hub's documentation), and not with a
// deletion unless [Payloads] says so. A Space's subdomain was seen with repo.content, and not with discussion; that it comes with the other scopes of
// repos is an assumption.
func (r *Repo) event(action payload.Action, scope payload.Scope) *event {
	e := &event{Event: eventName{action, scope}, Repo: newEventRepo(r.hub, r.kind, r.name, r.id, r.private)}
	if scope.In(payload.ScopeRepo) && (action != payload.Delete || r.hub.options.Payloads.DeletedHeadSHA) {
		e.Repo.HeadSHA = r.refs[mainRef].id
	}
	if r.kind == payload.Space && scope.In(payload.ScopeRepo) {
		e.Repo.Subdomain = subdomain(r.name)
	}
	return e
}

// subdomain makes a Space's host label of its name, as in a payload that was captured.
func subdomain(name string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' || 'a' <= r && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// refChange is the change of one ref.
type refChange struct {
	ref      string
	from, to *commit // nil: it was not there, or is not any more
}

func (r *Repo) emitRefs(changes ...refChange) {
	e := r.event(payload.Update, payload.ScopeRepoContent)
	sha := func(c *commit) *string {
		if c == nil {
			return nil
		}
		return &c.id
	}
	if r.hub.options.Payloads.NoUpdatedRefs {
		changes = nil
	}
	for _, c := range changes {
		e.UpdatedRefs = append(e.UpdatedRefs, updatedRef{c.ref, sha(c.from), sha(c.to)})
	}
	r.hub.emit(e)
}

// emit sends an event to every webhook that watches the repo under its name or one of the others, or their owners. It is called with the
// lock held, after the change.
func (h *Hub) emit(e *event, others ...string) {
	if h.closed {
		return
	}
	domain := DomainRepo
	if e.Event.Scope.In(payload.ScopeDiscussion) {
		domain = DomainDiscussion
	}
	names := append([]string{e.Repo.Name}, others...)
	for _, r := range h.webhooks.inOrder() {
		if r.isStopped() || !slices.Contains(r.Domains, domain) || !r.watches(e.Repo.Type, names) {
			continue
		}
		if e.Repo.Private && !h.Accounts.reads(r.Owner, ownerOf(e.Repo.Name)) {
			continue
		}
		e.Webhook = eventWebhook{ID: r.ID, Version: 3}
		body, err := json.Marshal(e)
		if err != nil {
			panic(fmt.Sprintf("hubtest: write an event as JSON: %v", err)) // it has no values that can fail
		}
		h.send(r, body)
	}
}

// watches reports whether the webhook watches a repo of one of the names, or an owner of them.
func (w Webhook) watches(kind payload.RepoType, names []string) bool {
	return slices.ContainsFunc(w.Watched, func(item Watched) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			switch item.Type {
			case "user", "org":
				return item.Name == ownerOf(name)
			}
			return item.Type == string(kind) && item.Name == name
		})
	})
}
