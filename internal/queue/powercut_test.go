package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// disk is a layer under SQLite that knows what would be left after a power cut: what was synced, and of what was written
// since, any part. Everything reaches the real files as well.
type disk struct {
	name string

	mu       sync.Mutex
	files    map[string]*diskFile
	open     map[uintptr]*openFile // by sqlite3_file
	failSync bool
	full     bool
	syncs    int

	original uintptr // the system's sqlite3_vfs
	keep     []any   // what SQLite points to
}

type diskFile struct {
	synced []byte
	since  []func([]byte) []byte // what was done to it since
}

type openFile struct {
	file    *diskFile
	methods *sqlite3.Tsqlite3_io_methods
}

var diskCount atomic.Int64

func newDisk(t *testing.T) *disk {
	tls := libc.NewTLS()
	d := &disk{
		name: fmt.Sprintf("powercut%d", diskCount.Add(1)), files: map[string]*diskFile{}, open: map[uintptr]*openFile{},
		original: sqlite3.Xsqlite3_vfs_find(tls, 0),
	}
	t.Cleanup(func() {
		tls.Close()
		runtime.KeepAlive(d) // what SQLite points to, the garbage collector doesn't see
	})
	vfs := at[sqlite3.Tsqlite3_vfs](libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{}))))
	*vfs = *at[sqlite3.Tsqlite3_vfs](d.original)
	name, err := libc.CString(d.name)
	if err != nil {
		t.Fatal(err)
	}
	vfs.FpNext, vfs.FzName = 0, name
	vfs.FxOpen = pointerTo(d, d.xOpen)
	vfs.FxDelete = pointerTo(d, d.xDelete)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(vfs)), 0); rc != sqlite3.SQLITE_OK {
		t.Fatalf("register the layer: %d", rc)
	}
	return d
}

// at returns what SQLite keeps at p.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// pointerTo makes a C function pointer of f, as SQLite's Go code takes it.
func pointerTo(d *disk, f any) uintptr {
	d.keep = append(d.keep, f)
	return (*[2]uintptr)(unsafe.Pointer(&f))[1]
}

// call makes a Go function of a C function pointer.
func call[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{p})) }

func (d *disk) xOpen(tls *libc.TLS, _, path, file uintptr, flags int32, out uintptr) int32 {
	rc := call[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](at[sqlite3.Tsqlite3_vfs](d.original).FxOpen)(
		tls, d.original, path, file, flags, out)
	if rc != sqlite3.SQLITE_OK || path == 0 {
		return rc
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := libc.GoString(path)
	f := d.files[name]
	if f == nil {
		f = &diskFile{}
		d.files[name] = f
	}
	original := at[sqlite3.Tsqlite3_io_methods](*at[uintptr](file))
	methods := at[sqlite3.Tsqlite3_io_methods](libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(*original))))
	*methods = *original
	methods.FxWrite = pointerTo(d, d.xWrite)
	methods.FxTruncate = pointerTo(d, d.xTruncate)
	methods.FxSync = pointerTo(d, d.xSync)
	d.open[file] = &openFile{file: f, methods: original}
	*at[uintptr](file) = uintptr(unsafe.Pointer(methods))
	return rc
}

func (d *disk) xDelete(tls *libc.TLS, _, path uintptr, syncDir int32) int32 {
	d.mu.Lock()
	delete(d.files, libc.GoString(path))
	d.mu.Unlock()
	return call[func(*libc.TLS, uintptr, uintptr, int32) int32](at[sqlite3.Tsqlite3_vfs](d.original).FxDelete)(
		tls, d.original, path, syncDir)
}

func (d *disk) of(file uintptr) *openFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[file]
}

func (d *disk) xWrite(tls *libc.TLS, file, buf uintptr, n int32, offset int64) int32 {
	f := d.of(file)
	data := make([]byte, n)
	copy(data, unsafe.Slice(at[byte](buf), n))
	d.mu.Lock()
	if d.full {
		d.mu.Unlock()
		return sqlite3.SQLITE_FULL
	}
	f.file.since = append(f.file.since, func(b []byte) []byte {
		if end := int(offset) + len(data); end > len(b) {
			b = append(b, make([]byte, end-len(b))...)
		}
		copy(b[offset:], data)
		return b
	})
	d.mu.Unlock()
	return call[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](f.methods.FxWrite)(tls, file, buf, n, offset)
}

func (d *disk) xTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f := d.of(file)
	d.mu.Lock()
	f.file.since = append(f.file.since, func(b []byte) []byte { return b[:min(int(size), len(b))] })
	d.mu.Unlock()
	return call[func(*libc.TLS, uintptr, int64) int32](f.methods.FxTruncate)(tls, file, size)
}

func (d *disk) xSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := d.of(file)
	d.mu.Lock()
	if d.failSync {
		d.mu.Unlock()
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	d.syncs++
	for _, change := range f.file.since {
		f.file.synced = change(f.file.synced)
	}
	f.file.since = nil
	d.mu.Unlock()
	return call[func(*libc.TLS, uintptr, int32) int32](f.methods.FxSync)(tls, file, flags)
}

// openOn opens a queue whose database is on the layer, or on the system's disk where that is nil.
func openOn(t *testing.T, d *disk, dir string, cfg sqlite.Config) *Queue {
	t.Helper()
	if d != nil {
		cfg.VFS = d.name
	}
	eng, err := sqlite.Open(t.Context(), filepath.Join(dir, sqlite.DatabaseName), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return newQueue(Config{Dir: dir, Warn: cfg.Warn}.withDefaults(), eng, nil)
}

// cut writes what a power cut at this moment would leave into a new directory.
func (d *disk) cut(t *testing.T, keeps func() bool) string {
	dir := t.TempDir()
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.files {
		left := append([]byte(nil), f.synced...)
		for _, change := range f.since {
			if keeps() {
				left = change(left)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), left, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lostByPowerCuts stores deliveries under load, with a sync of the given strength, cuts the power again and again, and
// returns how many deliveries that Accept had acknowledged were gone.
func lostByPowerCuts(t *testing.T, synchronous string) (acknowledged, lost int) {
	d := newDisk(t)
	dir := t.TempDir()
	q := openOn(t, d, dir, sqlite.Config{Synchronous: synchronous, LogBytes: 256 << 10, Warn: func(err error) { t.Error(err) }})
	ok := func(context.Context, *Claim) Outcome { return Outcome{} }
	if err := q.Start([]Endpoint{{Name: "inbox", Handle: ok, Concurrency: 2}}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var acked []string
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 6 {
		var clients sync.WaitGroup
		for client := range 4 {
			clients.Go(func() {
				for i := range 30 {
					r, err := q.Accept(t.Context(), Arrival{
						Endpoint: "inbox", WebhookID: fmt.Sprint(n, client, i), Header: http.Header{"X": {"y"}}, Body: make([]byte, 700),
					})
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
		storetest.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) >= 120*n+60 })
		mu.Lock()
		before := append([]string(nil), acked...) // what was acknowledged before the cut must be there after it
		mu.Unlock()
		after := d.cut(t, func() bool { return n%2 == 0 && random.IntN(2) == 0 })
		clients.Wait()
		lost += missing(t, after, before)
		acknowledged += len(before)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	return acknowledged, lost
}

// missing opens what a power cut left and returns how many of the deliveries are not in it, whole.
func missing(t *testing.T, dir string, ids []string) int {
	q, err := Open(t.Context(), Config{Dir: dir, Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Errorf("open what the power cut left: %v", err)
		return len(ids)
	}
	defer q.Close()
	if err := integrity(t, q); err != nil {
		t.Error(err)
	}
	there := map[string]bool{}
	for f := (Filter{Limit: 1000}); ; {
		ds, next, err := q.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			there[d.ID] = true
		}
		if f.Before = next; next == "" {
			break
		}
	}
	lost := 0
	for i, id := range ids {
		if !there[id] {
			lost++
		} else if i >= len(ids)-20 { // what came last is what a missing sync loses
			if r, err := q.Get(t.Context(), id); err != nil || len(r.Body) != 700 || r.Header.Get("X") != "y" {
				t.Errorf("%s is there in part only: %+v, %v", id, r, err)
			}
		}
	}
	return lost
}

func TestAcknowledgedDeliveriesSurviveAPowerCut(t *testing.T) {
	if acknowledged, lost := lostByPowerCuts(t, "FULL"); lost > 0 {
		t.Errorf("%d of %d deliveries that were acknowledged before a power cut were gone after it", lost, acknowledged)
	}
	// The layer must be able to show a loss: without the sync there is one.
	if acknowledged, lost := lostByPowerCuts(t, "NORMAL"); lost == 0 {
		t.Errorf("none of %d deliveries was lost with synchronous=NORMAL, so this test proves nothing", acknowledged)
	}
}

func TestFailedSyncIsNoSuccess(t *testing.T) {
	d := newDisk(t)
	dir := t.TempDir()
	warned := make(chan error, 100)
	q := openOn(t, d, dir, sqlite.Config{Warn: func(err error) { warned <- err }})
	if err := q.Start([]Endpoint{{Name: "inbox"}}); err != nil {
		t.Fatal(err)
	}
	accept := func(webhookID string) (*Receipt, error) {
		return q.Accept(t.Context(), Arrival{Endpoint: "inbox", WebhookID: webhookID})
	}
	before, err := accept("1")
	if err != nil {
		t.Fatal(err)
	}
	setFail := func(fail bool) { d.mu.Lock(); d.failSync = fail; d.mu.Unlock() }
	setFail(true)
	if _, err := accept("2"); err == nil {
		t.Error("a delivery was acknowledged although its sync failed")
	}
	setFail(false)
	again, err := accept("2")
	if err != nil {
		t.Fatalf("nothing is accepted after a failed sync: %v", err)
	}
	if again.Duplicate {
		t.Error("the refused delivery makes the next one a duplicate")
	}
	ds, _, err := q.List(t.Context(), Filter{})
	if err != nil || len(ds) != 2 || ds[0].ID != again.ID || ds[1].ID != before.ID {
		t.Errorf("after a failed sync the list is %v, %v; want %s and %s", ds, err, again.ID, before.ID)
	}
	counts, err := q.Counts(t.Context())
	if err != nil || counts["inbox"][Done] != 2 {
		t.Errorf("counts are %v, %v; want 2 done", counts, err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if len(warned) == 0 {
		t.Error("no one was told that storing failed")
	}
}
