package follow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// model follows the deliveries: what was at first, and after each of them.
type model struct {
	refs  map[string]map[string]string // of repos, by name
	files map[string]string            // hashes of the bucket's files
	ids   map[string]bool
}

func (m *model) take(t *testing.T, d Delivery) {
	t.Helper()
	p, err := payload.Parse(d.Body)
	if err != nil {
		t.Fatal(err)
	}
	if m.ids[d.WebhookID] {
		t.Errorf("the Webhook-Id %s comes twice", d.WebhookID)
	}
	m.ids[d.WebhookID] = true
	name := p.Repo.Name
	switch {
	case p.Event.Is(payload.ScopeRepoContent, payload.Update) && p.Repo.Type == payload.Bucket:
		for _, f := range p.UpdatedFiles {
			was, there := m.files[f.Path]
			switch {
			case f.Action == payload.FileDelete && !there:
				t.Errorf("%s is deleted and was not there", f.Path)
			case f.Action == payload.FileDelete:
				delete(m.files, f.Path)
			case was == f.XetHash: // each upload has content of its own
				t.Errorf("the upload of %s comes twice", f.Path)
			default:
				m.files[f.Path] = f.XetHash
			}
		}
	case p.Event.Is(payload.ScopeRepoContent, payload.Update):
		for _, ref := range p.UpdatedRefs {
			if was := m.refs[name][ref.Ref]; was != ref.OldSHA.Hex {
				t.Errorf("%s %s: from %q, and it was at %q", name, ref.Ref, ref.OldSHA.Hex, was)
			}
			m.refs[name][ref.Ref] = ref.NewSHA.Hex
			if ref.Deleted() {
				delete(m.refs[name], ref.Ref)
			}
		}
	}
}

// A thousand changes, while the process dies before and after whatever it stores, answers of the store are lost, another process takes over,
// and the Hub has outages: nothing is missed, and nothing comes twice.
func TestNothingIsMissedAndNothingComesTwice(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, hubtest.Options{ReplayWindow: 15 * time.Minute}, func(w *world) { surviveAll(w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func surviveAll(w *world, random *rand.Rand) {
	m := &model{refs: map[string]map[string]string{}, files: map[string]string{}, ids: map[string]bool{}}
	var repos []*hubtest.Repo
	for i := range 4 {
		r := w.repo([]payload.RepoType{payload.Model, payload.Dataset, payload.Space}[i%3], fmt.Sprintf("me/r%d", i))
		repos = append(repos, r)
		w.follow(fmt.Sprintf("%s:%s", r.Type(), r.Name()))
		m.refs[r.Name()] = refsOf(r)
	}
	b, err := w.hub.CreateBucket("me/b", hubtest.RepoOptions{})
	w.must(err)
	w.follow("bucket:me/b")
	w.run()
	w.pass(10 * time.Second)
	fates, fateful := 0, rand.New(rand.NewPCG(random.Uint64(), 2)) // called with the world locked
	w.at = func(int) fate {
		if what := fate(fateful.IntN(30)); what > fine && what <= takenBefore {
			fates++
			return what
		}
		return fine
	}
	uploads, deaths, outages := 0, 0, 0
	var outage time.Time // until then
	for n := range 1000 {
		w.pass(time.Duration(1+random.IntN(5000)) * time.Millisecond)
		r := repos[random.IntN(len(repos))]
		name := fmt.Sprintf("x%d", random.IntN(4))
		_, branch := refsOf(r)["refs/heads/"+name]
		_, tag := refsOf(r)["refs/tags/"+name]
		switch k := random.IntN(10); {
		case k < 3:
			w.push(r, "")
		case k < 4:
			w.push(r, "refs/convert/parquet")
		case k < 5 && branch:
			w.must(r.DeleteBranch(name))
		case k < 5:
			w.must(r.CreateBranch(name, ""))
		case k < 6 && tag:
			w.must(r.DeleteTag(name))
		case k < 6:
			w.must(r.CreateTag(name, ""))
		case k < 8 && len(b.Files()) > 0 && random.IntN(3) == 0:
			files := b.Files()
			w.must(b.Remove(files[random.IntN(len(files))].Path))
		default:
			w.must(b.Upload(hubtest.File{Path: name, Content: fmt.Append(nil, n)}))
			uploads++
		}
		if time.Now().After(outage) {
			w.hub.Faults.Clear()
		}
		w.mu.Lock()
		died := w.f.c.Store.(*memory).dead
		w.mu.Unlock()
		switch k := random.IntN(60); {
		case died:
			w.pass(time.Duration(random.IntN(20)) * time.Second)
			w.restart()
			deaths++
		case k == 0:
			w.restart()
			deaths++
		case k == 1:
			faults := []hubtest.Fault{{Answer: hubtest.Status(500)}, {Answer: hubtest.Cut}, {Answer: hubtest.HTML(200)}, {Answer: hubtest.Status(503)}}
			f := faults[random.IntN(len(faults))]
			outage = time.Now().Add(time.Duration(random.IntN(120)) * time.Second)
			w.hub.Faults.Inject(f)
			outages++
		case k == 2:
			b.Feed.Cut()
		case k == 3:
			b.Feed.Reconnect()
		}
	}
	w.mu.Lock()
	w.at = nil
	w.mu.Unlock()
	w.hub.Faults.Clear()
	w.restart()
	w.pass(time.Hour)
	for _, d := range w.delivered {
		m.take(w.T, d)
	}
	for _, r := range repos {
		if got, want := m.refs[r.Name()], refsOf(r); !maps.Equal(got, want) {
			w.Errorf("%s has the refs %v by its deliveries; it has %v", r.Name(), got, want)
		}
	}
	files := map[string]string{}
	for _, f := range b.Files() {
		files[f.Path] = f.XetHash
	}
	if !maps.Equal(m.files, files) {
		w.Errorf("the bucket has %v by its deliveries; it has %v", m.files, files)
	}
	if deaths < 10 || fates < 20 || outages < 5 {
		w.Errorf("only %d deaths, %d strokes of fate and %d outages", deaths, fates, outages)
	}
	told := 0
	for _, d := range w.delivered {
		p, _ := payload.Parse(d.Body)
		told += len(slices.DeleteFunc(p.UpdatedFiles, func(f payload.File) bool { return f.Action == payload.FileDelete }))
	}
	if told != uploads {
		w.Errorf("%d uploads were delivered of %d", told, uploads)
	}
	w.Logf("%d deliveries, %d deaths, %d strokes of fate, %d outages, %d requests", len(w.delivered), deaths, fates, outages, w.hub.Requests.Count("", ""))
}

func refsOf(r *hubtest.Repo) map[string]string {
	refs := map[string]string{}
	for _, ref := range r.Refs() {
		refs[ref.Name] = ref.Commit
	}
	return refs
}
