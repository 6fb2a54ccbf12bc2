package queue

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeliveryIsHandledAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type parsed struct{ n int }
		value := &parsed{7}
		f := begin(t, Config{}, Endpoint{Handle: func(ctx context.Context, c *Claim) Outcome {
			if c.Value != value || c.Attempt != 1 || string(c.Body) != "{}" || c.Header.Get("X") != "y" || c.State != Running {
				t.Errorf("the handler got %+v", c)
			}
			if _, ok := ctx.Deadline(); ok || ctx.Err() != nil {
				t.Error("the handler's context is the caller's")
			}
			time.Sleep(20 * time.Millisecond)
			return Outcome{Result: []byte(`{"ok":true}`), Output: []byte("hi")}
		}})
		r := f.accept(Arrival{Body: []byte("{}"), Header: http.Header{"X": {"y"}}, Scope: "repo", Value: value})
		if r.State != Running || r.Duplicate {
			t.Errorf("the receipt is %+v", r)
		}
		if rec := f.get(r.ID); rec.State != Running || len(rec.AttemptList) != 1 || rec.AttemptList[0].Ended {
			t.Errorf("while it runs it is %+v", rec)
		}
		if got := r.Report(); got.State != Done || string(got.Result) != `{"ok":true}` {
			t.Errorf("the report is %+v", got)
		}
		rec := f.get(r.ID) // at once: what was reported must be shown
		if rec.State != Done || rec.Duration != 20*time.Millisecond || rec.Attempts != 1 || string(rec.AttemptList[0].Output) != "hi" {
			t.Errorf("handled, it is %+v", rec)
		}
		f.end()
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := begin(t, Config{Keep: time.Hour, KeepCount: 5}, Endpoint{})
		for range 20 {
			f.accept(Arrival{WebhookID: "w"})
		}
		time.Sleep(time.Minute)
		if counts, err := f.Counts(t.Context()); err != nil || counts["inbox"][Done] != 5 {
			t.Errorf("counts are %v, %v; want 5", counts, err)
		}
		time.Sleep(2 * time.Hour)
		if ds, _, err := f.List(t.Context(), Filter{}); err != nil || len(ds) != 0 {
			t.Errorf("after their time %d are left, %v", len(ds), err)
		}
		f.end()
	})
}

func TestAcceptErrors(t *testing.T) {
	f := open(t, t.TempDir(), Config{})
	if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox"}); err == nil || !strings.Contains(err.Error(), "not started") {
		t.Errorf("accepting before the start gives %v", err)
	}
	for _, es := range [][]Endpoint{{{}}, {{Name: "a"}, {Name: "a"}}} {
		if err := f.Start(es); err == nil {
			t.Errorf("starting with %v is possible", es)
		}
	}
	if err := f.Start([]Endpoint{{Name: "inbox"}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(nil); err == nil {
		t.Error("starting twice is possible")
	}
	if _, err := f.Accept(t.Context(), Arrival{Endpoint: "other"}); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("an endpoint that is not served gives %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Accept(ended, Arrival{Endpoint: "inbox"}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gives %v", err)
	}
	if _, _, err := f.List(t.Context(), Filter{Before: "x"}); err == nil {
		t.Error("any cursor will do")
	}
	if _, err := f.Get(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no id gives %v", err)
	}
	f.end()
	if _, err := f.Counts(t.Context()); err == nil {
		t.Error("a closed queue answers")
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing twice gives %v", err)
	}
}

func TestDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c%20#d", "e")
	f := open(t, dir, Config{})
	var locked *LockedError
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Errorf("a second process gets %v", err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "hubhook.db": 0o600, "hubhook.lock": 0o600} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v; want %v", name, fi.Mode(), err, want)
		}
	}
	f.close()
	if left, err := filepath.Glob(dir + "/*-wal"); err != nil || len(left) != 0 {
		t.Errorf("after the end there is %v, %v", left, err)
	}
	f = open(t, dir, Config{})
	f.close()

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a database, but long enough to look at: "+strings.Repeat("x", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	noDB := t.TempDir()
	if err := os.Rename(file, filepath.Join(noDB, "hubhook.db")); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	later := t.TempDir()
	f = open(t, later, Config{})
	run(t, f.Queue, "PRAGMA user_version = 99")
	f.close()
	for dir, want := range map[string][]string{
		noDB:                         {"hubhook.db", "not a database", "move it away"},
		inTheWay:                     {inTheWay, "a file is in the way"},
		filepath.Join(inTheWay, "x"): {inTheWay, "a file is in the way"},
		later:                        {"schema 99", "use that version"},
		"":                           {"no data directory"},
	} {
		_, err := Open(t.Context(), Config{Dir: dir})
		for _, part := range want {
			if err == nil || !strings.Contains(withHint(err), part) {
				t.Errorf("%q gives %v; want %q in it", dir, err, part)
			}
		}
	}
	if os.Getuid() != 0 {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Config{Dir: closed}); err == nil || !strings.Contains(withHint(err), "right to write") {
			t.Errorf("a directory that can't be written gives %v", err)
		}
	}
}

// withHint is what people see of an error.
func withHint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return err.Error() + "\n  hint: " + h.Hint()
	}
	return err.Error()
}
