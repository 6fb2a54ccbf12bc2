//go:build unix

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// botWorld is a Hub with a dataset of me, and a bot that runs with a token of the user helper.
type botWorld struct {
	*hubtest.Server
	t    *testing.T
	home *home
	repo *hubtest.Repo
	p    *program // it receives the deliveries
}

func newBotWorld(t *testing.T) *botWorld {
	t.Helper()
	w := &botWorld{Server: hubtest.NewServer(hubtest.Options{}), t: t, home: newHome(t)}
	t.Cleanup(w.Close)
	var err error
	w.repo, err = w.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	must(t, err)
	w.home.env = append(w.home.env, "HF_ENDPOINT="+w.URL, "HF_TOKEN="+w.Accounts.AddToken(hubtest.Token{User: "helper"}), "WEBHOOK_SECRET="+secret,
		"HF_HUB_DISABLE_TELEMETRY=1", "GRADIO_ANALYTICS_ENABLED=False", "PYTHONDONTWRITEBYTECODE=1")
	return w
}

// example puts the files of an example into the working directory, with other ports.
func (w *botWorld) example(dir string, replace ...string) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join("../../docs/examples", dir, "*"))
	must(w.t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(w.t, err)
		w.home.work(w.t, filepath.Base(file), strings.NewReplacer(replace...).Replace(string(text)))
	}
}

// watch makes a webhook of the events in a domain.
func (w *botWorld) watch(endpoint, domain string) (id string) {
	w.t.Helper()
	id, err := w.Create(hubtest.Webhook{
		URL: w.p.base + "/webhooks/" + endpoint, Secret: secret, Domains: []string{domain}, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}},
	})
	must(w.t, err)
	return id
}

func (w *botWorld) push(commit hubtest.Commit) {
	w.t.Helper()
	_, err := w.repo.Push(commit)
	must(w.t, err)
}

// handled waits until so many deliveries have come and are finished, and returns the latest.
func (w *botWorld) handled(n int) api.Record {
	w.t.Helper()
	var list []api.Delivery
	pollFor(w.t, 4*patience, fmt.Sprintf("%d deliveries are finished", n), func() (bool, string) {
		list = w.p.list("")
		finished := !slices.ContainsFunc(list, func(d api.Delivery) bool { return !queue.State(d.State).Finished() })
		return finished && len(list) == n, fmt.Sprintf("%+v", list)
	})
	return w.p.record(list[0].ID)
}

// said returns what the bot has written in a discussion.
func (w *botWorld) said(num int) (texts []string) {
	for _, c := range w.repo.Discussion(num).Comments() {
		if c.Author == "helper" {
			texts = append(texts, c.Text())
		}
	}
	return texts
}

// loseAnswer has the Hub take the next comment and cut the connection in place of an answer, so that the bot can't know whether it is there.
func (w *botWorld) loseAnswer() {
	w.Faults.Inject(hubtest.Fault{Method: "POST", Path: "/api/datasets/me/data/discussions/1/comment", Requests: 1, After: true, Answer: hubtest.Cut})
}

// A merge that brings data starts one training, and its pull request is told once, whatever fails in between. Nothing else starts one.
func TestRetrainBot(t *testing.T) {
	for name, start := range map[string]func(*botWorld){
		"Go": func(w *botWorld) {
			w.p = w.home.serve(w.t, filepath.Join(filepath.Dir(hubhook), "retrain"), "--no-tunnel", "--port", "0")
		},
		"Python": func(w *botWorld) {
			w.example("retrain-python", "8000", freePort(w.t))
			app := w.home.run(w.t, realPython(w.t), "app.py")
			pollFor(w.t, patience, "the program listens", func() (bool, string) {
				return strings.Contains(app.errs.String(), "Uvicorn running"), app.errs.String()
			})
			w.p = w.home.serve(w.t, hubhook, "--no-tunnel", "--port", "0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBotWorld(t)
			start(w)
			webhook := w.watch("retrain", hubtest.DomainRepo)
			rows := func(text string) []hubtest.File {
				return []hubtest.File{{Path: "data/train.csv", Content: []byte(text)}}
			}
			trained := func(what string, jobs, comments int) {
				t.Helper()
				if n := len(w.StartedJobs()); n != jobs || len(w.said(1)) != comments {
					t.Errorf("after %s there are %d Jobs and the comments %q; want %d and %d", what, n, w.said(1), jobs, comments)
				}
			}

			w.push(hubtest.Commit{Files: []hubtest.File{{Path: "README.md", Content: []byte("# Rows")}}})
			if d := w.handled(1); d.State != string(queue.Skipped) {
				t.Errorf("a push without data is %s (%s)", d.State, d.Reason)
			}
			pull, err := w.repo.Discuss(hubtest.DiscussionOptions{Title: "Add rows", Author: "jo", PullRequest: true})
			must(t, err)
			w.push(hubtest.Commit{Ref: "refs/pr/1", Files: rows("1")})
			if d := w.handled(3); d.State != string(queue.Skipped) {
				t.Errorf("a push to a pull request is %s (%s)", d.State, d.Reason)
			}
			trained("a pull request", 0, 0)

			w.loseAnswer()
			must(t, pull.Merge())
			d := w.handled(4)
			if d.State != string(queue.Done) || d.Attempts != 2 {
				t.Errorf("the merge is %s after %d attempts (%s); want done after 2", d.State, d.Attempts, d.Reason)
			}
			trained("the merge", 1, 1)
			job := w.StartedJobs()[0]
			if job.Owner != "helper" || job.Environment["DATASET"] != "me/data" || job.Environment["REVISION"] != w.repo.Head() || job.Secrets["HF_TOKEN"] == "" {
				t.Errorf("the Job is %+v", job)
			}
			if want := "(" + w.URL + "/jobs/helper/" + job.ID + ")"; !strings.Contains(w.said(1)[0], want) {
				t.Errorf("the comment is %q, want a link to %s", w.said(1)[0], want)
			}

			_, err = w.p.inspector().Replay(t.Context(), d.ID, nil)
			must(t, err)
			w.handled(5)
			trained("a replay", 1, 1)
			for n, title := range []string{"By hand, after (#1)", "By hand (#99)"} {
				w.push(hubtest.Commit{Title: title, Files: rows(title)})
				if d := w.handled(6 + n); d.State != string(queue.Done) || d.Attempts != 1 {
					t.Errorf("%s is %s after %d attempts (%s)", title, d.State, d.Attempts, d.Reason)
				}
				trained(title, 2+n, 1)
			}

			// What is followed comes in one delivery for all commits since the last look.
			must(t, w.Disable(webhook))
			seen := w.repo.Head()
			pull, err = w.repo.Discuss(hubtest.DiscussionOptions{Title: "Add more", Author: "jo", PullRequest: true})
			must(t, err)
			w.push(hubtest.Commit{Ref: "refs/pr/2", Files: rows("2")})
			must(t, pull.Merge())
			w.push(hubtest.Commit{Title: "Describe it", Files: []hubtest.File{{Path: "README.md"}}})
			body, err := payload.Sample(payload.ScopeRepoContent, payload.Update, map[string]any{
				"repo.type": payload.Dataset, "repo.name": "me/data", "updatedRefs": []any{map[string]any{"ref": "refs/heads/main", "oldSha": seen, "newSha": w.repo.Head()}},
			})
			must(t, err)
			w.p.post("retrain", string(body.Raw()), "X-Webhook-Secret", secret)
			if d := w.handled(8); d.State != string(queue.Done) || len(w.said(2)) != 1 {
				t.Errorf("a merge and a push in one are %s (%s), with the comments %q", d.State, d.Reason, w.said(2))
			}
			w.p.stop()
			if strings.Contains(w.p.out.String()+w.p.errs.String(), job.Secrets["HF_TOKEN"]) {
				t.Error("the token was printed")
			}
		})
	}
}

// A comment that mentions the bot is answered once. Its own answers, which mention it too, are not.
func TestDiscussionBot(t *testing.T) {
	for name, command := range map[string]func(*botWorld) []string{
		"Go": func(w *botWorld) []string { return []string{filepath.Join(filepath.Dir(hubhook), "discussion-bot")} },
		"Python": func(w *botWorld) []string {
			w.example("discussion-bot-python")
			return []string{realPython(w.t), "app.py"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newBotWorld(t)
			w.push(hubtest.Commit{Files: []hubtest.File{{Path: "data/train.csv", Content: []byte("a,b")}}})
			w.p = w.home.run(t, hubhook, append([]string{"dev", "--json", "--no-tunnel", "--port", "0", "--inspector", "127.0.0.1:0", "--"}, command(w)...)...)
			w.p.awaitReady()
			w.watch("answer", hubtest.DomainDiscussion)

			talk, err := w.repo.Discuss(hubtest.DiscussionOptions{Title: "What is in it?", Author: "jo", Comment: "@Helper, which files are there?"})
			must(t, err)
			own := w.handled(2)
			if result := string(own.AttemptList[0].Result); own.State != string(queue.Done) || !strings.Contains(result, "the bot's own comment") {
				t.Errorf("the bot's own comment is %s (%s): %s", own.State, own.Reason, result)
			}
			said := w.said(1)
			if len(said) != 1 || !strings.Contains(said[0], talk.Comments()[0].ID+") to @helper: the files of main are\n\n    .gitattributes (") || !strings.Contains(said[0], "    data/train.csv (3 bytes)\n") {
				t.Fatalf("the bot has said %q", said)
			}
			_, err = w.p.inspector().Replay(t.Context(), w.p.list("")[1].ID, nil)
			must(t, err)
			w.handled(3)
			for n, text := range []string{"Thanks!", "I am not @helper2, nor jo@helper."} {
				_, err := talk.Comment("jo", text)
				must(t, err)
				w.handled(4 + n)
			}
			must(t, talk.Comments()[0].Edit("@helper, which files were there?"))
			w.handled(6)
			if said := w.said(1); len(said) != 1 {
				t.Errorf("the bot has said %q; want one answer", said)
			}

			pull, err := w.repo.Discuss(hubtest.DiscussionOptions{Title: "More", Author: "jo", PullRequest: true})
			must(t, err)
			w.push(hubtest.Commit{Ref: "refs/pr/2", Files: []hubtest.File{{Path: "data/more.csv"}}})
			_, err = pull.Comment("jo", "@helper?")
			must(t, err)
			w.handled(9)
			if said := w.said(2); len(said) != 1 || !strings.Contains(said[0], "the files of refs/pr/2 are") || !strings.Contains(said[0], "data/more.csv") {
				t.Errorf("in the pull request the bot has said %q", said)
			}
			w.p.stop()
		})
	}
}
