package keep

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hubhook/hubhook/hub"
)

func TestRecordFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := InDirectory(dir)
	if r, err := f.Load(); err != nil || len(r.Entries) != 0 {
		t.Fatalf("without a file: %v, %v", r, err)
	}
	want := Record{Version: recordVersion, Entries: []*Entry{{Hub: testHub, Endpoint: "train", ID: "1", URLs: []string{firstURL}, Secret: "generated", Enabled: true},
		{Hub: testHub, Endpoint: "b", ID: "2", Borrowed: &Original{ownURL, string(hub.Suspended)}}}}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, RecordFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v (%v)", info.Mode(), err)
	}
	if have, err := f.Load(); err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("have %+v (%v), want %+v", have, err, want)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("it leaves %v", entries)
	}
	for _, text := range []string{"", "generated", `{"version":2,"webhooks":[]}`, `{"version":1,"webhooks":[{}]}`, `{"version":1,"webhooks":[null]}`} {
		if err := os.WriteFile(filepath.Join(dir, RecordFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(); err == nil || strings.Contains(err.Error(), "generated") {
			t.Errorf("%q is read with the error %v", text, err)
		}
	}
	if err := InDirectory(filepath.Join(dir, "missing")).Save(want); err == nil {
		t.Error("it is stored in a directory that is not there")
	}
}

// A record that can't be read is left alone, and nothing is asked of the Hub.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.stored = []byte("{")
		r := begin(t, w.watching(), firstURL)
		r.stands(t, Failed)
		if calls := w.calls(); len(calls) != 0 {
			t.Errorf("it asks for %v", calls)
		}
		r.end()
		if string(w.stored) != "{" {
			t.Error("it is replaced")
		}
	})
}

func TestTheHubOfAnotherRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin(t, w.watching(), firstURL).stop()
		c := w.watching()
		c.Hub, c.Watch = "https://staging.example.com", nil
		begin(t, c, firstURL).end()
		if w.look()[0].State != hub.Enabled {
			t.Error("it is changed on a Hub that does not have it")
		}
		cleaned, err := Cleanup(t.Context(), c)
		if err != nil || len(cleaned) != 1 || cleaned[0].Err == nil {
			t.Fatalf("have %+v (%v)", cleaned, err)
		}
		has(t, fmt.Sprint(cleaned[0].Err), testHub)
	})
}
