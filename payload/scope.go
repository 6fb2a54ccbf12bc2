package payload

import "strings"

// Scope is the part of the Hub that an event is about. Scopes are nested by
// dots: repo.config is narrower than repo. The Hub may add narrower ones to
// those named here.
type Scope string

// The documented scopes.
const (
	// ScopeRepo is a repo as a whole, with the actions Create, Delete, Update
	// and Move.
	ScopeRepo Scope = "repo"
	// ScopeRepoContent is commits, branches and tags, or the files of a
	// bucket, with the action Update. A new pull request makes such an event
	// too, because it has a ref.
	ScopeRepoContent Scope = "repo.content"
	// ScopeRepoConfig is settings, with the action Update.
	ScopeRepoConfig Scope = "repo.config"
	// ScopeDiscussion is discussions and pull requests, with the actions
	// Create, Delete and Update: of title, of status, a merge.
	ScopeDiscussion Scope = "discussion"
	// ScopeDiscussionComment is comments, with the actions Create and Update.
	ScopeDiscussionComment Scope = "discussion.comment"
)

func (s Scope) documented() bool {
	switch s {
	case ScopeRepo, ScopeRepoContent, ScopeRepoConfig, ScopeDiscussion, ScopeDiscussionComment:
		return true
	}
	return false
}

// In reports whether s is the scope broader or a narrower one, documented or not:
// repo.content is in repo, and so are repo and repo.config.dois.
func (s Scope) In(broader Scope) bool {
	rest, ok := strings.CutPrefix(string(s), string(broader))
	return ok && broader != "" && (rest == "" || rest[0] == '.')
}

// parent returns the scope that s is directly under, or "" at the top.
func (s Scope) parent() Scope {
	return s[:max(0, strings.LastIndexByte(string(s), '.'))]
}

// Is reports whether e is that action on that scope, or counts as one. The Hub asks
// handlers to take any action on a scope they do not know as an update of the next
// broader scope. So this is true:
//
//	Event{Create, "repo.config.dois"}.Is(ScopeRepoConfig, Update)
//
// A documented scope never counts as a broader one: a push (repo.content) is not an
// update of repo. Use [Scope.In] to catch both.
func (e Event) Is(scope Scope, action Action) bool {
	if e.Scope == scope {
		return e.Action == action
	}
	if action != Update || scope == "" {
		return false
	}
	for s := e.Scope; s != "" && !s.documented(); {
		if s = s.parent(); s == scope {
			return true
		}
	}
	return false
}

// Documented returns what e counts as by the rule of Is, for a switch over the
// scopes. For a documented scope that is e itself. For any other it is an update of
// the nearest broader scope that is documented. If there is none, Documented returns
// e and false.
func (e Event) Documented() (Event, bool) {
	if e.Scope.documented() {
		return e, true
	}
	for s := e.Scope.parent(); s != ""; s = s.parent() {
		if s.documented() {
			return Event{Action: Update, Scope: s}, true
		}
	}
	return e, false
}

// String returns scope/action, such as repo.content/update.
func (e Event) String() string { return string(e.Scope) + "/" + string(e.Action) }

// Is reports whether p's event is that action on that scope: see [Event.Is].
func (p *Payload) Is(scope Scope, action Action) bool { return p.Event.Is(scope, action) }

// In reports whether the scope of p's event is that scope or a narrower one: see
// [Scope.In].
func (p *Payload) In(scope Scope) bool { return p.Event.Scope.In(scope) }
