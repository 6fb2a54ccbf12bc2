package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/sqlite/salvage"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// A backup under load has all that was answered before it began, is a database of its own, and stops nothing.
func TestBackupUnderLoad(t *testing.T) {
	f := begin(t, Config{}, Endpoint{Handle: func(context.Context, *Claim) Outcome { return Outcome{} }})
	var mu sync.Mutex
	var acked []string
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				body := bytes.Repeat([]byte{byte(client), byte(i)}, 1000)
				r, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox", Body: body, WebhookID: fmt.Sprint(client, ".", i)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked = append(acked, r.ID)
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	storetest.Eventually(t, func() bool { return count() > 200 })
	mu.Lock()
	before := slices.Clone(acked)
	mu.Unlock()
	dir := t.TempDir()
	report, err := Backup(t.Context(), BackupConfig{Dir: f.dir, File: filepath.Join(dir, "hubhook.db")})
	if err != nil {
		t.Fatal(withHint(err))
	}
	after := count()
	storetest.Eventually(t, func() bool { return count() > after+100 }) // it goes on
	close(stop)
	clients.Wait()
	f.end()

	info, err := os.Stat(filepath.Join(dir, "hubhook.db"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != report.Bytes {
		t.Errorf("the backup is %v, %v; the report %+v", info, err, report)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the backup there is %v, %v", entries, err)
	}
	restored := open(t, dir, Config{})
	defer restored.close()
	if err := integrity(t, restored.Queue); err != nil {
		t.Error(err)
	}
	for _, id := range before {
		if r := restored.get(id); len(r.Body) != 2000 {
			t.Errorf("%s has a body of %d bytes", id, len(r.Body))
		}
	}
	if all := listAll(t, restored.Queue); len(all) != report.Deliveries {
		t.Errorf("the report says %d deliveries; there are %d", report.Deliveries, len(all))
	}
	if got, want := countStored(t, restored.Queue), recount(t, restored.Queue); got != want {
		t.Errorf("the counts kept are %s, the rows say %s", got, want)
	}
}

func TestBackupFails(t *testing.T) {
	w := makeWreck(t, 60, 5000, false)
	spoiled := bytes.Clone(w.db)
	clear(spoiled[len(spoiled)/2:])
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		dir  string
		want string
	}{
		"interrupted": {ended, w.write(t, w.db, nil), "context canceled"},
		"damaged":     {t.Context(), w.write(t, spoiled, nil), "hubhook deliveries recover"},
		"no database": {t.Context(), t.TempDir(), "there is no hubhook.db"},
	} {
		to := t.TempDir()
		_, err := Backup(test.ctx, BackupConfig{Dir: test.dir, File: filepath.Join(to, "backup.db")})
		if err == nil || !strings.Contains(withHint(err), test.want) {
			t.Errorf("%s: %v; want %s", name, err, test.want)
		}
		if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
			t.Errorf("%s: %v are left, %v", name, left, err)
		}
	}
}

// Damage that is met while the queue is in use ends acceptance, and says how to go on; what was stored is saved that way.
func TestDamageAtRunTime(t *testing.T) {
	var mu sync.Mutex
	var warnings []error
	warn := func(err error) { mu.Lock(); defer mu.Unlock(); warnings = append(warnings, err) }
	f := begin(t, Config{Warn: warn}, Endpoint{Handle: func(context.Context, *Claim) Outcome { return Outcome{} }})
	var ids []string
	for i := range 300 {
		ids = append(ids, f.accept(Arrival{WebhookID: fmt.Sprint(i), Body: bytes.Repeat([]byte{byte(i), 1}, 500)}).ID)
	}
	path := filepath.Join(f.dir, sqlite.DatabaseName)
	exclusive(f.Queue, func() {
		// The newest pages, which the next delivery is written to, are overwritten under SQLite.
		run(t, f.Queue, "PRAGMA wal_checkpoint(TRUNCATE)")
		pages, err := salvage.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer pages.Close()
		db, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for n := uint32(3); n <= pages.Count; n++ {
			if kind, _ := pages.Kind(n); kind == salvage.RootPage {
				if _, err := db.WriteAt(bytes.Repeat([]byte{0xee}, salvage.DefaultPageSize), int64(n-1)*salvage.DefaultPageSize); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Another connection's commit makes the queue's forget the pages that it knows.
		run(t, f.Queue, fmt.Sprintf("PRAGMA user_version = %d", number(t, f.Queue, "PRAGMA user_version")))
	})
	var damaged *sqlite.DamagedError
	_, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox", Body: []byte("{}")})
	if !errors.As(err, &damaged) || !strings.Contains(withHint(err), "hubhook deliveries recover") {
		t.Fatalf("accepting with a damaged file gives %v", err)
	}
	if _, err := f.Accept(t.Context(), Arrival{Endpoint: "inbox", Body: []byte("{}")}); !errors.As(err, &damaged) {
		t.Errorf("afterwards accepting gives %v", err)
	}
	mu.Lock()
	if len(warnings) == 0 || !strings.Contains(withHint(warnings[0]), "hubhook deliveries recover") {
		t.Errorf("warnings are %v; want the damage with what to do", warnings)
	}
	mu.Unlock()
	if err := f.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	r := mustRecover(t, f.dir)
	if r.Sound || r.Deliveries != len(ids) {
		t.Errorf("recovered: %+v; want %d deliveries", r, len(ids))
	}
}

// A page that no commit needs is damaged, and a list meets it first.
func TestDamageThatAReaderMeets(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Config{})
	if err := f.Start([]Endpoint{{Name: "nobody"}}); err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		f.accept(Arrival{Endpoint: "nobody", RepoName: fmt.Sprintf("me/data-%03d", i), Body: []byte("{}")})
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, sqlite.DatabaseName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("me/data-200")) / salvage.DefaultPageSize * salvage.DefaultPageSize
	if at <= 0 {
		t.Fatal("the page with the delivery is not found")
	}
	if err := os.WriteFile(path, slices.Replace(data, at, at+salvage.DefaultPageSize, bytes.Repeat([]byte{0xee}, salvage.DefaultPageSize)...), 0o600); err != nil {
		t.Fatal(err)
	}
	warned := make(chan error, 8)
	f = open(t, dir, Config{Warn: func(err error) { warned <- err }})
	if err := f.Start([]Endpoint{{Name: "nobody"}}); err != nil {
		t.Fatal(err)
	}
	f.accept(Arrival{Endpoint: "nobody", Body: []byte("{}")})
	var damaged *sqlite.DamagedError
	if _, _, err := f.List(t.Context(), Filter{Limit: 1000}); !errors.As(err, &damaged) {
		t.Fatalf("listing gives %v; want the damage", err)
	}
	if got := <-warned; !errors.As(got, &damaged) || !strings.Contains(withHint(got), "hubhook deliveries recover") {
		t.Errorf("the warning is %v; want the damage with what to do", got)
	}
	if _, err := f.Accept(t.Context(), Arrival{Endpoint: "nobody", Body: []byte("{}")}); !errors.As(err, &damaged) {
		t.Errorf("then accepting gives %v; want that it is refused", err)
	}
	if err := f.Close(); err != nil && !errors.As(err, &damaged) {
		t.Errorf("close: %v", err)
	}
}
