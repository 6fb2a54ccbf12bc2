package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/store"
)

var writeFixture = flag.Bool("write-fixture", false, "write sqlite/testdata/schemaN.db of the schema's newest version, where it is missing")

// TestUpgrade opens a database of each version that the schema ever had, left behind by a process that died, and finds all
// that was in it. Beside schemaN.db stands schemaN.json, the records as that version of hubhook showed them.
func TestUpgrade(t *testing.T) {
	versions := newestSchema(t)
	newest := fixturePath(versions)
	if _, err := os.Stat(newest); err != nil {
		if !*writeFixture {
			t.Fatalf("there is no database of the schema's newest version: %v; make one with: go test ./internal/queue -run TestUpgrade -write-fixture", err)
		}
		synctest.Test(t, func(t *testing.T) { makeFixture(t, newest) })
	}
	fixtures, err := filepath.Glob("sqlite/testdata/schema*.db")
	if err != nil || len(fixtures) != versions {
		t.Fatalf("there are %d databases for %d versions of the schema: %v, %v", len(fixtures), versions, fixtures, err)
	}
	for version := 1; version <= versions; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { upgrade(t, fixturePath(version)) })
		})
	}
}

func fixturePath(version int) string { return fmt.Sprintf("sqlite/testdata/schema%d.db", version) }

// newestSchema is the version of the schema that a new database has.
func newestSchema(t *testing.T) int {
	f := open(t, t.TempDir(), Config{})
	defer f.close()
	return number(t, f.Queue, "PRAGMA user_version")
}

func recordsPath(fixture string) string { return strings.TrimSuffix(fixture, ".db") + ".json" }

func upgrade(t *testing.T, fixture string) {
	db, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(recordsPath(fixture))
	if err != nil {
		t.Fatal(err)
	}
	var before []Record
	if err := json.Unmarshal(text, &before); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hubhook.db"), db, 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir, Config{})
	unfinished := 0
	for _, want := range before {
		if want.State == Running { // when the process died
			want.State = Waiting
			last := &want.AttemptList[len(want.AttemptList)-1]
			last.Ended, last.Error = true, store.InterruptedText
		}
		if !want.State.Finished() {
			unfinished++
		}
		if diff := cmp.Diff(&want, f.get(want.ID)); diff != "" {
			t.Errorf("%s is not what it was (-before +now):\n%s", want.ID, diff)
		}
	}
	if ds, _, err := f.List(t.Context(), Filter{}); err != nil || len(ds) != len(before) {
		t.Errorf("%d deliveries are listed, %v; want %d", len(ds), err, len(before))
	}
	if _, n, err := f.Unfinished(t.Context(), 1); err != nil || n != unfinished {
		t.Errorf("%d are unfinished, %v; want %d", n, err, unfinished)
	}

	if marks, err := f.Marks(t.Context(), ""); err != nil || len(marks) > 0 && string(marks[0].Value) != "seen" {
		t.Errorf("the marks are %+v, %v", marks, err)
	}

	// What is left runs, in both endpoints, and the queue takes more.
	ok := func(context.Context, *Claim) Outcome { return Outcome{} }
	if err := f.Start([]Endpoint{{Name: "inbox", Handle: ok, Attempts: 3, DedupeWindow: time.Hour}, {Name: "other", Handle: ok}}); err != nil {
		t.Fatal(err)
	}
	last := before[len(before)-1]
	if r := f.accept(Arrival{WebhookID: "waits"}); !r.Duplicate {
		t.Error("the Webhook-Id of one that waits is not known")
	}
	if r := f.accept(Arrival{WebhookID: "new"}); r.ID <= last.ID {
		t.Errorf("%s was made after %s", r.ID, last.ID)
	}
	time.Sleep(2 * time.Hour)
	if n := unfinishedCount(t.Context(), f.Queue); n != 0 {
		t.Errorf("%d deliveries were not handled", n)
	}
	if got, want := countStored(t, f.Queue), recount(t, f.Queue); got != want {
		t.Errorf("the counts kept are %s, the rows say %s", got, want)
	}
	if err := integrity(t, f.Queue); err != nil {
		t.Error(err)
	}
	f.end()
}

// makeFixture writes a database with deliveries in every state to path, as a process leaves it that dies, and the records.
func makeFixture(t *testing.T, path string) {
	f := open(t, t.TempDir(), Config{Warn: func(error) {}})
	handle := func(ctx context.Context, c *Claim) Outcome {
		switch c.WebhookID {
		case "runs":
			<-ctx.Done()
		case "retries", "dies":
			return Outcome{Error: "no luck", Output: []byte("tried\n")}
		case "panics":
			return Outcome{Error: "panic: on purpose", Stack: "a stack"}
		case "skipped":
			return Outcome{Skip: "not for us"}
		}
		return Outcome{Result: []byte(`{"saw":"` + c.WebhookID + `"}`), Output: []byte("out\xff")}
	}
	err := f.Start([]Endpoint{
		{Name: "inbox", Handle: handle, Concurrency: 1, Attempts: 2, FirstWait: time.Hour, MaxWait: time.Hour},
		{Name: "dead", Handle: handle, Attempts: 1},
		{Name: "other", Handle: handle, Concurrency: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	send := func(a Arrival) *Receipt {
		a.Header = http.Header{"Webhook-Id": {a.WebhookID}, "X-Several": {"one", "two"}}
		a.Scope, a.Action, a.RepoType, a.RepoName = "repo.content", "update", "dataset", "me/data"
		if a.Body == nil {
			a.Body = []byte(`{"event": "` + a.WebhookID + `"}`)
		}
		r := f.accept(a)
		synctest.Wait()
		return r
	}
	send(Arrival{WebhookID: "done", Mark: &Mark{Key: "follow/a", Value: []byte("seen")}})
	send(Arrival{WebhookID: "large", Body: bytes.Repeat([]byte("a large body, "), 700)})
	send(Arrival{WebhookID: "binary", Body: []byte("\x00\x01\xfe\xff")})
	send(Arrival{WebhookID: "sample", Synthetic: true})
	send(Arrival{WebhookID: "unreadable", Dead: "no event", Stack: "a stack"})
	dead := send(Arrival{WebhookID: "dies", Endpoint: "dead"})
	send(Arrival{WebhookID: "panics", Endpoint: "dead"})
	send(Arrival{WebhookID: "dies", Endpoint: "dead", ReplayOf: dead.ID})
	send(Arrival{WebhookID: "skipped"})
	send(Arrival{WebhookID: "retries"})
	send(Arrival{WebhookID: "runs"})
	send(Arrival{WebhookID: "waits"})
	send(Arrival{WebhookID: "waits"})
	discarded := send(Arrival{WebhookID: "discarded"})
	if err := f.Discard(t.Context(), discarded.ID, "by hand"); err != nil {
		t.Fatal(err)
	}
	send(Arrival{WebhookID: "runs", Endpoint: "other"})
	send(Arrival{WebhookID: "waits", Endpoint: "other"})

	var records []*Record
	ds, _, err := f.List(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range ds {
		records = append(records, f.get(ds[len(ds)-1-i].ID))
	}
	text, err := json.MarshalIndent(records, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	run(t, f.Queue, "PRAGMA wal_checkpoint(TRUNCATE)")
	db, err := os.ReadFile(filepath.Join(f.dir, "hubhook.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{path: db, recordsPath(path): append(text, '\n')} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.close()
}
