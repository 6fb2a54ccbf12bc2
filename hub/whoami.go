package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// User is the owner of a token, and what the token may do.
type User struct {
	// ID is the user's id. In payloads it stands for an author or an owner.
	ID string
	// Name is the user's name.
	Name string
	// TokenName is what the user calls the token. It can be empty.
	TokenName string
	// Role is read, write or fineGrained. The Hub may have others. It can be empty.
	Role string
	// Permissions are those of a fine-grained token on the user, such as user.webhooks.read and user.webhooks.write.
	Permissions []string
}

// WhoAmI asks the Hub whose token this is. The answer's shape is that of huggingface_hub's whoami; that of its permissions is known from
// answers that users have published.
func (c *Client) WhoAmI(ctx context.Context) (User, error) {
	call := call{op: "ask whose token this is", method: http.MethodGet, url: c.address("/api/whoami-v2", nil), safe: true, signed: true}
	var u User
	err := c.answered(ctx, call, &u)
	return u, err
}

// UnmarshalJSON reads a user as the Hub sends it. Fields of another type than expected are left out.
func (u *User) UnmarshalJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	*u = User{}
	tolerant(fields["id"], &u.ID)
	tolerant(fields["name"], &u.Name)
	token := field(fields["auth"], "accessToken")
	tolerant(field(token, "displayName"), &u.TokenName)
	tolerant(field(token, "role"), &u.Role)
	fine := field(token, "fineGrained")
	tolerant(field(fine, "global"), &u.Permissions)
	var scoped []json.RawMessage
	tolerant(field(fine, "scoped"), &scoped)
	for _, raw := range scoped {
		var kind string
		tolerant(field(field(raw, "entity"), "type"), &kind)
		if kind != "user" {
			continue
		}
		var permissions []string
		tolerant(field(raw, "permissions"), &permissions)
		for _, permission := range permissions {
			if !slices.Contains(u.Permissions, permission) {
				u.Permissions = append(u.Permissions, permission)
			}
		}
	}
	return nil
}

// Account asks the Hub whether it has a user or an organization: w.Type is user or org. One that it does not have is an ErrNotFound. The
// paths are those of huggingface_hub's get_user_overview and get_organization_overview.
func (c *Client) Account(ctx context.Context, w Watched) error {
	op := "read " + line(w.String())
	kinds := map[string]string{"user": "users", "org": "organizations"}
	err := checkOwner(w.Name)
	if kinds[w.Type] == "" {
		err = fmt.Errorf("unknown type %q; want user or org", w.Type)
	}
	if err != nil {
		return &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	var overview map[string]json.RawMessage
	return c.get(ctx, op, "/api/"+kinds[w.Type]+"/"+escape(w.Name)+"/overview", nil, &overview)
}
