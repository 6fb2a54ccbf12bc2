package queue

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/sqlite/salvage"
	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// wreck is a database to be damaged, and what is in it.
type wreck struct {
	db, wal  []byte
	records  map[string]*Record
	pages    map[string][]uint32 // of each delivery's record, content and attempts
	recordOf map[string]uint32   // the one with the record
	inLog    bool                // an older copy of a page may still have what was removed
	names    [2]uint32           // those with the names of the endpoints, in the table and in its index
	summary  uint32
	mark     uint32          // the one with the marks
	removed  map[string]bool // deliveries that retention had removed
}

// makeWreck stores n deliveries with bodies of up to size bytes, as a process leaves them that dies. With inLog, what came
// last is in the write-ahead log alone.
func makeWreck(t *testing.T, n, size int, inLog bool) *wreck {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	f := open(t, t.TempDir(), Config{Warn: func(error) {}, KeepCount: 1 << 30})
	stuck := make(chan struct{})
	handle := func(ctx context.Context, c *Claim) Outcome {
		switch c.Action {
		case "fail":
			return Outcome{Error: "no luck " + strings.Repeat("!", 50), Output: []byte(c.WebhookID), Final: c.Attempt > 1}
		case "stick":
			select {
			case <-stuck:
			case <-ctx.Done():
			}
		}
		return Outcome{Result: []byte(`{"id":"` + c.WebhookID + `"}`)}
	}
	if err := f.Start([]Endpoint{
		{Name: "inbox", Handle: handle, Attempts: 3, FirstWait: time.Hour, MaxWait: time.Hour, Concurrency: 2},
		{Name: "other", Handle: handle, Concurrency: 2},
	}); err != nil {
		t.Fatal(err)
	}
	w := &wreck{inLog: inLog, records: map[string]*Record{}, pages: map[string][]uint32{}, recordOf: map[string]uint32{}, removed: map[string]bool{}}
	accept := func(n, stuck int) {
		for i := range n {
			raw := make([]byte, 10+random.IntN(size)*3/4)
			for j := range raw {
				raw[j] = byte(random.Uint32())
			}
			body := base64.StdEncoding.AppendEncode(nil, raw)
			a := Arrival{
				Endpoint: []string{"inbox", "other"}[i%2], WebhookID: fmt.Sprintf("%x", random.Uint64()), Body: body,
				Header: http.Header{"X-Random": {fmt.Sprint(random.Uint64())}}, RepoName: fmt.Sprintf("me/data%d", i),
				Action: []string{"update", "update", "update", "fail", "update"}[i%5],
			}
			if i >= n-stuck {
				a.Action = "stick"
			}
			if r := f.accept(a); a.Action != "stick" {
				<-r.Done()
			}
		}
	}
	// Some come and go, so that there are free pages with old rows.
	accept(n/3, 0)
	for _, d := range listAll(t, f.Queue) {
		w.removed[d.ID] = true
		if err := f.Discard(t.Context(), d.ID, ""); err != nil && !errors.Is(err, ErrFinished) {
			t.Fatal(err)
		}
	}
	path := filepath.Join(f.dir, sqlite.DatabaseName)
	exclusive(f.Queue, func() {
		for more := true; more; {
			var err error
			if more, err = f.eng.Sweep(t.Context(), store.Retention{Before: time.Now().Add(time.Hour), Rows: 1000}); err != nil {
				t.Fatal(err)
			}
		}
	})
	for i := range 40 { // older versions stay in free cells and in the log
		mark := Mark{Key: "follow/a", Version: int64(i), Value: bytes.Repeat([]byte("seen "), 1+i%7)}
		if err := f.SetMark(t.Context(), mark); err != nil {
			t.Fatal(err)
		}
	}
	accept(n, 8)
	// Those that were stored as running and are not yet have to wait by then.
	storetest.Eventually(t, func() bool {
		counts, err := f.Counts(t.Context())
		return err == nil && counts["inbox"][Running] == 2 && counts["other"][Running] == 2
	})
	for _, d := range listAll(t, f.Queue) {
		w.records[d.ID] = f.get(d.ID)
	}
	exclusive(f.Queue, func() {
		if !inLog {
			run(t, f.Queue, "PRAGMA wal_checkpoint(TRUNCATE)")
		}
		var err error
		if w.db, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if w.wal, err = os.ReadFile(path + "-wal"); err != nil {
			t.Fatal(err)
		}
		w.locate(t, path)
	})
	close(stuck)
	f.close()
	return w
}

func listAll(t *testing.T, q *Queue) []Delivery {
	t.Helper()
	var all []Delivery
	for f := (Filter{Limit: 1000}); ; {
		ds, next, err := q.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ds...)
		if f.Before = next; next == "" {
			return all
		}
	}
}

// exclusive calls do while nothing is committed.
func exclusive(q *Queue, do func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.commits.awaitIdle()
	do()
}

// locate finds out which pages each delivery is on, the overflow pages by the bytes that are there.
func (w *wreck) locate(t *testing.T, path string) {
	p, err := salvage.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	overflow := map[string]uint32{} // by how its content begins
	add := func(key int64, n uint32) {
		id := store.FromKey(key).String()
		w.pages[id] = append(w.pages[id], n)
	}
	for n := uint32(3); n <= p.Count; n++ {
		if kind, _ := p.Kind(n); kind == salvage.FirstOverflowPage || kind == salvage.NextOverflowPage {
			overflow[string(p.Page(n)[4:20])] = n
		}
	}
	for n := uint32(1); n <= p.Count; n++ {
		if p.Liveness(n) != salvage.Live {
			continue
		}
		err := p.Rows(n, func(r salvage.Row) error {
			if _, ok := r.Values[0].(string); ok && r.Index && len(r.Values) == 2 {
				w.names[1] = n
			}
			switch tableOf(r) {
			case "mark":
				w.mark = n
			case "endpoint":
				w.names[0] = n
			case "summary":
				w.summary = n
			case "delivery":
				add(r.Key, n)
				w.recordOf[store.FromKey(r.Key).String()] = n
			case "attempt":
				add(r.Values[0].(int64), n)
			case "content":
				add(r.Key, n)
				for _, v := range r.Values {
					b, _ := v.([]byte)
					for i := 0; i+16 <= len(b); i++ {
						if at, ok := overflow[string(b[i:i+16])]; ok {
							add(r.Key, at)
							i += salvage.DefaultPageSize - 4 - 1 // to where the next one begins
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(p.BadPages) > 0 || w.names[0] == 0 || w.names[1] == 0 || w.summary == 0 || w.mark == 0 {
		t.Fatalf("pages of a sound database: %v bad, names %v, summary %d", slices.Collect(maps.Keys(p.BadPages)), w.names, w.summary)
	}
	for id, r := range w.records {
		if w.recordOf[id] == 0 || len(w.pages[id]) < 2 {
			t.Fatalf("%s (%s) was found on pages %v", id, r.State, w.pages[id])
		}
	}
}

// tableOf tells the rows of the tables apart, "" for entries of indexes and what is SQLite's own.
func tableOf(r salvage.Row) string {
	switch n := len(r.Values); {
	case r.Index && n == 8:
		return "attempt"
	case r.Index && n == 3 && r.Values[0] == "follow/a":
		return "mark"
	case r.Index:
		return ""
	case n == 24:
		return "delivery"
	case n == 4:
		return "content"
	case n == 2:
		switch r.Values[1].(type) {
		case string:
			return "endpoint"
		case []byte:
			return "summary"
		}
	}
	return ""
}

// write puts a copy into a new data directory.
func (w *wreck) write(t *testing.T, db, wal []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for end, b := range map[string][]byte{"": db, "-wal": wal} {
		if b == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "hubhook.db"+end), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// spoil overwrites a page, or a part of it.
func spoil(random *rand.Rand, page []byte) {
	if random.IntN(4) == 0 { // a sector of a disk
		at := random.IntN(8) * len(page) / 8
		page = page[at : at+len(page)/8]
	}
	if random.IntN(2) == 0 {
		clear(page)
		return
	}
	for i := range page {
		page[i] = byte(random.Uint32())
	}
}

// check opens what was recovered and compares it with what was there. damaged are the pages that were overwritten.
func (w *wreck) check(t *testing.T, dir string, r *Recovery, damaged map[uint32]bool) {
	t.Helper()
	f := open(t, dir, Config{})
	defer f.close()
	if err := integrity(t, f.Queue); err != nil {
		t.Error(err)
	}
	kept, err := f.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(kept, func(_ string, states map[State]int64) bool { return len(states) == 0 })
	if want := recount(t, f.Queue); fmt.Sprint(kept) != want {
		t.Errorf("the counts kept are %v, the rows say %s", kept, want)
	}
	if marks := marksOf(t, f.Queue); !damaged[w.mark] && (len(marks) != 1 || marks[0].Version != 40 || len(marks[0].Value) != 25) {
		t.Errorf("the marks are %+v", marks)
	}
	namesLost := damaged[w.names[0]] && damaged[w.names[1]]
	there := map[string]bool{}
	for _, d := range listAll(t, f.Queue) {
		there[d.ID] = true
		if w.records[d.ID] == nil && !(w.removed[d.ID] && (damaged[1] || w.inLog)) {
			t.Errorf("%s was never there, or was removed", d.ID)
		}
	}
	missing, whole := 0, 0
	for id, want := range w.records {
		hit := slices.ContainsFunc(w.pages[id], func(n uint32) bool { return damaged[n] })
		if !there[id] {
			if missing++; !damaged[w.recordOf[id]] {
				t.Errorf("%s is gone, and its record's page is sound", id)
			}
			continue
		}
		if slices.Contains(r.Died, id) {
			if got := f.get(id); got.State != Dead || got.Reason != sqlite.ContentLostReason {
				t.Errorf("unfinished and without content: %+v", got.Delivery)
			}
		}
		if hit {
			continue
		}
		whole++
		expected := *want
		if expected.State == Running {
			expected.State, expected.AttemptList = Waiting, slices.Clone(expected.AttemptList)
			last := &expected.AttemptList[len(expected.AttemptList)-1]
			last.Ended, last.Error = true, store.InterruptedText
		}
		got := f.get(id)
		if namesLost {
			expected.Endpoint = got.Endpoint
		}
		if !reflect.DeepEqual(&expected, got) { // much quicker than cmp.Diff
			t.Errorf("%s is not what it was (-before +now):\n%s", id, cmp.Diff(&expected, got))
		}
	}
	if !r.Sound && !damaged[w.summary] && !damaged[1] && r.Vanished != missing {
		t.Errorf("%d vanished by the report; %d are missing", r.Vanished, missing)
	}
	if r.Deliveries != len(there) {
		t.Errorf("%d deliveries by the report; there are %d", r.Deliveries, len(there))
	}
	t.Logf("%d pages overwritten, %d seen: of %d deliveries %d whole, %d without content, %d rebuilt, %d missing",
		len(damaged), r.BadPages, len(w.records), whole, len(r.LostContent), len(r.Rebuilt), missing)
}

func mustRecover(t *testing.T, dir string) *Recovery {
	t.Helper()
	r, err := Recover(t.Context(), RecoverConfig{Dir: dir})
	if err != nil {
		t.Fatal(withHint(err))
	}
	return r
}

// What is on pages that are sound survives, whatever others are overwritten with.
func TestRecoverOverwrittenPages(t *testing.T) {
	for _, size := range []struct{ n, body, seeds int }{{9, 100, 6}, {60, 5000, 5}, {200, 1000, 2}, {25, 60000, 3}} {
		for _, inLog := range []bool{false, true} {
			w := makeWreck(t, size.n, size.body, inLog)
			for seed := range uint64(size.seeds) {
				t.Run(fmt.Sprintf("%d of %d, log %v, seed %d", size.n, size.body, inLog, seed), func(t *testing.T) {
					t.Parallel()
					random := rand.New(rand.NewPCG(seed, 7))
					db, wal := bytes.Clone(w.db), bytes.Clone(w.wal)
					damaged := map[uint32]bool{}
					if inLog { // the newest pages are in the log; what it lacks of them is older
						for range 1 + random.IntN(4) {
							frames := (len(wal) - salvage.LogHeaderSize) / salvage.LogFrameSize
							frame := wal[salvage.LogHeaderSize+random.IntN(frames)*salvage.LogFrameSize:][:salvage.LogFrameSize]
							damaged[binary.BigEndian.Uint32(frame)] = true
							spoil(random, frame[salvage.FrameHeaderSize:])
						}
					} else {
						pages := len(db) / salvage.DefaultPageSize
						for range 1 + random.IntN(max(2, pages/10)) {
							n := random.IntN(pages)
							damaged[uint32(n+1)] = true
							spoil(random, db[n*salvage.DefaultPageSize:][:salvage.DefaultPageSize])
						}
					}
					dir := w.write(t, db, wal)
					r := mustRecover(t, dir)
					w.check(t, dir, r, damaged)
					if r.Sound {
						return
					}
					for end, want := range map[string][]byte{"": db, "-wal": wal} {
						if got, err := os.ReadFile(r.Kept + end); err != nil || !bytes.Equal(got, want) {
							t.Errorf("the damaged file%s is not kept as it was: %v", end, err)
						}
					}
					if again := mustRecover(t, dir); !again.Sound {
						t.Errorf("what was recovered is not sound: %+v", again)
					}
				})
			}
		}
	}
}

func TestRecoverPagesThatMatterMost(t *testing.T) {
	w := makeWreck(t, 60, 5000, false)
	for name, pages := range map[string][]uint32{
		"header and schema":         {1},
		"map of pages":              {2},
		"names":                     {w.names[0]},
		"names twice":               w.names[:],
		"summary":                   {w.summary},
		"all that is not a row":     {1, 2, w.names[0], w.summary},
		"index, summary and header": {w.names[1], w.summary, 1},
	} {
		for _, fill := range []string{"zeros", "garbage"} {
			t.Run(name+"/"+fill, func(t *testing.T) {
				db, damaged := bytes.Clone(w.db), map[uint32]bool{}
				random := rand.New(rand.NewPCG(1, 2))
				for _, n := range pages {
					damaged[n] = true
					page := db[(n-1)*salvage.DefaultPageSize:][:salvage.DefaultPageSize]
					clear(page)
					for i := range page {
						if fill == "garbage" {
							page[i] = byte(random.Uint32())
						}
					}
				}
				dir := w.write(t, db, nil)
				r := mustRecover(t, dir)
				if r.Sound {
					t.Fatal("it is said to be sound")
				}
				w.check(t, dir, r, damaged)
				if name == "names twice" && len(r.Renamed) != 2 {
					t.Errorf("renamed endpoints are %v; want both", r.Renamed)
				}
			})
		}
	}
}

func TestRecoverTruncated(t *testing.T) {
	w := makeWreck(t, 60, 5000, false)
	pages := len(w.db) / salvage.DefaultPageSize
	for _, left := range []int{pages - 1, pages / 2, 12} {
		damaged := map[uint32]bool{}
		for n := left; n <= pages; n++ { // the last one by half
			damaged[uint32(n)] = true
		}
		dir := w.write(t, w.db[:left*salvage.DefaultPageSize-100], nil)
		w.check(t, dir, mustRecover(t, dir), damaged)
	}
}

func TestRecoverNothing(t *testing.T) {
	zeros := make([]byte, 100<<10)
	for name, content := range map[string][]byte{
		"empty": {}, "zeros": zeros, "text": []byte(strings.Repeat("not a database. ", 1000)), "short": []byte("SQLite format 3\x00"),
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "hubhook.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Recover(t.Context(), RecoverConfig{Dir: dir})
		if err == nil || !strings.Contains(withHint(err), "nothing is left") || !strings.Contains(withHint(err), "move the file away") {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: the file is not what it was: %v", name, err)
		}
		if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
			t.Errorf("%s: %v are left", name, left)
		}
	}
	empty := t.TempDir()
	if _, err := Recover(t.Context(), RecoverConfig{Dir: empty}); err == nil || !strings.Contains(withHint(err), "--data DIR") {
		t.Errorf("without a database: %v", err)
	}
	if left, _ := os.ReadDir(empty); len(left) > 0 {
		t.Errorf("a look into a directory left %v", left)
	}
	f := begin(t, Config{}, Endpoint{})
	var locked *LockedError
	if _, err := Recover(t.Context(), RecoverConfig{Dir: f.dir}); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("while a queue is open: %v", err)
	}
	f.end()
}

// A sound database is left alone, after an orderly end and with a log beside it.
func TestRecoverSound(t *testing.T) {
	w := makeWreck(t, 30, 3000, true)
	for _, inLog := range []bool{true, false} {
		dir := w.write(t, w.db, w.wal)
		if !inLog {
			open(t, dir, Config{}).close()
		}
		before := files(t, dir)
		r := mustRecover(t, dir)
		if !r.Sound || r.Deliveries != len(w.records) || r.Unfinished == 0 || r.Kept != "" {
			t.Errorf("a sound database: %+v", r)
		}
		after := files(t, dir)
		delete(after, "hubhook.lock")
		delete(before, "hubhook.lock")
		if !reflect.DeepEqual(before, after) {
			t.Errorf("files have changed: there were %v, now %v", slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
		}
		w.check(t, dir, r, nil)
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// However far a recovery came, the next one, or the next start, ends it, and the log never meets the new database.
func TestRecoverIsEndedByTheNext(t *testing.T) {
	w := makeWreck(t, 30, 3000, true)
	wal := bytes.Clone(w.wal)
	clear(wal[salvage.LogHeaderSize+2*salvage.LogFrameSize:][:salvage.LogFrameSize])
	damaged := map[uint32]bool{binary.BigEndian.Uint32(w.wal[salvage.LogHeaderSize+2*salvage.LogFrameSize:]): true}
	for steps := range 5 {
		for _, byOpen := range []bool{false, true} {
			dir := w.write(t, w.db, wal)
			path := filepath.Join(dir, "hubhook.db")
			// The same steps as those of finishRecovery, by hand.
			done := mustRecover(t, dir)
			stamp := strings.TrimPrefix(done.Kept, path+sqlite.DamagedSuffix)
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.Rename(path, path+sqlite.RecoveredSuffix+stamp))
			if steps < 3 {
				must(os.Rename(done.Kept, path))
			}
			if steps < 2 {
				must(os.Rename(done.Kept+"-wal", path+"-wal"))
			}
			if steps == 0 { // killed before: what was being written is no database yet
				must(os.Rename(path+sqlite.RecoveredSuffix+stamp, path+sqlite.RecoveringSuffix))
				must(os.Truncate(path+sqlite.RecoveringSuffix, 5000))
			}
			var r *Recovery
			if byOpen && steps > 0 {
				open(t, dir, Config{}).close()
				r = done
			} else if r = mustRecover(t, dir); steps > 0 && !r.Sound {
				t.Errorf("after %d steps: %+v", steps, r)
			} else if steps > 0 {
				r = done
			}
			w.check(t, dir, r, damaged)
			if kept, err := os.ReadFile(r.Kept + "-wal"); err != nil || !bytes.Equal(kept, wal) {
				t.Errorf("after %d steps the damaged log is not kept: %v", steps, err)
			}
		}
	}
}

func TestRecoverStops(t *testing.T) {
	w := makeWreck(t, 60, 5000, false)
	clear(w.db[:salvage.DefaultPageSize])
	dir := w.write(t, w.db, nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Recover(ctx, RecoverConfig{Dir: dir, Progress: func(int, int) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "hubhook.db")); err != nil || !bytes.Equal(got, w.db) {
		t.Errorf("the damaged file is not in its place: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+sqlite.RecoveringSuffix+"*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}
