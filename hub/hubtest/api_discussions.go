package hubtest

import (
	"strconv"

	"github.com/hubhook/hubhook/payload"
)

// numbered finds the discussion that an element of a path names. It is called with the lock held.
func (r *Repo) numbered(element string) (*Discussion, error) {
	num, err := strconv.Atoi(element)
	if err != nil || num < 1 || num > len(r.discussions) || r.discussions[num-1].deleted {
		return nil, notFound("", "Discussion not found")
	}
	return r.discussions[num-1], nil
}

// discuss answers POST .../discussions, which opens a discussion or a pull request, and POST .../discussions/NUM/comment, which comments on
// one. The requests are those of huggingface_hub, the answers have what it reads. A pull request is a draft at first, as its documentation says.
func (c *call) discuss(prefix string, kind payload.RepoType) (any, error) {
	r, d, err := c.discussed(prefix, kind)
	if err != nil {
		return nil, err
	}
	var body struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		PullRequest bool   `json:"pullRequest"`
		Comment     string `json:"comment"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if d == nil {
		d, err = r.Discuss(DiscussionOptions{Title: body.Title, Comment: body.Description, Author: c.user(), PullRequest: body.PullRequest, Draft: body.PullRequest})
		if err != nil {
			return nil, badRequest(err)
		}
		return map[string]any{"num": d.num, "pullRequest": d.isPull}, nil
	}
	made, err := d.Comment(c.user(), body.Comment)
	if err != nil {
		return nil, badRequest(err)
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return map[string]any{"newMessage": made.fields()}, nil
}

// discussed finds what a POST below a repo's discussions is about. The discussion is nil where a new one is asked for. The request's body is
// read after it, without the lock.
func (c *call) discussed(prefix string, kind payload.RepoType) (*Repo, *Discussion, error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	r, rest, err := c.repo(prefix, kind)
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.needsToken(WriteTalk); err != nil {
		return nil, nil, err
	}
	switch {
	case len(rest) == 1 && rest[0] == "discussions":
		return r, nil, nil
	case len(rest) == 3 && rest[0] == "discussions" && rest[2] == "comment":
		d, err := r.numbered(rest[1])
		return r, d, err
	}
	return nil, nil, noPage
}

// fields returns what the API says of a discussion: what huggingface_hub reads of it. Of its events it has the comments alone. fields is called
// with the lock held.
func (d *Discussion) fields() any {
	events := []any{}
	for _, comment := range d.comments {
		events = append(events, comment.fields())
	}
	all := map[string]any{
		"_id": d.id, "num": d.num, "title": d.title, "status": d.status, "isPullRequest": d.isPull, "pinned": d.pinned,
		"author": map[string]string{"name": d.author}, "createdAt": stamp(d.opened),
		"repo": map[string]any{"name": d.repo.name, "type": d.repo.kind}, "events": events,
	}
	if d.isPull {
		changes := map[string]string{"base": mainRef}
		if d.merged != "" {
			changes["mergeCommitId"] = d.merged
		}
		all["changes"], all["filesWithConflicts"] = changes, []string{}
	}
	return all
}

// fields returns what the API says of a comment. It is called with the lock held.
func (c *Comment) fields() any {
	return map[string]any{
		"id": c.ID, "type": "comment", "author": map[string]string{"name": c.Author}, "createdAt": stamp(c.made),
		"data": map[string]any{
			"edited": c.edited, "hidden": c.hidden,
			"latest": map[string]any{"raw": c.text, "html": "", "updatedAt": stamp(c.made), "author": map[string]string{"name": c.Author}},
		},
	}
}
