//go:build unix

package action

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

// probe runs all cases that have pattern in their names, "" for all.
func probe(t *testing.T, cfg ProbeConfig, pattern string) *ProbeReport {
	t.Helper()
	cases, err := ProbeCases()
	if err == nil && pattern != "" {
		cases, err = SelectCases(cases, pattern)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cases = cases
	report, err := Probe(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() > 0 || testing.Verbose() {
		var b bytes.Buffer
		table := NewProbeTable(&b)
		for _, r := range report.Results {
			table.Row(r)
		}
		table.End(report)
		t.Logf("\n%s", &b)
	}
	return report
}

// with returns the names of the cases with that verdict.
func (r *ProbeReport) with(v ProbeVerdict) []string {
	var names []string
	for _, result := range r.Results {
		if result.Verdict == v {
			names = append(names, result.Case)
		}
	}
	return names
}

func (r *ProbeReport) of(t *testing.T, name string) ProbeResult {
	t.Helper()
	i := slices.IndexFunc(r.Results, func(result ProbeResult) bool { return result.Case == name })
	if i < 0 {
		t.Fatalf("no result of %q", name)
	}
	return r.Results[i]
}

func (r ProbeResult) want(t *testing.T, v ProbeVerdict, cause string) {
	t.Helper()
	if r.Verdict != v || r.Advice == nil || !strings.Contains(r.Advice.Cause, cause) {
		t.Errorf("%s %s: %+v; want %s: %s", r.Case, r.Verdict, r.Advice, v, cause)
	}
}

// handling is a running program at /hook.
func handling(t *testing.T, handle http.HandlerFunc) ProbeConfig {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hook" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	hook, err := PathRoute("/hook")
	if err != nil {
		t.Fatal(err)
	}
	return ProbeConfig{URL: server.URL, Secret: "s3cret", Program: SupervisorConfig{Routes: []Route{hook}}}
}

func checkSecret(w http.ResponseWriter, r *http.Request) bool {
	switch r.Header.Get("X-Webhook-Secret") {
	case "s3cret":
		return true
	case "":
		w.WriteHeader(http.StatusUnauthorized)
	default:
		w.WriteHeader(http.StatusForbidden)
	}
	return false
}

func TestProbePasses(t *testing.T) {
	t.Parallel()
	ids := make(map[string]int)
	report := probe(t, handling(t, func(w http.ResponseWriter, r *http.Request) {
		if !checkSecret(w, r) {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(body)) || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v, headers %v", err, r.Header)
		}
		if _, err := payload.Parse(body); err != nil {
			t.Error(err)
		}
		ids[r.Header.Get("Webhook-Id")]++
		w.WriteHeader(http.StatusNoContent)
	}), "")
	if report.Failed() != 0 || len(report.with(ProbePassed)) != len(report.Results) || len(report.Results) < 30 {
		t.Errorf("%s", report.sum())
	}
	if len(ids) != len(report.Results)-2+1 { // two were refused, one has two deliveries with one id, one two with two
		t.Errorf("%d Webhook-Ids for %d cases", len(ids), len(report.Results))
	}
}

func TestProbeFails(t *testing.T) {
	t.Parallel()
	cfg := handling(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		p, err := payload.Parse(body)
		if err != nil {
			t.Error(err)
			return
		}
		switch {
		case p.Repo.Type == "unheard":
			panic(http.ErrAbortHandler)
		case p.Repo.Type == payload.Bucket:
			w.WriteHeader(http.StatusUnprocessableEntity)
		case p.Event.Action == payload.Move:
			w.Write([]byte(`[{"error": "moved"}, 400]`))
		case p.Event.Scope == payload.ScopeRepoConfig:
			w.WriteHeader(http.StatusTeapot)
		}
	})
	report := probe(t, cfg, "")
	report.of(t, "a bucket with 10,000 files").want(t, ProbeFailed, "refuses a bucket")
	report.of(t, "an unknown repo type").want(t, ProbeFailed, "no answer")
	report.of(t, "repo/move").want(t, ProbeWarned, "does not set the status")
	report.of(t, "repo.config/update").want(t, ProbeFailed, "answers 418")
	report.of(t, "a wrong secret").want(t, ProbeFailed, "takes a delivery with a wrong secret (200)")
	report.of(t, "no secret").want(t, ProbeFailed, "takes a delivery without a secret (200)")
	if r := report.of(t, "the same Webhook-Id twice"); r.Verdict != ProbePassed || len(r.Answers) != 2 {
		t.Errorf("%+v", r)
	}

	cfg.Secret = ""
	report = probe(t, cfg, "secret")
	report.of(t, "no secret").want(t, ProbeSkipped, "knows no secret")
	cfg.Endpoints = []string{"hook", "other"}
	report = probe(t, cfg, "repo/create")
	if r := report.Results[2]; r.Endpoint != "other" || r.Answers[0].Status != 404 || !strings.Contains(r.Advice.Cause, "has no /webhooks/other") {
		t.Errorf("%+v", r)
	}
}

func TestProbeNoAnswer(t *testing.T) {
	t.Parallel()
	cfg := handling(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	cfg.answerWithin = 200 * time.Millisecond
	probe(t, cfg, "repo/delete").of(t, "repo/delete").want(t, ProbeFailed, "no answer within 200ms")
}

func TestProbeUnknownEndpoint(t *testing.T) {
	cfg := handling(t, func(http.ResponseWriter, *http.Request) {})
	cfg.Program.Routes = nil
	var advised *AdvisedError
	if _, err := Probe(context.Background(), cfg); !errors.As(err, &advised) || !strings.Contains(advised.Hint(), "--path /hook") {
		t.Error(err)
	}
	cfg.URL = "http://127.0.0.1:1"
	if _, err := Probe(context.Background(), cfg); !errors.As(err, &advised) || !strings.Contains(advised.Hint(), "hubhook test -- COMMAND") {
		t.Error(err)
	}
}

// With --path the program's other endpoints are left alone.
func TestProbePathAlone(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"openapi": "3.1.0", "paths": {"/webhooks/other": {"post": {}}, "/hook": {"post": {}}}}`)
	})
	mux.HandleFunc("POST /hook", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	defer server.Close()
	hook, err := PathRoute("/hook")
	if err != nil {
		t.Fatal(err)
	}
	cfg := ProbeConfig{URL: server.URL, Program: SupervisorConfig{Routes: []Route{hook}}}
	for _, r := range probe(t, cfg, "a kernel").Results {
		if r.Endpoint != "hook" || r.Verdict != ProbePassed {
			t.Errorf("%+v", r)
		}
	}
	cfg.Endpoints = []string{"other"}
	if r := probe(t, cfg, "a kernel").of(t, "a kernel"); r.Endpoint != "other" || r.Answers[0].Status != http.StatusNotFound {
		t.Errorf("with --endpoint: %+v", r)
	}
}

// A WebhooksServer listens before it adds its routes. Its description is read once it has the endpoint that --endpoint or --path names.
func TestProbeAwaitsTheDescription(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"openapi.json": string(fixture(t, "webhooksserver.openapi.json")), "app.py": pythonServer + `
asked = []
class Late(Handler):
    def do_GET(self):
        if self.path != "/openapi.json":
            return self.answer(404)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("openapi.json", "rb").read() if asked else b'{"openapi": "3.1.0", "paths": {}}')
        asked.append(self.path)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)
Handler = Late
serve()
`})
	cfg := ProbeConfig{Program: SupervisorConfig{Args: []string{needs.Program(t, "python3"), "app.py"}, Dir: dir}, Endpoints: []string{"trigger_training"}}
	cfg.Program.look = func(ctx context.Context, r *ProgramRun) { // asks once the program was asked whether it describes the endpoint
		if r.awaitListening(ctx) {
			for ctx.Err() == nil && len(r.Found().Routes) == 0 {
				time.Sleep(askEvery)
				r.ask(ctx, false)
			}
			r.becomeReady()
		}
	}
	probe(t, cfg, "a kernel").of(t, "its model's repo.head_sha").want(t, ProbeWarned, "always None")
}

// A program that ends during a case is started again for the next.
func TestProbeCrash(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.py")
	writeFiles(t, filepath.Dir(path), map[string]string{"app.py": pythonServer + `
import json
print("- POST http://127.0.0.1/webhooks/x", flush=True)
def post(r):
    if r.headers["X-Webhook-Secret"] != os.environ["WEBHOOK_SECRET"]:
        return 403
    if r.body["repo"]["type"] == "kernel":
        print("KeyError: 'kernel'", os.environ["WEBHOOK_SECRET"], flush=True)
        os._exit(1)
    return 200
class Reading(Handler):
    def do_POST(self):
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(post(self))
Handler = Reading
serve()
`})
	report := probe(t, ProbeConfig{Program: SupervisorConfig{Args: []string{needs.Program(t, "python3"), path}}}, "")
	if got := report.with(ProbeFailed); !slices.Equal(got, []string{"a kernel"}) {
		t.Errorf("failed: %q", got)
	}
	report.of(t, "a kernel").want(t, ProbeFailed, "it ended while it handled the delivery: the program ended: KeyError: 'kernel' [secret]")
}

func TestProbeNotReady(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.py")
	writeFiles(t, filepath.Dir(path), map[string]string{"app.py": "import time\ntime.sleep(60)\n", "broken.py": "import os\nraise KeyError(os.environ['WEBHOOK_SECRET'])\n"})
	args := []string{needs.Program(t, "python3"), path}
	var advised *AdvisedError
	_, err := Probe(context.Background(), ProbeConfig{Program: SupervisorConfig{Args: args}, readyWithin: 100 * time.Millisecond})
	if !errors.As(err, &advised) || !strings.Contains(err.Error(), "takes no deliveries after 100ms") {
		t.Error(err)
	}
	args[1] = filepath.Join(filepath.Dir(path), "broken.py")
	if _, err = Probe(context.Background(), ProbeConfig{Program: SupervisorConfig{Args: args}}); !errors.As(err, &advised) || !strings.Contains(err.Error(), "KeyError: '[secret]'") {
		t.Error(err)
	}
}

// A real program that has never heard of PORT or of a secret. The transcripts in the guide have others.
func TestProbeFlask(t *testing.T) {
	t.Parallel()
	path := e2eProgram(t, "python/flask_app.py")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, filepath.Dir(path), map[string]string{"flask_app.py": strings.Replace(string(text), "5000", strconv.Itoa(port), 1)})
	report := probe(t, ProbeConfig{Program: SupervisorConfig{Args: []string{python(t), filepath.Base(path)}, Dir: filepath.Dir(path)}}, "")
	if got := report.with(ProbeFailed); !slices.Equal(got, []string{"a wrong secret", "no secret"}) {
		t.Errorf("Flask failed: %q", got)
	}
}

func TestProbeWriters(t *testing.T) {
	advice := &Advice{"the program's model refuses <bucket>", "take the body as it is"}
	report := &ProbeReport{Took: 1234 * time.Millisecond, Results: []ProbeResult{
		{Endpoint: "train", Case: "its model's repo.head_sha", Verdict: ProbeWarned, Advice: &Advice{"it is always None", "read the body"}},
		{Endpoint: "train", Case: "repo/create", Verdict: ProbePassed, Answers: []ProbeAnswer{{Status: 200, Took: 4 * time.Millisecond}}},
		{Endpoint: "train", Case: "a bucket", Verdict: ProbeFailed, Answers: []ProbeAnswer{{Status: 422, Took: time.Microsecond}}, Advice: advice},
		{Endpoint: "train", Case: "a bucket with 10,000 files", Verdict: ProbeFailed, Answers: []ProbeAnswer{{Status: 422, Took: 31 * time.Millisecond}}, Advice: advice},
		{Endpoint: "eval", Case: "the same Webhook-Id twice", Verdict: ProbeFailed, Answers: []ProbeAnswer{{Status: 200}, {Took: 10 * time.Second, Error: "timed out"}}, Advice: advice},
		{Endpoint: "eval", Case: "no secret", Verdict: ProbeSkipped, Advice: &Advice{"no secret is known", "--secret"}},
	}}
	var text, lines, suites bytes.Buffer
	table := NewProbeTable(&text)
	for _, r := range report.Results {
		if err := errors.Join(table.Row(r), WriteProbeJSON(&lines, r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(table.End(report), WriteProbeJSONSum(&lines, report), WriteJUnit(&suites, report)); err != nil {
		t.Fatal(err)
	}
	const want = `train
  sent                                      answer       time  verdict
  its model's repo.head_sha                 -               -  warned
      it is always None
      fix: read the body
  repo/create                               200          4 ms  passed
  a bucket                                  422         <1 ms  failed
      the program's model refuses <bucket>
      fix: take the body as it is
  a bucket with 10,000 files                422         31 ms  failed
      as for a bucket

eval
  sent                                      answer       time  verdict
  the same Webhook-Id twice                 200 none   10.0 s  failed
      the program's model refuses <bucket>
      fix: take the body as it is
  no secret                                 -               -  skipped
      no secret is known
      fix: --secret

1 passed, 3 failed, 1 warned, 1 skipped in 1.2s
`
	if text.String() != want {
		t.Errorf("table:\n%s", &text)
	}
	for line := range strings.Lines(lines.String()) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil || object["type"] == "" || object["time"] == "" {
			t.Errorf("%s: %v", line, err)
		}
	}
	if !strings.Contains(lines.String(), `"endpoint":"eval","case":"the same Webhook-Id twice","answers":[{"status":200,"duration_ms":0},{"status":0,"duration_ms":10000,"error":"timed out"}],"verdict":"failed"`) ||
		!strings.Contains(lines.String(), `"passed":1,"failed":3,"warned":1,"skipped":1,"duration_ms":1234}`) {
		t.Errorf("JSON:\n%s", &lines)
	}
	var got junitSuites
	if err := xml.Unmarshal(suites.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 6 || got.Failures != 3 || len(got.Suites) != 2 || got.Suites[1].Failures != 1 || got.Suites[1].Skipped != 1 || got.Suites[0].Cases[2].Failure.Message != advice.Cause ||
		got.Suites[1].Time != "10.000" {
		t.Errorf("JUnit:\n%s", &suites)
	}
}
