package main

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// act does what a form asks for. It returns the path of the page to go to, "" for the one that the form was on.
func (p *page) act(r *http.Request) (to string, err error) {
	what := r.FormValue("do")
	switch what {
	case "create":
		return p.create(r)
	case "webhook":
		return "", p.createWebhook(r)
	case "enable":
		return "", p.hub.Enable(r.FormValue("id"))
	case "disable":
		return "", p.hub.Disable(r.FormValue("id"))
	case "suspend":
		return "", p.hub.Suspend(r.FormValue("id"))
	case "delete-webhook":
		return "", p.hub.Delete(r.FormValue("id"))
	case "replay":
		return "", p.replay(r)
	}
	kind, name, _ := strings.Cut(r.FormValue("item"), ":")
	i := p.find(payload.RepoType(kind), name)
	if i == nil {
		return "/", fmt.Errorf("there is no %s called %q", kind, name)
	}
	if i.Bucket != nil {
		return actOnBucket(i.Bucket, what, r)
	}
	return actOnRepo(i.Repo, what, r)
}

func (p *page) create(r *http.Request) (to string, err error) {
	kind, name := payload.RepoType(r.FormValue("type")), r.FormValue("name")
	options := hubtest.RepoOptions{Private: r.FormValue("private") != ""}
	if kind == payload.Bucket {
		_, err = p.hub.CreateBucket(name, options)
	} else {
		_, err = p.hub.CreateRepo(kind, name, options)
	}
	return pathOf(kind, name), err
}

func (p *page) createWebhook(r *http.Request) error {
	w := hubtest.Webhook{URL: r.FormValue("url"), Secret: r.FormValue("secret"), Owner: p.user}
	for item := range strings.FieldsSeq(r.FormValue("watched")) {
		kind, name, _ := strings.Cut(item, ":")
		w.Watched = append(w.Watched, hubtest.Watched{Type: kind, Name: name})
	}
	_, err := p.hub.Create(w)
	return err
}

func (p *page) replay(r *http.Request) error {
	for _, d := range p.hub.Deliveries() {
		if d.ID == r.FormValue("id") {
			_, err := p.hub.Replay(r.Context(), d)
			return err
		}
	}
	return fmt.Errorf("there is no delivery %q", r.FormValue("id"))
}

func actOnRepo(repo *hubtest.Repo, what string, r *http.Request) (to string, err error) {
	author := r.FormValue("author")
	switch what {
	case "push":
		c := hubtest.Commit{Ref: r.FormValue("ref"), Title: r.FormValue("title")}
		if author != "" {
			c.Authors = []string{author}
		}
		if r.FormValue("remove") != "" {
			c.Delete = []string{r.FormValue("path")}
		} else {
			c.Files = []hubtest.File{{Path: r.FormValue("path"), Content: []byte(r.FormValue("content")), LFS: r.FormValue("lfs") != ""}}
		}
		_, err = repo.Push(c)
	case "ref":
		err = repo.SetRefs(hubtest.Ref{Name: r.FormValue("ref"), Commit: r.FormValue("commit")})
	case "delete-ref":
		err = repo.SetRefs(hubtest.Ref{Name: r.FormValue("ref")})
	case "private":
		err = repo.SetPrivate(!repo.Private())
	case "configure":
		err = repo.Configure()
	case "move":
		name := r.FormValue("name")
		return pathOf(repo.Type(), name), repo.Move(name)
	case "delete":
		return "/", repo.Delete()
	case "discuss":
		_, err = repo.Discuss(hubtest.DiscussionOptions{
			Title: r.FormValue("title"), Comment: r.FormValue("text"), Author: author, PullRequest: r.FormValue("pull") != "",
		})
	default:
		d := repo.Discussion(number(r, "num"))
		if d == nil {
			return "", fmt.Errorf("there is no discussion %q", r.FormValue("num"))
		}
		err = actOnDiscussion(d, what, r)
	}
	return "", err
}

func actOnDiscussion(d *hubtest.Discussion, what string, r *http.Request) error {
	switch what {
	case "comment":
		_, err := d.Comment(r.FormValue("author"), r.FormValue("text"))
		return err
	case "close":
		return d.SetStatus(payload.StatusClosed)
	case "reopen":
		return d.SetStatus(payload.StatusOpen)
	case "merge":
		return d.Merge()
	}
	return fmt.Errorf("%q is nothing to do with a repo", what)
}

func actOnBucket(b *hubtest.Bucket, what string, r *http.Request) (to string, err error) {
	switch what {
	case "upload":
		f := hubtest.File{Path: r.FormValue("path"), Content: []byte(r.FormValue("content"))}
		if in, header, err := r.FormFile("file"); err == nil {
			defer in.Close()
			if f.Content, err = io.ReadAll(in); err != nil {
				return "", fmt.Errorf("read the file: %w", err)
			}
			if f.Path == "" || strings.HasSuffix(f.Path, "/") {
				f.Path += path.Base(header.Filename)
			}
		}
		err = b.Upload(f)
	case "remove":
		err = b.Remove(r.FormValue("path"))
	case "private":
		err = b.SetPrivate(!b.Private())
	case "move":
		name := r.FormValue("name")
		return pathOf(payload.Bucket, name), b.Move(name)
	case "delete":
		return "/", b.Delete()
	case "reconnect":
		b.Feed.Reconnect()
	case "reset":
		b.Feed.Reset()
	case "cut":
		b.Feed.Cut()
	case "silence":
		b.Feed.Silence()
	default:
		err = fmt.Errorf("%q is nothing to do with a bucket", what)
	}
	return "", err
}
