package servertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// register registers an endpoint for each way in which a delivery can end.
func register(s *server.Server) {
	s.Handle("train", func(ctx context.Context, p *payload.Payload) (any, error) {
		fmt.Fprintln(server.Output(ctx), "training on", p.Repo.Name)
		return map[string]string{"on": p.Repo.Name}, nil
	}, server.WhenBecause(func(p *payload.Payload) (bool, string) { return p.Repo.Type == payload.Dataset, "no dataset" }))
	s.Handle("flaky", func(ctx context.Context, _ *payload.Payload) (any, error) {
		d, _ := server.DeliveryFrom(ctx)
		fmt.Fprint(server.Output(ctx), d.Attempt)
		switch d.Attempt {
		case 1:
			return nil, errors.New("no GPU is free")
		case 2:
			panic("out of reach")
		}
		time.Sleep(time.Minute)
		return d.Attempt, nil
	}, server.Retry(3, time.Hour))
	s.Handle("hopeless", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("no GPU is free") })
	s.Handle("index", func(context.Context, *payload.Payload) (any, error) { return "indexed", nil }, server.Debounce(time.Minute, 0, nil))
}

func TestOutcomes(t *testing.T) {
	t.Setenv("WEBHOOK_SECRET", "of this machine") // is not the server's
	s := Start(t, server.Config{}, register)
	d := s.Trigger("/train/", payload.ScopeRepoContent, "", map[string]any{"repo.type": payload.Dataset, "repo.name": "me/data"})
	if d.Status != http.StatusOK || string(d.Answer) != `{"on":"me/data"}` || d.Endpoint != "train" {
		t.Errorf("the answer: %d %s", d.Status, d.Answer)
	}
	got := d.Wait()
	if got.State != Done || got.Reason != "" || string(got.Result) != `{"on":"me/data"}` || got.Output != "training on me/data\n" || len(got.Attempts) != 1 ||
		got.Attempts[0].Error != "" || got.Attempts[0].Output != got.Output || got.Attempts[0].Took <= 0 {
		t.Errorf("the outcome: %+v", got)
	}
	got = s.Trigger("train", payload.ScopeRepoContent, "", map[string]any{"repo.type": payload.Model}).Wait()
	if got.State != Skipped || got.Reason != "no dataset" || len(got.Attempts) != 0 {
		t.Errorf("a model: %+v", got)
	}
	got = s.Post("train", []byte(`{"event":{}}`), nil).Wait()
	if got.State != Dead || !strings.Contains(got.Reason, "repo: want an object") {
		t.Errorf("a body without a repo: %+v", got)
	}
}

// TestInABubble retries for minutes and holds bursts back, in no time.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Start(t, server.Config{}, register)
		began := time.Now()
		d := s.Trigger("flaky", payload.ScopeRepo, payload.Create, nil)
		if d.Status != http.StatusAccepted || !strings.Contains(string(d.Answer), "no GPU is free") {
			t.Errorf("the answer: %d %s", d.Status, d.Answer)
		}
		got := d.Wait()
		if took := time.Since(began); took < 5*time.Minute || took > 11*time.Minute { // two waits, each half the longest or more, and the last attempt
			t.Errorf("three attempts took %v", took)
		}
		if got.State != Done || string(got.Result) != "3" || got.Output != "3" || len(got.Attempts) != 3 || got.Attempts[0].Error != "no GPU is free" ||
			!strings.Contains(got.Attempts[1].Stack, "servertest_test.go") || got.Attempts[2].Took != time.Minute {
			t.Errorf("the outcome: %+v", got)
		}
		if got := s.Trigger("hopeless", payload.ScopeRepo, "", nil).Wait(); got.State != Dead || got.Reason != "no GPU is free" || len(got.Attempts) != 5 {
			t.Errorf("one that always fails: %+v", got)
		}
		first, last := s.Trigger("index", payload.ScopeRepoContent, "", nil), s.Trigger("index", payload.ScopeRepoContent, "", nil)
		merged, got := first.Wait(), last.Wait()
		if merged.State != Merged || merged.MergedInto != last.ID || got.State != Done || !slices.Equal(got.Merged, []string{first.ID}) {
			t.Errorf("a burst: %+v, then %+v", merged, got)
		}
	})
}

func TestPostAsTheHubDoes(t *testing.T) {
	s := Start(t, server.Config{Secrets: []string{"s3cret"}}, register)
	p, err := payload.Sample(payload.ScopeRepo, "", map[string]any{"repo.type": payload.Dataset})
	if err != nil {
		t.Fatal(err)
	}
	again := http.Header{"webhook-id": {"w1"}}
	first := s.Post("train", p.Raw(), again)
	repeat := s.Post("train", p.Raw(), again)
	if repeat.ID != first.ID || !strings.Contains(string(repeat.Answer), "duplicate") || repeat.Wait().Duplicates != 1 {
		t.Errorf("a repeat: %+v, answered %s", repeat, repeat.Answer)
	}
	for secret, want := range map[string]int{"s3cret": 200, "": 401, "wrong": 403} {
		if d := s.Post("train", p.Raw(), http.Header{"X-Webhook-Secret": {secret}}); d.Status != want || (d.ID != "") != (want == 200) {
			t.Errorf("secret %q: %d, delivery %q", secret, d.Status, d.ID)
		}
	}
	if d := s.Post("train", []byte("["), nil); d.Status != 422 {
		t.Errorf("no object: %d %s", d.Status, d.Answer)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != 200 {
		t.Errorf("/readyz: %d", w.Code)
	}
}

// TestTheEnd checks that a test leaves neither a handler that runs nor a file.
func TestTheEnd(t *testing.T) {
	var data string
	ended := make(chan error, 1)
	t.Run("test", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			data = filepath.Join(t.TempDir(), "data")
			s := Start(t, server.Config{Data: data, ReplyWithin: -1}, func(s *server.Server) {
				s.Handle("patient", func(ctx context.Context, _ *payload.Payload) (any, error) {
					<-ctx.Done()
					ended <- ctx.Err()
					return nil, ctx.Err()
				})
			})
			if d := s.Trigger("patient", payload.ScopeRepo, "", nil); d.Status != http.StatusAccepted {
				t.Errorf("answered %d %s", d.Status, d.Answer)
			}
			synctest.Wait()
		})
	})
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the handler's context had not ended")
		}
	default:
		t.Error("the handler has not ended")
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory: %v", err)
	}
}

// failing is a test that can fail without failing this one.
type failing struct {
	testing.TB
	said string
}

type failed struct{}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(failed{}) // not runtime.Goexit, which would end this test
}

func TestMistakesFailTheTest(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(testing.TB)
		want string
	}{
		{"unknown endpoint", func(t testing.TB) { Start(t, server.Config{}, register).Trigger("trian", payload.ScopeRepo, "", nil) },
			`servertest: the server has no endpoint "trian"; it has train, flaky, hopeless, index`},
		{"unknown path", func(t testing.TB) {
			Start(t, server.Config{}, register).Trigger("train", payload.ScopeRepo, "", map[string]any{"repo.nam": "x"})
		}, "servertest: make the event for train: "},
		{"a refused delivery", func(t testing.TB) { Start(t, server.Config{}, register).Post("train", []byte("{"), nil).Wait() },
			"servertest: there is nothing to wait for: endpoint train refused it with status 422: "},
		{"a wrong setting", func(t testing.TB) { Start(t, server.Config{Answer: "never"}, register) }, `servertest: make the server: answer "never"`},
		{"a bad directory", func(t testing.TB) { Start(t, server.Config{Data: filepath.Join(os.DevNull, "x")}, register) }, "servertest: start the server: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &failing{TB: t}
			defer func() {
				if recover() != (failed{}) || !strings.HasPrefix(f.said, c.want) {
					t.Errorf("said %q, want %q", f.said, c.want)
				}
			}()
			c.do(f)
		})
	}
}
