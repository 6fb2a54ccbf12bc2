package payload

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/internal/text"
)

// Link leads to a page of the Hub.
type Link struct {
	Text string `json:"text"` // what it leads to, in words
	URL  string `json:"url"`  // with the scheme http or https
}

const (
	maxLinks = 12
	maxURL   = 2048 // bytes
)

// Links returns the pages that an event is about: the repo, commits, the discussion
// or pull request, the comment. It returns 12 links at most, and none to what the
// event deleted.
//
// An address is the one in the payload. Where the payload has none, Links makes it
// from the repo's address, in the form that the Hub's libraries use: /commit/SHA and
// /discussions/NUM. Links returns only plain http and https addresses in ASCII. The
// host is the one that the sender named: it may be another one than the Hub.
func (p *Payload) Links() []Link {
	var links []Link
	add := func(text, address string) {
		if address = webAddress(address); address == "" || len(links) == maxLinks {
			return
		}
		for _, l := range links {
			if l.URL == address {
				return
			}
		}
		links = append(links, Link{Text: text, URL: address})
	}
	if p.Summary() == "" {
		return nil
	}
	repo := p.repoAddress()
	if !p.Is(ScopeRepo, Delete) {
		add(text.OneLine(string(p.Repo.Type)+" "+p.Repo.Name, maxSummaryName), repo)
	}
	if p.MovedTo != nil && isName(p.MovedTo.Name) {
		if prefix, ok := strings.CutSuffix(repo, p.Repo.Name); ok {
			add(text.OneLine(string(p.Repo.Type)+" "+p.MovedTo.Name, maxSummaryName), prefix+p.MovedTo.Name)
		}
	}
	if repo = webAddress(repo); repo != "" {
		repo = strings.TrimRight(repo, "/")
		for _, r := range p.UpdatedRefs {
			if num, ok := r.PullRequest(); ok {
				add((&Discussion{IsPullRequest: true, Num: num}).title(), discussionAddress(repo, num))
			}
			if sha := r.NewSHA.Hex; isSHA(sha) {
				add("commit "+shortSHA(sha), repo+"/commit/"+sha)
			}
		}
	}
	if d := p.Discussion; d != nil && !p.Is(ScopeDiscussion, Delete) {
		address := d.URL.Web
		if address == "" && repo != "" && d.Num > 0 {
			address = discussionAddress(repo, d.Num)
		}
		add(d.title(), address)
		if sha := d.mergeCommit(); isSHA(sha) && repo != "" {
			add("commit "+shortSHA(sha), repo+"/commit/"+sha)
		}
		if p.Comment != nil {
			add("comment", p.Comment.URL.Web)
		}
	}
	return links
}

func discussionAddress(repo string, num int64) string {
	return repo + "/discussions/" + strconv.FormatInt(num, 10)
}

// repoAddress returns the address of the repo's page. It is made from the repo's type and name if the payload has none, "" if they are
// not of the usual form.
func (p *Payload) repoAddress() string {
	if p.Repo.URL.Web != "" {
		return p.Repo.URL.Web
	}
	switch p.Repo.Type {
	case Model, Dataset, Space, Bucket, Kernel:
		if isName(p.Repo.Name) {
			web, _ := repoURLs(p.Repo.Type, p.Repo.Name)
			return web
		}
	}
	return ""
}

// isName reports whether name is owner/name, or a name alone, in characters that the Hub allows.
func isName(name string) bool {
	owner, rest, ok := strings.Cut(name, "/")
	if !ok {
		rest = "-"
	}
	for _, part := range []string{owner, rest} {
		if strings.Trim(part, ".") == "" {
			return false
		}
		for _, c := range part {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
			default:
				return false
			}
		}
	}
	return true
}

// webAddress returns an http or https address in its usual form, "" for anything else. An address with a user name in it is refused,
// because a reader can take the user name for the host.
func webAddress(text string) string {
	if len(text) > maxURL {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return ""
	}
	address := u.String()
	if len(address) > maxURL || strings.Contains(u.Host, "%") || strings.ContainsFunc(u.Host, func(c rune) bool { return c > '~' }) {
		return ""
	}
	for i := range len(address) {
		if address[i] <= ' ' || address[i] > '~' || strings.IndexByte(`"'<>\^{}|`+"`", address[i]) >= 0 {
			return ""
		}
	}
	return address
}
