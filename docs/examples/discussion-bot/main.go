// Command discussion-bot answers whoever mentions it in a discussion or a pull request on the Hub: it lists the repo's files.
package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

func main() {
	b, err := newBot(context.Background())
	if err != nil {
		server.PrintError(os.Stderr, err)
		os.Exit(1)
	}
	b.register(server.Default())
	server.Main()
}

type bot struct {
	hub     *hub.Client
	me      hub.User // the bot's account, by its token
	mention *regexp.Regexp
}

func newBot(ctx context.Context) (*bot, error) {
	client, err := hub.New(hub.Config{}) // the token and the address that the environment names
	if err != nil {
		return nil, err
	}
	me, err := client.WhoAmI(ctx)
	return &bot{client, me, mentionOf(me.Name)}, err
}

// mentionOf finds @NAME in a text, and not in an address or in a longer name.
func mentionOf(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)(^|[^\w@/])@` + regexp.QuoteMeta(name) + `($|[^\w-])`)
}

// register is apart from main so that a test can do the same.
func (b *bot) register(s *server.Server) {
	s.Handle("answer", b.answer, server.WhenBecause(b.isAsked), server.Retry(5, time.Second))
}

// isAsked picks new comments that mention the bot, the first one of a discussion among them. An answer is a new comment, too: one that the bot
// answers would be the first of an endless talk with itself.
func (b *bot) isAsked(p *payload.Payload) (keep bool, why string) {
	isNew := p.Is(payload.ScopeDiscussionComment, payload.Create) || p.Is(payload.ScopeDiscussion, payload.Create)
	switch {
	case !isNew || p.Discussion == nil || p.Comment == nil || p.Comment.Hidden:
		return false, "it is no new comment"
	case p.Comment.Author.ID == b.me.ID:
		return false, "it is the bot's own comment"
	case !b.mention.MatchString(p.Comment.Content):
		return false, "it does not mention @" + b.me.Name
	}
	return true, ""
}

// answer may run more than once for a delivery, after a crash for example. So it looks first whether the answer is there.
func (b *bot) answer(ctx context.Context, p *payload.Payload) (any, error) {
	repo, num := hub.RepoID{Type: p.Repo.Type, Name: p.Repo.Name}, int(p.Discussion.Num)
	discussion, err := b.hub.Discussion(ctx, repo, num)
	if err != nil {
		return nil, err
	}
	answered := func(c hub.Comment) bool { return c.Author == b.me.Name && strings.Contains(c.Text, p.Comment.URL.Web) }
	if slices.ContainsFunc(discussion.Comments, answered) {
		return nil, nil
	}
	revision := "main"
	if p.Discussion.IsPullRequest {
		revision = fmt.Sprintf("refs/pr/%d", num)
	}
	text, err := b.files(ctx, repo, revision)
	if err != nil {
		return nil, err
	}
	made, err := b.hub.Comment(ctx, repo, num, fmt.Sprintf("To [your question](%s) to @%s: %s", p.Comment.URL.Web, b.me.Name, text))
	return map[string]string{"comment": made.ID}, err
}

// files is what the bot knows. It lists the first files in a block of code, since strangers choose their names. A model could be asked here.
func (b *bot) files(ctx context.Context, repo hub.RepoID, revision string) (string, error) {
	const most = 20
	var text strings.Builder
	fmt.Fprintf(&text, "the files of %s are\n\n", revision)
	n := 0
	for entry, err := range b.hub.Tree(ctx, repo, revision, "", true) {
		switch {
		case err != nil:
			return "", err
		case entry.IsFolder():
			continue
		case n == most:
			text.WriteString("\nand more.")
			return text.String(), nil
		}
		n++
		fmt.Fprintf(&text, "    %s (%d bytes)\n", entry.Path, entry.Size)
	}
	return text.String(), nil
}
