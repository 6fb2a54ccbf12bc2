package salvage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Garbage in a page must not make the reader read beyond the page.
func FuzzPages(f *testing.F) {
	db, err := os.ReadFile("../testdata/schema1.db")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(db[:8*DefaultPageSize], []byte{})
	f.Add(db[2*DefaultPageSize:12<<10], bytes.Repeat([]byte{1}, LogFrameSize+LogHeaderSize))
	f.Fuzz(func(t *testing.T, db, wal []byte) {
		path := filepath.Join(t.TempDir(), "hubhook.db")
		if err := errors.Join(os.WriteFile(path, db, 0o600), os.WriteFile(path+"-wal", wal, 0o600)); err != nil {
			t.Fatal(err)
		}
		p, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for n := uint32(1); n <= min(p.Count, 100); n++ {
			p.Liveness(n)
			if err := p.Rows(n, func(Row) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}
