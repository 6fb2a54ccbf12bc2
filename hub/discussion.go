package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// Discussion is a discussion or a pull request of a repo.
type Discussion struct {
	// Num counts from 1 in each repo.
	Num   int
	Title string
	// Author is the name of a user, "" for a user who is gone.
	Author      string
	Status      payload.DiscussionStatus
	PullRequest bool
	// MergeCommit is the commit on the base branch that merged a pull request, "" without one.
	MergeCommit string
	// Comments are its comments, oldest first, as the Hub sends them.
	Comments []Comment
}

// Comment is a comment of a discussion or a pull request.
type Comment struct {
	ID string
	// Author is the name of a user, "" for a user who is gone.
	Author string
	// Text is the comment's Markdown, "" for a hidden comment.
	Text    string
	Hidden  bool
	Created time.Time
}

// UnmarshalJSON reads a discussion as the Hub sends it. Fields of another type than expected are left out, and so are events other
// than comments.
func (d *Discussion) UnmarshalJSON(body []byte) error {
	*d = Discussion{}
	var events []json.RawMessage
	err := readFields(body, map[string]func(json.RawMessage){
		"num": into(&d.Num), "title": into(&d.Title), "author": within("name", into(&d.Author)), "status": into(&d.Status),
		"isPullRequest": into(&d.PullRequest), "changes": within("mergeCommitId", into(&d.MergeCommit)), "events": into(&events),
	})
	for _, event := range events {
		var kind string
		if tolerant(field(event, "type"), &kind); kind != "comment" {
			continue
		}
		var c Comment
		tolerant(event, &c)
		d.Comments = append(d.Comments, c)
	}
	return err
}

// UnmarshalJSON reads a comment as the Hub sends it. Fields of another type than expected are left out.
func (c *Comment) UnmarshalJSON(body []byte) error {
	*c = Comment{}
	var data json.RawMessage
	err := readFields(body, map[string]func(json.RawMessage){
		"id": into(&c.ID), "author": within("name", into(&c.Author)), "createdAt": into(&c.Created), "data": into(&data),
	})
	tolerant(field(data, "hidden"), &c.Hidden)
	tolerant(field(field(data, "latest"), "raw"), &c.Text)
	return err
}

// Discussion reads a discussion or a pull request with its comments. The path and the fields are those of huggingface_hub's
// get_discussion_details.
func (c *Client) Discussion(ctx context.Context, id RepoID, num int) (Discussion, error) {
	call, err := c.discussionCall("read", http.MethodGet, id, num, "")
	if err != nil {
		return Discussion{}, err
	}
	var d Discussion
	err = c.answered(ctx, call, &d)
	return d, err
}

// Comment adds a comment, in Markdown, to a discussion or a pull request. Where the Hub does not answer, the comment may be there all the
// same, so Comment does not send it again. The path and the fields are those of huggingface_hub's comment_discussion.
func (c *Client) Comment(ctx context.Context, id RepoID, num int, text string) (Comment, error) {
	call, err := c.discussionCall("comment on", http.MethodPost, id, num, "/comment")
	if err != nil {
		return Comment{}, err
	}
	call.signed, call.safe = true, false
	if call.body, err = json.Marshal(map[string]string{"comment": text}); err != nil {
		return Comment{}, &Error{Op: call.op, Err: err, endpoint: c.Endpoint()}
	}
	var answer struct {
		Comment Comment `json:"newMessage"`
	}
	err = c.answered(ctx, call, &answer)
	return answer.Comment, err
}

// discussionCall makes a call that is about a discussion.
func (c *Client) discussionCall(verb, method string, id RepoID, num int, below string) (call, error) {
	op := fmt.Sprintf("%s discussion %d of %s", verb, num, line(id.String()))
	path, err := id.path()
	if err == nil && num < 1 {
		err = errors.New("discussions are numbered from 1")
	}
	if err != nil {
		return call{}, &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	path = fmt.Sprintf("%s/discussions/%d%s", path, num, below)
	return call{op: op, method: method, url: c.address(path, nil), safe: true}, nil
}
