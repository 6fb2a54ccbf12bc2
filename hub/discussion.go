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
	// Author is the name of a user, "" for one that is gone.
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
	// Author is the name of a user, "" for one that is gone.
	Author string
	// Text is its Markdown, "" of a hidden one.
	Text    string
	Hidden  bool
	Created time.Time
}

// UnmarshalJSON reads a discussion as the Hub sends it. Fields of another type than expected are left out, and so are events that are no
// comments.
func (d *Discussion) UnmarshalJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	*d = Discussion{}
	tolerant(fields["num"], &d.Num)
	tolerant(fields["title"], &d.Title)
	tolerant(field(fields["author"], "name"), &d.Author)
	tolerant(fields["status"], &d.Status)
	tolerant(fields["isPullRequest"], &d.PullRequest)
	tolerant(field(fields["changes"], "mergeCommitId"), &d.MergeCommit)
	var events []json.RawMessage
	tolerant(fields["events"], &events)
	for _, event := range events {
		var kind string
		if tolerant(field(event, "type"), &kind); kind != "comment" {
			continue
		}
		var c Comment
		tolerant(event, &c)
		d.Comments = append(d.Comments, c)
	}
	return nil
}

// UnmarshalJSON reads a comment as the Hub sends it. Fields of another type than expected are left out.
func (c *Comment) UnmarshalJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	*c = Comment{}
	tolerant(fields["id"], &c.ID)
	tolerant(field(fields["author"], "name"), &c.Author)
	tolerant(fields["createdAt"], &c.Created)
	tolerant(field(fields["data"], "hidden"), &c.Hidden)
	tolerant(field(field(fields["data"], "latest"), "raw"), &c.Text)
	return nil
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
// same: it is not sent again. The path and the fields are those of huggingface_hub's comment_discussion.
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

// answered sends a call and reads the JSON of its answer.
func (c *Client) answered(ctx context.Context, call call, into any) error {
	answer, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	return c.decode(call, answer, into)
}
