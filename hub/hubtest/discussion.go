package hubtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hubhook/hubhook/payload"
)

// Discussion is a discussion or a pull request of a [Repo].
type Discussion struct {
	repo   *Repo
	id     string
	num    int
	author string
	isPull bool
	opened time.Time

	// Under the Hub's lock.
	title    string
	status   payload.DiscussionStatus
	pinned   bool
	merged   string // the merge's commit
	deleted  bool
	comments []*Comment
}

// DiscussionOptions say what a new discussion is like.
type DiscussionOptions struct {
	Title string
	// Comment is the text of the first comment, in Markdown.
	Comment string
	// Author is the name of a user. Empty: [Options].User.
	Author string
	// PullRequest makes it a pull request with the ref refs/pr/NUM, at main.
	PullRequest bool
	// Draft gives a pull request the status draft.
	Draft bool
}

// Comment is a comment of a [Discussion].
type Comment struct {
	// ID has 24 hexadecimal digits.
	ID string
	// Author is the name of a user.
	Author string

	of     *Discussion
	made   time.Time
	text   string // under the Hub's lock
	edited bool   // under the Hub's lock
	hidden bool   // under the Hub's lock
}

// Discuss opens a discussion or a pull request. A pull request makes a second event, for its new ref, as on the Hub.
func (r *Repo) Discuss(options DiscussionOptions) (*Discussion, error) {
	var d *Discussion
	err := r.change("open a discussion of", func() error {
		if options.Title == "" {
			return errors.New("it has no title")
		}
		d = &Discussion{
			repo: r, id: objectID(), num: len(r.discussions) + 1, author: cmp.Or(options.Author, r.hub.options.User),
			isPull: options.PullRequest, opened: r.hub.options.Now(), title: options.Title, status: payload.StatusOpen,
		}
		if d.isPull && options.Draft {
			d.status = payload.StatusDraft
		}
		r.discussions = append(r.discussions, d)
		first := d.add(d.author, options.Comment)
		d.emit(payload.Create, payload.ScopeDiscussion, first)
		if d.isPull {
			ref, at := d.ref(), r.refs[mainRef]
			r.refs[ref] = at
			r.emitRefs(refChange{ref, nil, at})
		}
		return nil
	})
	return d, err
}

// Discussion returns a discussion by its number, nil if there is none.
func (r *Repo) Discussion(num int) *Discussion {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if num < 1 || num > len(r.discussions) || r.discussions[num-1].deleted {
		return nil
	}
	return r.discussions[num-1]
}

// Discussions returns the discussions and pull requests, oldest first.
func (r *Repo) Discussions() []*Discussion {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.discussions), func(d *Discussion) bool { return d.deleted })
}

// Num returns the discussion's number, which counts from 1 in its repo.
func (d *Discussion) Num() int { return d.num }

// IsPullRequest reports whether it is a pull request.
func (d *Discussion) IsPullRequest() bool { return d.isPull }

// Title returns the present title.
func (d *Discussion) Title() string {
	d.repo.hub.mu.Lock()
	defer d.repo.hub.mu.Unlock()
	return d.title
}

// Status returns the present status.
func (d *Discussion) Status() payload.DiscussionStatus {
	d.repo.hub.mu.Lock()
	defer d.repo.hub.mu.Unlock()
	return d.status
}

// Comments returns the comments, oldest first.
func (d *Discussion) Comments() []*Comment {
	d.repo.hub.mu.Lock()
	defer d.repo.hub.mu.Unlock()
	return slices.Clone(d.comments)
}

func (d *Discussion) ref() string { return fmt.Sprintf("refs/pr/%d", d.num) }

// change runs a change of the discussion with the Hub's lock held.
func (d *Discussion) change(what string, do func() error) error {
	return d.repo.change(fmt.Sprintf("%s discussion %d of", what, d.num), func() error {
		if d.deleted {
			return errors.New("it was deleted")
		}
		return do()
	})
}

// Comment adds a comment.
func (d *Discussion) Comment(author, text string) (*Comment, error) {
	var c *Comment
	err := d.change("comment in", func() error {
		c = d.add(author, text)
		d.emit(payload.Create, payload.ScopeDiscussionComment, c)
		return nil
	})
	return c, err
}

// add is called with the lock held.
func (d *Discussion) add(author, text string) *Comment {
	c := &Comment{ID: objectID(), Author: cmp.Or(author, d.repo.hub.options.User), of: d, made: d.repo.hub.options.Now(), text: text}
	d.comments = append(d.comments, c)
	return c
}

// Text returns the comment's present text, "" of a hidden one.
func (c *Comment) Text() string {
	c.of.repo.hub.mu.Lock()
	defer c.of.repo.hub.mu.Unlock()
	return c.text
}

// Edit replaces the comment's text.
func (c *Comment) Edit(text string) error {
	return c.of.change("edit a comment in", func() error {
		if c.hidden {
			return errors.New("the comment is hidden")
		}
		c.text, c.edited = text, true
		c.of.emit(payload.Update, payload.ScopeDiscussionComment, c)
		return nil
	})
}

// Hide hides the comment for good: its text is removed.
func (c *Comment) Hide() error {
	return c.of.change("hide a comment in", func() error {
		c.hidden, c.text = true, ""
		c.of.emit(payload.Update, payload.ScopeDiscussionComment, c)
		return nil
	})
}

// SetTitle renames the discussion.
func (d *Discussion) SetTitle(title string) error {
	return d.change("rename", func() error {
		d.title = title
		d.emit(payload.Update, payload.ScopeDiscussion, nil)
		return nil
	})
}

// SetStatus closes or opens the discussion, or makes a pull request a draft. Use [Discussion.Merge] to merge one.
func (d *Discussion) SetStatus(status payload.DiscussionStatus) error {
	return d.change("change", func() error {
		if status == payload.StatusMerged || d.status == payload.StatusMerged || status == payload.StatusDraft && !d.isPull {
			return fmt.Errorf("its status can't be set from %s to %s", d.status, status)
		}
		d.status = status
		d.emit(payload.Update, payload.ScopeDiscussion, nil)
		return nil
	})
}

// Pin pins the discussion to the top of the list, or takes it from there. Whether the Hub makes an event of it is unknown.
func (d *Discussion) Pin(pinned bool) error {
	return d.change("pin", func() error {
		d.pinned = pinned
		d.emit(payload.Update, payload.ScopeDiscussion, nil)
		return nil
	})
}

// Merge merges an open pull request: its files become those of a new commit on main. It makes an event for main and one for the discussion.
// Commits of main since the pull request was opened are not merged in; their files are lost.
func (d *Discussion) Merge() error {
	return d.change("merge", func() error {
		if !d.isPull || d.status != payload.StatusOpen {
			return fmt.Errorf("it is no pull request that is open: its status is %s", d.status)
		}
		r := d.repo
		from, head := r.refs[mainRef], r.refs[d.ref()]
		if head == nil {
			return fmt.Errorf("its ref %s was deleted", d.ref())
		}
		made := r.commit(from, head.tree, Commit{Title: fmt.Sprintf("%s (#%d)", d.title, d.num), Authors: []string{d.author}}, mainRef)
		d.status, d.merged = payload.StatusMerged, made.id
		r.emitRefs(refChange{mainRef, from, made})
		d.emit(payload.Update, payload.ScopeDiscussion, nil)
		return nil
	})
}

// Delete deletes the discussion. The ref of a pull request stays.
func (d *Discussion) Delete() error {
	return d.change("delete", func() error {
		d.deleted = true
		d.emit(payload.Delete, payload.ScopeDiscussion, nil)
		return nil
	})
}

// emit makes the event of a change. The comment is nil where no comment is new or changed.
func (d *Discussion) emit(action payload.Action, scope payload.Scope, c *Comment) {
	accounts := d.repo.hub.Accounts
	e := d.repo.event(action, scope)
	place := fmt.Sprintf("/discussions/%d", d.num)
	web, api := e.Repo.URL.Web+place, e.Repo.URL.API+place
	e.Discussion = &eventDiscussion{
		ID: d.id, Title: d.title, URL: eventURL{web, api}, Status: d.status, Author: idObject{accounts.ensure(d.author).id}, Num: d.num,
		IsPullRequest: d.isPull, Pinned: d.pinned,
	}
	if d.isPull {
		e.Discussion.Changes = &eventChanges{Base: mainRef, MergeCommitID: d.merged}
	}
	if c != nil {
		e.Comment = &eventComment{
			ID: c.ID, Author: idObject{accounts.ensure(c.Author).id}, Hidden: c.hidden, URL: eventURL{Web: web + "#" + c.ID},
		}
		if !c.hidden {
			e.Comment.Content = &c.text
		}
	}
	d.repo.hub.emit(e)
}
