package hubtest

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Accounts are the users, organizations and access tokens of a [Hub]. An account is made by its first mention: the owner of a repo or of a
// webhook, the author of a commit or a comment.
type Accounts struct {
	hub *Hub

	// Under the Hub's lock.
	byName map[string]*account
	tokens map[string]*token
}

type account struct {
	id      string
	name    string
	members []string // of an organization
	org     bool
}

// Role is the kind of an access token.
type Role string

const (
	// Write is for a token that may do all that its user may.
	Write Role = "write"
	// Read is for a token that may read all that its user may, and change nothing.
	Read Role = "read"
	// FineGrained is for a token that may do what its permissions say.
	FineGrained Role = "fineGrained"
)

// Permissions of tokens with the role [FineGrained], as whoami-v2 lists them (seen in tools of others). The stand-in asks for these;
// any other one may be given too.
const (
	ReadWebhooks  = "user.webhooks.read"
	WriteWebhooks = "user.webhooks.write" // includes ReadWebhooks (an assumption)
	ReadContent   = "repo.content.read"   // of private repos and buckets
	WriteRepos    = "repo.write"          // moves, and buckets' creation, settings and deletion
	WriteTalk     = "discussion.write"    // discussions and comments
	WriteJobs     = "job.write"           // Jobs
)

// Token is an access token.
type Token struct {
	// Value is what clients send: Authorization: Bearer VALUE. Empty: [Accounts.AddToken] makes one.
	Value string
	// User is the name of its user. Empty: [Options].User.
	User string
	// Role is the token's kind. Empty: [Write], or [FineGrained] if there are Permissions.
	Role Role
	// Permissions are for the role FineGrained alone.
	Permissions []string
}

type token struct {
	Token
	quota window
}

// may reports whether the token has a permission.
func (t *token) may(permission string) bool {
	switch {
	case t == nil:
		return false
	case t.Role == Write:
		return true
	case t.Role == Read:
		return strings.HasSuffix(permission, ".read")
	case permission == ReadWebhooks && slices.Contains(t.Permissions, WriteWebhooks):
		return true
	}
	return slices.Contains(t.Permissions, permission)
}

// AddToken makes a token and returns its value. It replaces a token with the same value.
func (a *Accounts) AddToken(t Token) (value string) {
	a.hub.mu.Lock()
	defer a.hub.mu.Unlock()
	if t.Value == "" {
		t.Value = "hf_" + rand.Text()
	}
	if t.User == "" {
		t.User = a.hub.options.User
	}
	if t.Role == "" {
		t.Role = Write
		if len(t.Permissions) > 0 {
			t.Role = FineGrained
		}
	}
	t.Permissions = slices.Clone(t.Permissions)
	a.ensure(t.User)
	a.tokens[t.Value] = &token{Token: t}
	return t.Value
}

// RevokeToken makes a token's value unknown. Requests with it are answered 401 from then on.
func (a *Accounts) RevokeToken(value string) {
	a.hub.mu.Lock()
	defer a.hub.mu.Unlock()
	delete(a.tokens, value)
}

// AddUser makes a user if there is none of that name, and returns the ID.
func (a *Accounts) AddUser(name string) (id string) {
	a.hub.mu.Lock()
	defer a.hub.mu.Unlock()
	return a.ensure(name).id
}

// AddOrg makes an organization, or an organization of an account, and returns the ID. The members may read its private repos.
func (a *Accounts) AddOrg(name string, members ...string) (id string) {
	a.hub.mu.Lock()
	defer a.hub.mu.Unlock()
	org := a.ensure(name)
	org.org = true
	for _, m := range members {
		a.ensure(m)
		org.members = append(org.members, m)
	}
	return org.id
}

// ensure returns an account, which it makes if need be. It is called with the Hub's lock held.
func (a *Accounts) ensure(name string) *account {
	if a.byName[name] == nil {
		a.byName[name] = &account{id: objectID(), name: name}
	}
	return a.byName[name]
}

// reads reports whether a user may read the private repos of an owner: the owner itself, or an organization that has the user as a member. It is called with the Hub's lock held.
func (a *Accounts) reads(user, owner string) bool {
	if user == owner {
		return user != ""
	}
	of := a.byName[owner]
	return of != nil && slices.Contains(of.members, user)
}

// of returns the token of a request, nil for a request without one. It is called with the Hub's lock held.
func (a *Accounts) of(r *http.Request) (*token, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, nil
	}
	value, isBearer := strings.CutPrefix(header, "Bearer ")
	if t := a.tokens[value]; isBearer && t != nil {
		return t, nil
	}
	return nil, &apiError{status: http.StatusUnauthorized, messages: []string{"Invalid credentials in Authorization header"}}
}

// whoAmI answers GET /api/whoami-v2 in the shape that huggingface_hub's documentation and dumps of others show.
func (a *Accounts) whoAmI(c *call) (any, error) {
	t, err := c.needsToken()
	if err != nil {
		return nil, err
	}
	type entity struct {
		Type     string `json:"type"`
		ID       string `json:"id"`
		Name     string `json:"name"`
		FullName string `json:"fullname"`
	}
	me := a.ensure(t.User)
	orgs := []entity{}
	for _, name := range slices.Sorted(maps.Keys(a.byName)) {
		if org := a.byName[name]; org.org && slices.Contains(org.members, t.User) {
			orgs = append(orgs, entity{"org", org.id, org.name, org.name})
		}
	}
	access := map[string]any{
		"displayName": fmt.Sprintf("%s token", t.Role),
		"role":        t.Role,
		"createdAt":   stamp(time.Unix(0, 0)),
	}
	if t.Role == FineGrained {
		permissions := t.Permissions
		if permissions == nil {
			permissions = []string{}
		}
		access["fineGrained"] = map[string]any{
			"canReadGatedRepos": false,
			"global":            []string{},
			"scoped": []any{map[string]any{
				"entity":      map[string]string{"_id": me.id, "type": "user", "name": me.name},
				"permissions": permissions,
			}},
		}
	}
	return map[string]any{
		"type": "user", "id": me.id, "name": me.name, "fullname": me.name,
		"isPro": false, "canPay": false, "emailVerified": true, "orgs": orgs,
		"auth": map[string]any{"type": "access_token", "accessToken": access},
	}, nil
}

// overview answers GET /api/users/NAME/overview or, for organizations, /api/organizations/NAME/overview, with the fields that
// huggingface_hub reads.
func (a *Accounts) overview(org bool) answerer {
	return func(c *call) (any, error) {
		found := a.byName[c.r.PathValue("name")]
		switch {
		case found == nil || found.org != org:
			return nil, noPage
		case org:
			return map[string]any{"name": found.name, "fullname": found.name, "avatarUrl": ""}, nil
		}
		return map[string]any{"user": found.name, "fullname": found.name, "avatarUrl": "", "type": "user"}, nil
	}
}
