package store

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

func FuzzHeader(f *testing.F) {
	for _, h := range []http.Header{{}, {"A": {"1", "2"}, "B": {""}}, {"": {"\xff\x00"}}} {
		f.Add(PackHeader(h))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := UnpackHeader(b)
		if err != nil {
			return
		}
		again, err := UnpackHeader(PackHeader(h))
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Errorf("%q comes back as %q, %v", h, again, err)
		}
	})
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(nil), byte(plainBody))
	f.Add(bytes.Repeat([]byte("0123456789"), compressFrom), byte(zstdBody))
	f.Fuzz(func(t *testing.T, b []byte, encoding byte) {
		packed, how := PackBody(b)
		if back, err := UnpackBody(packed, how); err != nil || !bytes.Equal(b, back) {
			t.Errorf("%d bytes come back as %d, %v", len(b), len(back), err)
		}
		// What is damaged on disk is an error, never a crash.
		if back, err := UnpackBody(b, int64(encoding)); err == nil && encoding > zstdBody {
			t.Errorf("an unknown encoding gives %d bytes", len(back))
		}
	})
}

func TestIDsOnlyGrow(t *testing.T) {
	var s IDSource
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	last, seen := "", map[string]bool{}
	for i := range 100_000 {
		if i == 50_000 {
			now = now.Add(-time.Hour) // the clock is set back
		}
		id := s.Next(now)
		text := id.String()
		if text <= last || seen[text[13:]] {
			t.Fatalf("%s comes after %s", text, last)
		}
		if back, ok := ParseID(text); !ok || back != id || FromKey(Key(id)) != id {
			t.Fatalf("%s is not read back", text)
		}
		last, seen[text[13:]] = text, true
	}
	if ms := s.Next(now.Add(2 * time.Hour)).Time(); ms != uint64(now.Add(2*time.Hour).UnixMilli()) {
		t.Errorf("an id's time is %d", ms)
	}
	for _, no := range []string{"", "x", last[:25], last + "0"} {
		if _, ok := ParseID(no); ok {
			t.Errorf("%q is taken for an id", no)
		}
	}
	if id, ok := ParseID("01ARZ3NDEKTSV4RRFFQ69G5FAV"); !ok || HasKey(id) {
		t.Errorf("an id of another source is read as %v, %v", id, ok)
	}
}

func TestIDsOfSeveralProcesses(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one, other := IDSource{Random: ulid.Monotonic(rand.Reader, 0)}, IDSource{Random: ulid.Monotonic(rand.Reader, 0)}
	seen := map[ulid.ULID]bool{}
	for _, s := range []*IDSource{&one, &other} {
		var last ulid.ULID
		for i := range 10_000 {
			if i == 5_000 {
				now = now.Add(-time.Hour) // the clock is set back
			}
			id := s.Next(now)
			if id.Compare(last) <= 0 || seen[id] {
				t.Fatalf("%s comes after %s", id, last)
			}
			last, seen[id] = id, true
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"aé", 2, "a"}, {"\xbf\xbf\xbf", 2, ""}} {
		if got := Cut(c.s, c.n); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.s, c.n, got, c.want)
		}
	}
}
