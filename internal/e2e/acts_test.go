//go:build unix

package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

// act is how a transcript comes about.
type act struct {
	command string
	tunnel  bool         // it has one, to an edge
	prepare func(*stage) // nil where nothing is needed
	running func(*stage) // what happens while it runs; nil where the command ends by itself
	answer  string       // what is typed where the command asks; "" where it asks nothing
}

// acts are those of each guide, in its order.
var acts = map[string][]act{
	"README.md": {{
		command: "go run ./docs/examples/readme",
		tunnel:  true,
		prepare: func(s *stage) {
			s.goWorkspace(s.t)
			if err := os.CopyFS(filepath.Join(s.dir, "work", "docs", "examples", "readme"), os.DirFS("../../docs/examples/readme")); err != nil {
				s.t.Fatal(err)
			}
		},
		running: func(s *stage) {
			s.await("Try it: ")
			s.push("trigger_training")
		},
	}},
	"docs/start.md": {{
		command: "hubhook serve --no-tunnel trigger_training",
		running: func(s *stage) {
			s.await("Try it: ")
			s.other(strings.TrimSpace(s.guide.code(s.t, "sh", "hubhook trigger repo.content --set")) + " --wait")
		},
	}},
	"docs/dev.md": {{
		command: "hubhook dev -- python app.py",
		tunnel:  true,
		prepare: func(s *stage) { s.python(s.example("webhooksserver/app.py")) },
		running: func(s *stage) {
			s.await("--- app.py is ready")
			s.await("/webhooks/goodbye")
			s.push("trigger_training")
			s.await("<-- trigger_training")
			app := filepath.Join(s.dir, "work", "app.py")
			text, err := os.ReadFile(app)
			if err != nil {
				s.t.Fatal(err)
			}
			s.file("app.py", strings.Replace(string(text), "training on", "training again on", 1), 0o600)
			s.await("--- app.py restarts")
			s.push("trigger_training")
		},
	}},
	"docs/actions.md": {{
		command: "hubhook",
		prepare: func(s *stage) {
			needs.Program(s.t, "python3") // train.sh reads JSON with it
			s.file("hubhook.yaml", s.guide.code(s.t, "yaml", "trigger_training:"), 0o600)
			s.file("train.sh", s.guide.code(s.t, "sh", "#!/bin/sh"), 0o700)
		},
		running: func(s *stage) {
			s.await("Try it: ")
			for line := range strings.Lines(s.guide.code(s.t, "sh", "hubhook trigger repo.content --endpoint")) {
				s.other(strings.TrimSpace(line) + " --wait")
			}
		},
	}, {
		command: "hubhook",
		prepare: func(s *stage) {
			s.file("hubhook.yaml", strings.Replace(s.guide.code(s.t, "yaml", "trigger_training:"), "run:", "rum:", 1), 0o600)
		},
	}, {
		command: "WEBHOOK_PAYLOAD=$(hubhook trigger repo.content --print) hubhook run-job trigger_training",
		prepare: func(s *stage) {
			needs.Program(s.t, "python3")
			s.file("hubhook.yaml", s.guide.code(s.t, "yaml", "trigger_training:"), 0o600)
			s.file("train.sh", s.guide.code(s.t, "sh", "#!/bin/sh"), 0o700)
		},
	}},
	"docs/doctor.md": {{
		command: "hubhook doctor",
		tunnel:  true,
		prepare: func(s *stage) {
			s.env = append(s.env, "NGROK_AUTHTOKEN=2nobodyKnowsThisToken_0123456789", "HF_ENDPOINT=http://127.0.0.1:1")
		},
	}, {
		command: "hubhook doctor dataset:me/data",
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{})
			hub := s.server
			id, err := hub.Create(hubtest.Webhook{ID: theWebhook, URL: "https://me.ngrok.app/webhooks/inbox", Secret: secret, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}}})
			if err == nil {
				err = hub.Suspend(id)
			}
			if err != nil {
				s.t.Fatal(err)
			}
			s.env = append(s.env, "HUBHOOK_PUBLIC_URL=https://me.ngrok.app", "HTTPS_PROXY=http://127.0.0.1:1", "HF_TOKEN="+hub.Accounts.AddToken(hubtest.Token{}))
			s.serve(s.t, hubhook)
		},
	}},
	"docs/follow.md": {{
		command: "hubhook --follow dataset:me/data --follow bucket:me/checkpoints",
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{})
			_, err := s.server.CreateBucket("me/checkpoints", hubtest.RepoOptions{})
			must(s.t, err)
			s.env = append(s.env, "HUBHOOK_NO_TUNNEL=false")
		},
		running: func(s *stage) {
			b := s.server.Bucket("me/checkpoints")
			must(s.t, b.Feed.WaitStreams(s.t.Context(), 1))
			must(s.t, b.Upload(hubtest.File{Path: "step-1000.safetensors", Content: []byte("weights")}))
		},
	}, {
		command: "HF_TOKEN=hf_... hubhook --watch dataset:me/data --catch-up",
		tunnel:  true,
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{Client: s.outside})
			s.server.Accounts.AddToken(hubtest.Token{Value: "hf_..."})
		},
		running: func(s *stage) {
			pollFor(s.t, patience, "the look after the way was proven", func() (bool, string) {
				n := s.server.Requests.Count("GET", "/api/datasets/me/data/refs")
				return n >= 2 && len(s.server.Webhooks()) == 1, fmt.Sprint(n)
			})
			must(s.t, s.server.Suspend(s.server.Webhooks()[0].ID))
			_, err := s.server.Repo(payload.Dataset, "me/data").Push(hubtest.Commit{Files: []hubtest.File{{Path: "a", Content: []byte("1")}}})
			must(s.t, err)
			s.edge.Drop() // once the way is proven again, the suspension is ended
		},
	}},
	"docs/hub.md": {{
		command: "hubhook hub create --url https://me.ngrok.app/webhooks/train --watch dataset:me/data",
		prepare: func(s *stage) { s.hub() },
	}, {
		command: "hubhook hub show 654bbbc16f2ec14d77f109cc",
		prepare: func(s *stage) { s.hub() },
	}, {
		command: "hubhook hub list",
		prepare: func(s *stage) { s.hub() },
	}, {
		command: "hubhook hub update 654bbbc16f2ec14d77f109cc --url https://other.ngrok.app/webhooks/train",
		prepare: func(s *stage) {
			s.hub()
			s.env = append(s.env, "WEBHOOK_SECRET=")
		},
	}},
	"docs/deliveries.md": {{
		command: "hubhook deliveries replay --dead --since 1h",
		prepare: func(s *stage) {
			s.file("hubhook.yaml", "endpoints: {inbox: {run: exit 1, attempts: 1}}\n", 0o600)
			p := s.serve(s.t, hubhook)
			p.settled(p.post("inbox", push(s.t), "X-Webhook-Secret", secret).delivery(), queue.Dead)
		},
	}},
	"docs/reference/deliveries.md": {{
		command: "hubhook trigger repo.content --endpoint trigger_training --set repo.name=me/data --wait",
		prepare: func(s *stage) { s.shell() },
	}, {
		command: "hubhook deliveries list",
		prepare: func(s *stage) {
			p := s.shell()
			s.other("hubhook trigger repo.content --endpoint trigger_training --set repo.name=me/data --set repo.type=dataset --wait")
			s.other("hubhook trigger repo.content --endpoint trigger_evaluation --set repo.name=me/model --set repo.type=model --set repo.headSha= --wait || true")
			for range 2 {
				p.post("say_hello", sample(s.t, "me/data"), "X-Webhook-Secret", secret, "Webhook-Id", "one")
			}
		},
	}, {
		command: "hubhook deliveries backup hubhook-2026-11-23.db",
		prepare: func(s *stage) {
			s.env = append(s.env, "XDG_STATE_HOME=") // so that it is below the home directory
			p := s.serve(s.t, hubhook)
			for range 3 {
				p.post("inbox", push(s.t), "X-Webhook-Secret", secret)
			}
		},
	}, {
		command: "hubhook deliveries recover --data " + service,
		prepare: (*stage).damage,
	}},
	"docs/reference/hub.md": {{
		command: "hubhook hub delete 289244eddd9cb392ff758865",
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{})
			_, err := s.server.Create(hubtest.Webhook{ID: "289244eddd9cb392ff758865", URL: "https://me.ngrok.app/webhooks/mirror", Watched: []hubtest.Watched{{Type: "bucket", Name: "me/checkpoints"}}})
			must(s.t, err)
			s.env = append(s.env, "HF_TOKEN="+s.server.Accounts.AddToken(hubtest.Token{}))
		},
		answer: "y",
	}, {
		command: "hubhook hub cleanup",
		tunnel:  true,
		prepare: func(s *stage) {
			s.standIn(hubtest.Options{Client: s.outside})
			_, err := s.server.Create(hubtest.Webhook{ID: theWebhook, URL: "https://hooks.example.com/mirror", Secret: secret, Watched: []hubtest.Watched{{Type: "org", Name: "my-org"}}})
			must(s.t, err)
			s.env = append(s.env, "HF_TOKEN="+s.server.Accounts.AddToken(hubtest.Token{}))
			p := s.serve(s.t, hubhook, "serve", "--watch", "trigger_training=dataset:me/data", "--webhook", "mirror="+theWebhook, "trigger_training", "mirror")
			p.poll("both webhooks post here", func() (bool, string) {
				here := 0
				for _, w := range s.server.Webhooks() {
					if strings.HasPrefix(w.URL, "https://"+s.public) {
						here++
					}
				}
				return here == 2, fmt.Sprintf("%+v", s.server.Webhooks())
			})
			p.kill()
		},
	}},
	"docs/testing.md": {{
		command: "hubhook test -- python app.py",
		prepare: func(s *stage) { s.python(s.guide.code(s.t, "python", "@webhook_endpoint")) },
	}, {
		command: "hubhook test -- python app.py",
		prepare: func(s *stage) { s.python(s.example("fastapi/app.py")) },
	}},
}

// shell serves the endpoints of docs/examples/shell.
func (s *stage) shell() *program {
	s.t.Helper()
	for _, name := range []string{"hubhook.yaml", "train.sh", "evaluate.sh"} {
		s.file(name, s.example("shell/"+name), 0o700)
	}
	return s.serve(s.t, hubhook)
}

// damage leaves a database of an installed service from which a finished delivery and an unfinished one can't be read.
func (s *stage) damage() {
	s.t.Helper()
	s.file("hubhook.yaml", "endpoints: {inbox: {}, failing: {run: exit 1, attempts: 30}}\n", 0o600)
	data := filepath.Join(s.dir, service)
	must(s.t, os.MkdirAll(data, 0o700))
	p := s.serve(s.t, hubhook, "--data", data)
	p.post("inbox", push(s.t), "X-Webhook-Secret", secret)
	p.post("failing", push(s.t), "X-Webhook-Secret", secret)
	lost := []byte(strings.Repeat("lost", 800)) // most of a page
	body := strings.TrimSuffix(strings.TrimSpace(push(s.t)), "}") + `,"future":"` + string(lost) + `"}`
	for _, endpoint := range []string{"inbox", "failing"} {
		p.post(endpoint, body, "X-Webhook-Secret", secret)
	}
	p.stop()
	path := filepath.Join(data, "hubhook.db")
	file, err := os.ReadFile(path)
	must(s.t, err)
	for page := range slices.Chunk(file, 4096) {
		if bytes.Contains(page, lost[:1000]) {
			clear(page)
		}
	}
	must(s.t, os.WriteFile(path, file, 0o600))
}

// standIn gives the stage a stand-in Hub with the dataset me/data.
func (s *stage) standIn(options hubtest.Options) {
	s.t.Helper()
	s.server = hubtest.NewServer(options)
	s.t.Cleanup(s.server.Close)
	_, err := s.server.CreateRepo(payload.Dataset, "me/data", hubtest.RepoOptions{})
	must(s.t, err)
	s.env = append(s.env, "HF_ENDPOINT="+s.server.URL)
}

// hub gives the stage a stand-in Hub with two webhooks.
func (s *stage) hub() {
	s.t.Helper()
	s.standIn(hubtest.Options{})
	server := s.server
	for _, w := range []hubtest.Webhook{
		{ID: "654bbbc16f2ec14d77f109cc", URL: "https://me.ngrok.app/webhooks/train", Secret: secret, Watched: []hubtest.Watched{{Type: "dataset", Name: "me/data"}, {Type: "org", Name: "my-org"}}},
		{ID: "65a14fd933eca76f4639fc84", URL: "https://me.ngrok.app/webhooks/mirror", Watched: []hubtest.Watched{{Type: "bucket", Name: "me/checkpoints"}}, Domains: []string{hubtest.DomainRepo}},
	} {
		if _, err := server.Create(w); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := server.Suspend("65a14fd933eca76f4639fc84"); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "HF_TOKEN="+server.Accounts.AddToken(hubtest.Token{}))
}

// push posts a push to me/data from outside, as the Hub does.
func (s *stage) push(endpoint string) {
	s.t.Helper()
	if a := post(s.t, s.outside, "https://"+s.public+"/webhooks/"+endpoint, sample(s.t, "me/data"), "X-Webhook-Secret", secret); !a.ok() {
		s.t.Fatalf("through the tunnel: %+v", a)
	}
}
