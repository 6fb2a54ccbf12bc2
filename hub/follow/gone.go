package follow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/text"
)

// surelyDeleted returns nil if a repo that the Hub does not find must have been deleted. Otherwise its error says why that is not sure. notFound is
// the Hub's answer, and private says whether the repo was private when it was last seen.
//
// The Hub answers the same for a repo that was deleted and for one that the caller may not see. Only the owner's own token sees all of the
// owner's repos, unless it is fine-grained. A member of an organization may lack the right to some of its repos.
func surelyDeleted(ctx context.Context, h Hub, id hub.RepoID, private bool, notFound error) error {
	owner, _, _ := strings.Cut(id.Name, "/")
	me, err := h.WhoAmI(ctx)
	switch {
	case errors.Is(err, hub.ErrNoToken):
	case err != nil:
		return err
	case me.Name == owner && (me.Role == "read" || me.Role == "write"):
		return nil
	}
	why := "it may have been made private, which looks like a deletion here, so no deletion is delivered"
	if private {
		why = "it was private when it was last seen, so it may only be hidden, and no deletion is delivered"
	}
	return text.WithHint(&unsure{notFound, why}, fmt.Sprintf("set HF_TOKEN to a token of %s that is not fine-grained: it sees all of %s's repos", owner, owner))
}

// unsure is the error of a repo that is not found and may still be there.
type unsure struct {
	notFound error
	why      string
}

func (u *unsure) Error() string { return fmt.Sprintf("%v; %s", u.notFound, u.why) }
func (u *unsure) Unwrap() error { return u.notFound }
