package follow

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
)

// bucket makes a bucket with a file, and follows it.
func (w *world) bucket() *hubtest.Bucket {
	w.Helper()
	b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
	w.must(err)
	w.must(b.Upload(hubtest.File{Path: "old", Content: []byte("old")}))
	w.follow("bucket:me/b")
	w.run()
	w.pass(5 * time.Second)
	w.want()
	return b
}

func (w *world) upload(b *hubtest.Bucket, paths ...string) {
	w.Helper()
	w.pass(10 * time.Millisecond) // uploads within one millisecond could not be told apart
	var files []hubtest.File
	for _, path := range paths {
		files = append(files, hubtest.File{Path: path, Content: []byte(path + time.Now().String())})
	}
	w.must(b.Upload(files...))
	w.pass(10 * time.Millisecond)
}

const ofB = "repo.content/update me/b"

func TestBucket(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		b := w.bucket()
		w.upload(b, "a", "b/c")
		p := w.want(ofB + " a:add b/c:add")[0]
		if f := p.UpdatedFiles[0]; f.XetHash != b.Files()[0].XetHash || f.Size != b.Files()[0].Size || p.UpdatedFilesTruncated {
			t.Errorf("the file is %+v of %s", f, p.Raw())
		}
		w.upload(b, "a")
		w.must(b.Remove("old", "a"))
		w.pass(time.Second)
		w.want(ofB+" a:add", ofB+" old:delete a:delete")
		// Ends on purpose, lost connections and a restart bring nothing twice.
		b.Feed.Reconnect()
		w.pass(2 * time.Minute)
		b.Feed.Cut()
		w.upload(b, "d")
		w.pass(2 * time.Minute)
		w.want(ofB + " d:add")
		b.Feed.Silence()
		w.upload(b, "e")
		w.pass(5 * time.Minute)
		w.want(ofB + " e:add")
		w.restart()
		w.pass(2 * time.Minute)
		w.want()
		// What happens while nobody follows arrives once.
		w.end()
		w.upload(b, "f")
		w.must(b.Remove("d"))
		w.run()
		w.pass(2 * time.Minute)
		w.want(ofB+" f:add", ofB+" d:delete")
		if v := w.f.Followed()[0]; v.State != Following || v.Error != "" {
			t.Errorf("its state is %+v", v)
		}
	})
}

func TestBucketAfterAReset(t *testing.T) {
	inWorld(t, hubtest.Options{ReplayWindow: 15 * time.Minute}, func(w *world) {
		b := w.bucket()
		listings := func() int {
			n := w.hub.Requests.Count("GET", "/api/buckets/me/b/tree*")
			w.hub.Requests.Reset()
			return n
		}
		w.upload(b, "a")
		w.want(ofB + " a:add")
		w.pass(10 * time.Minute)
		w.end()
		w.pass(time.Hour)
		w.run()
		w.pass(5 * time.Minute)
		w.want() // nothing has changed, and the bucket says so
		if n := listings(); n != 0 {
			t.Errorf("the bucket was listed %d times although nothing had changed", n)
		}
		w.end()
		w.upload(b, "b")
		w.upload(b, "c")
		w.must(b.Remove("a"))
		w.pass(time.Hour)
		w.run()
		w.pass(5 * time.Minute)
		w.want(ofB + " b:add c:add cut") // a deletion can't be told
		if n := listings(); n != 1 {
			t.Errorf("the bucket was listed %d times", n)
		}
		w.upload(b, "d")
		w.want(ofB + " d:add")
		// A reset while it is followed, and nothing has changed.
		w.pass(10 * time.Minute)
		b.Feed.Reset()
		w.pass(5 * time.Minute)
		w.want()
		if n := listings(); n != 0 {
			t.Errorf("the bucket was listed %d times", n)
		}
		w.upload(b, "e")
		w.want(ofB + " e:add")
	})
}

func TestManyFilesAreCut(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		b := w.bucket()
		var paths []string
		for i := range maxFiles + 1 {
			paths = append(paths, fmt.Sprint("f", i))
		}
		w.upload(b, paths[:maxFiles]...)
		w.upload(b, paths...)
		all := w.events()
		if len(all) != 2 || len(all[0].UpdatedFiles) != maxFiles || all[0].UpdatedFilesTruncated || len(all[1].UpdatedFiles) != maxFiles || !all[1].UpdatedFilesTruncated {
			t.Fatalf("%d deliveries", len(all))
		}
	})
}

// The first look delivers nothing of what was there, whatever the feed tells of it.
func TestFirstLookAtABucket(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
		w.must(err)
		w.upload(b, "x")
		w.must(b.Remove("x"))
		w.upload(b, "y")
		w.must(b.Remove("y")) // the last change is at the instant that the feed begins with
		w.follow("bucket:me/b")
		w.run()
		w.pass(5 * time.Minute)
		w.want()
		w.upload(b, "z")
		w.want(ofB + " z:add")
	})
}

// Where the Hub refuses the cursor, the feed begins at the last upload, and tells once more what came from then on.
func TestBucketAfterARefusedCursor(t *testing.T) {
	inWorld(t, hubtest.Options{}, func(w *world) {
		b := w.bucket()
		w.upload(b, "a")
		w.must(b.Remove("old"))
		w.pass(time.Second)
		w.want(ofB+" a:add", ofB+" old:delete")
		w.end()
		for key, mark := range w.marks {
			var seen fed
			if json.Unmarshal(mark.Value, &seen) != nil || seen.Resume.Cursor == "" {
				continue
			}
			seen.Resume.Cursor = "none of this bucket"
			var err error
			mark.Value, err = json.Marshal(seen)
			w.must(err)
			w.marks[key] = mark
		}
		w.upload(b, "c")
		w.run()
		w.pass(2 * time.Minute)
		w.want(ofB + " c:add")
	})
}
